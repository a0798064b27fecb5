"""What `errata doctor` looks at: the facts, gathered first, and the checks, which judge them."""
