"""The work queue under long random histories, beside a model that is too simple to be wrong."""

import asyncio
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from learner_service.workqueue.backoff import ExponentialBackoff
from learner_service.workqueue.lanes import LIVE_KEYS_IN_A_ROW_MAX, Lane
from learner_service.workqueue.metrics import QueueMetrics
from learner_service.workqueue.queue import QueueShutDownError, WorkQueue
from tests.learner_service.manual_clock import ManualClock

KEY_COUNT = 24
OPERATION_COUNT = 100_000


def new_queue(clock: ManualClock) -> WorkQueue[int]:
    backoff = ExponentialBackoff[int](delay_s_min=1.0, delay_s_max=10.0)
    return WorkQueue(name="test", clock=clock, backoff=backoff, metrics=QueueMetrics(CollectorRegistry()))


class Model:
    """What a work queue is, in plain lists."""

    def __init__(self) -> None:
        self.lines: dict[Lane, list[int]] = {Lane.LIVE: [], Lane.BACKFILL: []}
        self.again: dict[int, Lane] = {}
        self.processing: list[int] = []
        self.delayed: list[tuple[int, int, Lane]] = []
        self.live_in_a_row = 0

    @property
    def queued(self) -> list[int]:
        return self.lines[Lane.LIVE] + self.lines[Lane.BACKFILL]

    def add(self, key: int, lane: Lane) -> None:
        if key in self.processing:
            self.again[key] = min(lane, self.again.get(key, lane))
        elif key not in self.queued:
            self.lines[lane].append(key)
        elif lane is Lane.LIVE and key in self.lines[Lane.BACKFILL]:
            self.lines[Lane.BACKFILL].remove(key)
            self.lines[Lane.LIVE].append(key)

    def add_after(self, key: int, time_s: int, lane: Lane) -> None:
        for index, (known_s, known_key, known_lane) in enumerate(self.delayed):
            if known_key == key:
                better = min(lane, known_lane)
                if known_s <= time_s:
                    self.delayed[index] = (known_s, key, better)
                    return
                lane = better
                del self.delayed[index]
                break
        self.delayed.append((time_s, key, lane))

    def advance(self, now_s: int) -> None:
        # Sorting is stable: those of equal times stay in the order in which they came.
        due = sorted((wait for wait in self.delayed if wait[0] <= now_s), key=lambda wait: wait[0])
        self.delayed = [wait for wait in self.delayed if wait[0] > now_s]
        for _, key, lane in due:
            self.add(key, lane)

    def get(self) -> int:
        live, backfill = self.lines[Lane.LIVE], self.lines[Lane.BACKFILL]
        if not backfill:
            self.live_in_a_row = 0
        if live and self.live_in_a_row < LIVE_KEYS_IN_A_ROW_MAX:
            self.live_in_a_row += bool(backfill)
            key = live.pop(0)
        else:
            self.live_in_a_row = 0
            key = backfill.pop(0)
        self.processing.append(key)
        return key

    def claim(self, key: int) -> None:
        for line in self.lines.values():
            if key in line:
                line.remove(key)
        self.processing.append(key)

    def done(self, key: int) -> None:
        self.processing.remove(key)
        if key in self.again:
            self.lines[self.again.pop(key)].append(key)


def numbers(seed: int, *, below: int) -> Iterator[int]:
    """Random numbers without end, the same ones for the same seed."""
    generator = np.random.default_rng(seed)
    while True:
        yield from generator.integers(below, size=10_000).tolist()


