"""Times for events: about now, and each later than the one before."""

import time
from collections.abc import Callable


def increasing_clock_us(wall_us: Callable[[], int] | None = None) -> Callable[[], int]:
    """A clock in microseconds since 1970 that never gives the same time twice and never goes back.

    Args:
        wall_us: the clock underneath; that of the machine when None.
    """
    last_us = 0

    def now_us() -> int:
        nonlocal last_us
        wall = time.time_ns() // 1000 if wall_us is None else wall_us()
        last_us = max(wall, last_us + 1)
        return last_us

    return now_us
