"""Real processes that are killed, and what must have survived."""
