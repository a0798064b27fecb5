"""Generated messages of the snapshot: never edited, see `make generate`."""
