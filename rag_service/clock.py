"""The time that the service reads and waits by, as one object, so that a test can hold it still."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """A clock that never goes back, and waiting by it."""

    def monotonic_s(self) -> float:
        """Seconds since some fixed moment."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Returns when the clock has gone on by `delay_s`."""
        ...


class SystemClock:
    """The clock of the machine."""

    def monotonic_s(self) -> float:
        """Seconds since some fixed moment."""
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        """Returns when the clock has gone on by `delay_s`."""
        await asyncio.sleep(delay_s)
