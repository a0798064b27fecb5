"""What the two services of Errata and their clients share."""
