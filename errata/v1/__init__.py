"""Generated stubs of the wire: never edited, see `make generate`."""
