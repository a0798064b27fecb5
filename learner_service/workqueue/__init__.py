"""Keys that wait for work: each with one worker at a time, live ones before a backfill's."""
