"""A clock that only the test turns."""

import asyncio
import heapq
import itertools


class ManualClock:
    """Keeps the promises of `learner_service.clock.Clock`; its time goes forward when `advance` is called."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self._now_s = now_s
        self._numbers = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        """Seconds since some fixed moment."""
        return self._now_s

    async def sleep_until(self, time_s: float) -> None:
        """Returns once `now()` is at least `time_s`."""
        while time_s > self._now_s:
            awake = asyncio.get_running_loop().create_future()
            heapq.heappush(self._sleepers, (time_s, next(self._numbers), awake))
            await awake

    async def advance(self, seconds: float) -> None:
        """Turns the clock on, and returns when each task that this woke has had its turn.

        A task that was about to fall asleep until a time that has now come has had its turn too.
        """
        self._now_s += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now_s:
            _, _, awake = heapq.heappop(self._sleepers)
            if not awake.done():
                awake.set_result(None)
        # The event loop runs what is ready in order, so this comes back after all that was woken.
        await asyncio.sleep(0)
