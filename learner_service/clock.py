"""Time as the waiting parts of the Learner see it: it only goes forward, and it can be awaited.

Dates are another matter: they come from the store's clock. Nothing here survives a restart.
"""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock; tests pass one that they turn by hand."""

    def now(self) -> float:
        """Seconds since some fixed moment. Never goes back; may be read from any thread."""
        ...

    async def sleep_until(self, time_s: float) -> None:
        """Returns once `now()` is at least `time_s`; at once when it already is."""
        ...


class MonotonicClock:
    """The machine's monotonic clock."""

    def now(self) -> float:
        """Seconds since some fixed moment."""
        return time.monotonic()

    async def sleep_until(self, time_s: float) -> None:
        """Returns once `now()` is at least `time_s`."""
        # A loop, because asyncio may wake a sleeper early, by up to the resolution of its clock.
        while (remaining_s := time_s - self.now()) > 0:  # noqa: ASYNC110  time is all that is waited for
            await asyncio.sleep(remaining_s)
