"""The command `errata`, for people."""