async def test_any_history_gives_what_the_model_gives() -> None:
    clock = ManualClock(0.0)
    queue, model = new_queue(clock), Model()
    rolls, keys = numbers(1, below=100), numbers(2, below=KEY_COUNT)
    now_s = 0
    claims = {}
    counts: Counter[str] = Counter()
    for _ in range(OPERATION_COUNT):
        roll, key = next(rolls), next(keys)
        lane = Lane.LIVE if roll % 3 else Lane.BACKFILL
        if roll < 40:
            counts["add"] += 1
            queue.add(key, lane)
            model.add(key, lane)
        elif roll < 48:
            counts["add_after"] += 1
            queue.add_after(key, roll - 39, lane)
            model.add_after(key, now_s + roll - 39, lane)
        elif roll < 53:
            counts["advance"] += 1
            now_s += roll - 47
            await clock.advance(roll - 47)
            model.advance(now_s)
        elif roll < 75 and model.queued:
            counts["get"] += 1
            wanted = 1 + key % 4
            batch = await queue.get_batch(wanted)
            assert batch == [model.get() for _ in range(min(wanted, len(model.queued)))]
        elif roll < 80 and key not in model.processing:
            counts["claim"] += 1
            claims[key] = queue.claim(key)
            await claims[key].__aenter__()
            model.claim(key)
        elif model.processing:
            counts["done"] += 1
            key = model.processing[key % len(model.processing)]
            if key in claims:
                await claims.pop(key).__aexit__(None, None, None)
            else:
                queue.done(key)
            model.done(key)
        assert queue.broken_invariants() == []
        assert len(queue) == len(model.queued)
        assert queue.delayed_count == len(model.delayed)
        assert queue.is_idle is not bool(model.queued or model.processing)
    # The history did exercise everything.
    assert min(counts.values()) > OPERATION_COUNT // 50
    assert len(counts) == 6
    queue.shut_down()


class Crowd:
    """Workers and claims that come, work a little, and are cancelled at any moment."""

    def __init__(self, queue: WorkQueue[int], seed: int) -> None:
        self.queue = queue
        self.holders: Counter[int] = Counter()
        self.needs_work: set[int] = set()
        self.outcomes: Counter[str] = Counter()
        self.tasks: list[asyncio.Task[None]] = []
        self._small = numbers(seed, below=4)

    def add(self, key: int, lane: Lane) -> None:
        self.needs_work.add(key)
        self.queue.add(key, lane)

    def start(self, key: int) -> None:
        self.needs_work.discard(key)
        self.holders[key] += 1
        assert self.holders[key] == 1, "two work on one key"

    async def work(self) -> None:
        while True:
            try:
                batch = await self.queue.get_batch(1 + next(self._small))
            except QueueShutDownError:
                return
            except asyncio.CancelledError:
                self.outcomes["cancelled while waiting"] += 1
                raise
            for key in batch:
                self.start(key)
            try:
                for _ in range(next(self._small)):
                    await asyncio.sleep(0)
                self.outcomes["worked"] += 1
            finally:
                for key in batch:
                    self.holders[key] -= 1
                    self.queue.done(key)

    async def claim(self, key: int) -> None:
        async with self.queue.claim(key):
            self.start(key)
            try:
                for _ in range(next(self._small)):
                    await asyncio.sleep(0)
                self.outcomes["claimed"] += 1
            finally:
                self.holders[key] -= 1

    def cancel_one(self, number: int) -> None:
        self.tasks = [task for task in self.tasks if not task.done()]
        if self.tasks:
            self.tasks[number % len(self.tasks)].cancel()


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_no_key_is_lost_or_shared_in_a_crowd_that_is_cancelled_at_any_moment(seed: int) -> None:
    queue = new_queue(ManualClock())
    crowd = Crowd(queue, seed)
    rolls, keys = numbers(seed + 10, below=100), numbers(seed + 20, below=6)
    for _ in range(20_000):
        roll, key = next(rolls), next(keys)
        if roll < 30:
            crowd.add(key, Lane.LIVE if roll % 2 else Lane.BACKFILL)
        elif roll < 40:
            crowd.tasks.append(asyncio.create_task(crowd.work()))
        elif roll < 50:
            crowd.tasks.append(asyncio.create_task(crowd.claim(key)))
        elif roll < 65:
            crowd.cancel_one(roll * key)
        else:
            await asyncio.sleep(0)
        assert queue.broken_invariants() == []
        # What was added and nobody has started since is what the queue takes to need work.
        assert crowd.needs_work == set(queue._dirty)
    crowd.tasks.append(asyncio.create_task(crowd.work()))
    await queue.shut_down_with_drain()
    results = await asyncio.gather(*crowd.tasks, return_exceptions=True)
    assert {type(result) for result in results} <= {type(None), asyncio.CancelledError}
    assert queue.is_idle
    assert crowd.needs_work == set()
    assert crowd.holders.total() == 0
    assert min(crowd.outcomes[kind] for kind in ("worked", "claimed", "cancelled while waiting")) > 100
