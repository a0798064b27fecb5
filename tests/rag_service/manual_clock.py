"""A clock that goes on only when a test says so."""

import asyncio
from collections.abc import Callable


class ManualClock:
    """Implements `rag_service.clock.Clock`."""

    def __init__(self) -> None:
        self._now_s = 1_000.0
        self._sleep_count = 0
        self._sleepers: list[tuple[float, float, asyncio.Future[None]]] = []

    def monotonic_s(self) -> float:
        return self._now_s

    async def sleep(self, delay_s: float) -> None:
        if delay_s <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        sleeper = (self._now_s + delay_s, delay_s, woken)
        self._sleepers.append(sleeper)
        self._sleep_count += 1
        try:
            await woken
        finally:
            self._sleepers.remove(sleeper)

    def advance(self, by_s: float) -> None:
        self._now_s += by_s
        for until_s, _, woken in self._sleepers:
            if until_s <= self._now_s and not woken.done():
                woken.set_result(None)

    @property
    def sleep_count(self) -> int:
        """How often anybody has gone to sleep."""
        return self._sleep_count

    def slept_since(self, sleep_count: int) -> bool:
        """Whether anybody has gone to sleep since the count was this."""
        return self._sleep_count > sleep_count

    def sleeps_s(self) -> list[float]:
        """How long those who sleep now wanted to sleep."""
        return [delay_s for _, delay_s, _ in self._sleepers]


async def until(holds: Callable[[], object]) -> None:
    """Lets the event loop run until something holds; fails after seconds of real time."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what is waited for happens in the service and has no event
            await asyncio.sleep(0.0005)
