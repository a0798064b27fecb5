"""A copy of the index on local disk, proven by a bookmark: written in the background, resumed from."""
