"""Both services as real processes, over the wire alone."""
