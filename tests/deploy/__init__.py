"""What deploy/ says, checked without a container; tests/images runs it."""
