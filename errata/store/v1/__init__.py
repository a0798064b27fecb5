"""Generated messages of the disk and of stream tokens: never edited, see `make generate`."""
