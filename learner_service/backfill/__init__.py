"""Learning again from what changed since a time: the calls, their durable rows, the feeding of the queue."""
