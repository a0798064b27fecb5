"""Programs for people who work on Errata; none of them is installed."""
