"""Keys that wait for their time, each with one deadline: of several, the earliest."""

import asyncio
import heapq
import math
from collections.abc import Callable, Hashable
from typing import Final, Generic, NamedTuple, TypeVar

from learner_service.clock import Clock
from learner_service.workqueue.lanes import Lane

K = TypeVar("K", bound=Hashable)

_STALE_ENTRIES_MIN: Final = 64
"""Fewer stale entries than this are not worth a rebuild of the heap."""


class _Wait(NamedTuple):
    deadline_s: float
    number: int
    lane: Lane


class DelayedKeys(Generic[K]):
    """Passes each key on when its time has come; keys of equal deadlines in the order in which they came.

    Putting a key takes O(log n), amortised. Memory is O(n): an entry that an earlier deadline has replaced
    stays in the heap for a while, but there are never more of those than of others, a few aside.

    Args:
        clock: what deadlines are measured by.
        add: gets each key that is due, with its lane.
    """

    def __init__(self, *, clock: Clock, add: Callable[[K, Lane], None]) -> None:
        self._clock = clock
        self._add = add
        # Invariant: {(w.deadline_s, w.number, k) : (k, w) ∈ waits} ⊆ heap; whatever else is there is stale.
        self._waits: dict[K, _Wait] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._next_number = 0
        # Invariant: waits ≠ ∅ ⇒ the timer runs, and wakes no later than at the earliest deadline.
        self._timer: asyncio.Task[None] | None = None
        self._timer_deadline_s = math.inf

    def __len__(self) -> int:
        return len(self._waits)

    @property
    def timer_runs(self) -> bool:
        """Whether there is a task that will pass on the next key."""
        return self._timer is not None and not self._timer.done()

    def put(self, key: K, delay_s: float, lane: Lane) -> None:
        """Makes the key wait. For one that waits already the earlier deadline counts, and the better lane."""
        deadline_s = self._clock.now() + delay_s
        known = self._waits.get(key)
        if known is not None:
            lane = min(lane, known.lane)
            if known.deadline_s <= deadline_s:
                self._waits[key] = known._replace(lane=lane)
                return
        # Unique numbers: two entries are never told apart by their keys, which may have no order.
        self._next_number += 1
        self._waits[key] = _Wait(deadline_s, self._next_number, lane)
        heapq.heappush(self._heap, (deadline_s, self._next_number, key))
        if len(self._heap) > 2 * len(self._waits) + _STALE_ENTRIES_MIN:
            self._heap = [(wait.deadline_s, wait.number, key) for key, wait in self._waits.items()]
            heapq.heapify(self._heap)
        if not self.timer_runs or deadline_s < self._timer_deadline_s:
            self._start_timer(deadline_s)

    def stop(self) -> None:
        """Drops every key."""
        self._waits.clear()
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_timer(self, deadline_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_deadline_s = deadline_s
        self._timer = asyncio.get_running_loop().create_task(self._pass_on_due(), name="delayed keys")

    async def _pass_on_due(self) -> None:
        while (deadline_s := self._next_deadline_s()) is not None:
            self._timer_deadline_s = deadline_s
            await self._clock.sleep_until(deadline_s)
            for key, lane in self._take_due(self._clock.now()):
                self._add(key, lane)
        self._timer = None

    def _next_deadline_s(self) -> float | None:
        while self._heap:
            deadline_s, number, key = self._heap[0]
            if self._is_current(key, number):
                return deadline_s
            heapq.heappop(self._heap)
        return None

    def _take_due(self, now_s: float) -> list[tuple[K, Lane]]:
        due = []
        while self._heap and self._heap[0][0] <= now_s:
            _, number, key = heapq.heappop(self._heap)
            if self._is_current(key, number):
                due.append((key, self._waits.pop(key).lane))
        return due

    def _is_current(self, key: K, number: int) -> bool:
        wait = self._waits.get(key)
        return wait is not None and wait.number == number
