"""A queue of keys that hands each key to one worker at a time.

Stingy: a key added twice before it is taken is handed out once.
Exclusive: a key is with one worker at most; added meanwhile, it is queued again when that worker is done.
Fair: keys leave in the order in which they came, live ones before backfill (see `lanes`).
Patient: a key may be added after a while, also after one that grows with each failure (see `backoff`).
Complete: nothing added is dropped before it was handed out, however workers are cancelled. Only shutting down
drops keys: those that were added later, and those that still waited for their time.

The semantics are those of client-go's workqueue, and so are the names. New are the lanes, `get_batch`, and
`claim`. A worker's life:

    while True:                                  # until QueueShutDownError
        key = await queue.get()
        try:
            ...                                  # bring what is there in line with what should be
            queue.forget(key)                    # it went well, or it is given up
        except TransientError:
            queue.add_rate_limited(key)
        finally:
            queue.done(key)

Invariants, with Q the queued keys, D the dirty ones (to be worked on) and P those being processed:

    Q ⊆ D        Q ∩ P = ∅        D ⊆ Q ∪ P        claimed ⊆ P

So D = Q ∪ (D ∩ P): whatever needs work either stands in the line, or will when its worker is done.

Everything is called on one event loop, and what is not a coroutine is one step of it: there are no locks.
Each operation takes constant time, amortised; putting off a key, the logarithm of how many wait.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from learner_service.clock import Clock
from learner_service.workqueue.backoff import ExponentialBackoff
from learner_service.workqueue.delayed_keys import DelayedKeys
from learner_service.workqueue.lanes import Lane, Lanes
from learner_service.workqueue.metrics import OneQueueMetrics, QueueMetrics
from learner_service.workqueue.waiting_line import WaitingLine

K = TypeVar("K", bound=Hashable)


class QueueShutDownError(Exception):
    """Tells a worker to end: the queue hands out nothing more. No client sees it: it is no LearnerError."""


class NotProcessingError(Exception):
    """`done` was called for a key that no worker has. A bug of the caller."""

    def __init__(self, key: object) -> None:
        super().__init__(f"done, but not being processed: {key!r}")
        self.key = key


class WorkQueue(Generic[K]):
    """See the module for what it promises.

    Args:
        name: value of the label `name` of its metrics.
        clock: time for delays and metrics.
        backoff: counts failures and says how long to wait after each.
        metrics: of the registry that it reports to.
    """

    def __init__(
        self, *, name: str, clock: Clock, backoff: ExponentialBackoff[K], metrics: QueueMetrics
    ) -> None:
        self._backoff = backoff
        self._metrics: OneQueueMetrics[K] = OneQueueMetrics(metrics, name=name, now=clock.now)
        # Q of the module's formulas, in the order in which keys will leave.
        self._queued: Lanes[K] = Lanes()
        # D: each key with the lane in which it waits, or will wait when its worker is done.
        self._dirty: dict[K, Lane] = {}
        # P: each key with the lane that it was taken from.
        self._processing: dict[K, Lane] = {}
        self._getters = WaitingLine()
        # Who wants which key ahead of the line. A line goes when its key leaves P.
        self._claims: dict[K, WaitingLine] = {}
        self._delayed: DelayedKeys[K] = DelayedKeys(clock=clock, add=self.add)
        self._shutting_down = False
        self._draining = False
        # Set when nobody needs to wait for the drain any longer.
        self._drain_over = asyncio.Event()

    def __len__(self) -> int:
        """Keys that wait for a worker. It may have changed before you act upon it."""
        return len(self._queued)

    @property
    def is_idle(self) -> bool:
        """Nothing is queued and nobody works. Keys that wait for their time do not count."""
        return not self._dirty and not self._processing

    @property
    def delayed_count(self) -> int:
        """Keys that wait for their time."""
        return len(self._delayed)

    @property
    def shutting_down(self) -> bool:
        """True once it was shut down, in either way."""
        return self._shutting_down

    def lane_of(self, key: K) -> Lane | None:
        """The lane that a key was taken from which somebody works on; None when nobody does."""
        return self._processing.get(key)

    def add(self, key: K, lane: Lane = Lane.LIVE) -> None:
        """Says that the key needs work. Does nothing when it is known to, or when the queue is shutting down.

        A key that waits in the backfill lane and is added as live moves to the end of the live one. One that
        waits for its time is queued now, and once more at that time.
        """
        if self._shutting_down:
            return
        known = self._dirty.get(key)
        if known is None:
            self._metrics.added(key)
        elif known <= lane:
            return
        self._dirty[key] = lane
        if key not in self._processing:
            self._queued.put(key, lane)
            self._getters.call_next()

    def add_after(self, key: K, delay_s: float, lane: Lane = Lane.LIVE) -> None:
        """Adds the key once `delay_s` seconds have passed, or now if that is not positive.

        A key that waits already is added once: at the earlier time, in the better lane.
        """
        if math.isnan(delay_s):
            raise ValueError("delay_s is not a number")
        if self._shutting_down:
            return
        self._metrics.retried()
        if delay_s <= 0:
            self.add(key, lane)
            return
        self._delayed.put(key, delay_s, lane)

    def add_rate_limited(self, key: K, lane: Lane | None = None) -> float:
        """Counts a failure of the key, and adds it after the wait that its failures call for.

        Args:
            key: what failed.
            lane: None for the lane it was taken from, so that failing backfill does not become live work; the
                live one for a key that is not being processed.

        Returns:
            The wait in seconds.
        """
        if lane is None:
            lane = self._processing.get(key, Lane.LIVE)
        delay_s = self._backoff.next_delay_s(key)
        self.add_after(key, delay_s, lane)
        return delay_s

    def forget(self, key: K) -> None:
        """Ends the count of the key's failures. Neither queues the key nor takes it from where it waits."""
        self._backoff.forget(key)

    def num_requeues(self, key: K) -> int:
        """How often the key was rate limited since it was last forgotten."""
        return self._backoff.failure_count(key)

    async def get(self) -> K:
        """Waits for a key and marks it as processing. Call `done` when finished with it, whatever happened.

        A `get` that is cancelled has taken nothing.

        Raises:
            QueueShutDownError: shutting down, and no key can come any more. During a drain it waits for keys
                that were added again and are still with a worker: finish what you hold, then ask for more.
        """
        (key,) = await self.get_batch(1)
        return key

    async def get_batch(self, max_items: int) -> list[K]:
        """Waits for a key, then takes what is there, at most `max_items`, in the order of single calls.

        Each of the keys needs a `done` of its own. A call that is cancelled has taken nothing.

        Raises:
            QueueShutDownError: as `get`.
        """
        if max_items < 1:
            raise ValueError(f"max_items must be at least 1, got {max_items}")
        while not self._queued:
            if self._has_ended():
                raise QueueShutDownError
            await self._getters.wait(pass_on=self._call_getter)
        # From here to the return nothing can be cancelled.
        keys = [self._take() for _ in range(min(max_items, len(self._queued)))]
        self._tell_the_end()
        return keys

    def done(self, key: K) -> None:
        """Ends the processing of the key. One that was added meanwhile is queued again.

        Raises:
            NotProcessingError: nobody has it.
        """
        if key not in self._processing:
            raise NotProcessingError(key)
        self._metrics.finished(key)
        self._release(key)

    @asynccontextmanager
    async def claim(self, key: K) -> AsyncIterator[None]:
        """Works on one key now, ahead of the line: waits until nobody has it, then has it for the block.

        What was queued of the key is done by this, and leaves the queue. What is added within the block is
        queued at its end. Several claims of a key are served in order, before any worker gets it; one within
        another of the same key waits for ever. A claim that is cancelled leaves everything as it was.

        Shutting down refuses no claims: whoever takes requests refuses those. A drain waits for them too.
        """
        if key in self._processing:
            line = self._claims.setdefault(key, WaitingLine())
            # Who calls leaves the key in P for us: neither a worker nor another claim can get between.
            await line.wait(pass_on=lambda: self._release(key))
        self._processing[key] = Lane.LIVE
        # Now, not when called: what was added before this moment, this claim will see.
        if self._dirty.pop(key, None) is not None:
            self._queued.remove(key)
            self._metrics.removed(key)
        self._metrics.started(key)
        self._tell_the_end()
        try:
            yield
        finally:
            self.done(key)

    def shut_down(self) -> None:
        """Ignores what is added from now on, and ends the workers once nothing is queued.

        Waits for nobody. Ends a drain that is under way, and drops the keys that wait for their time.
        """
        self._draining = False
        self._stop_adding()
        self._drain_over.set()

    async def shut_down_with_drain(self) -> None:
        """Ignores what is added from now on, and returns when all that is queued or running is done.

        That needs workers that take the keys and call `done` for each; `shut_down` makes it return earlier.
        Keys that wait for their time are dropped. When this is cancelled, the drain goes on by itself.
        """
        self._draining = True
        self._drain_over.clear()
        self._stop_adding()
        await self._drain_over.wait()

    def broken_invariants(self) -> list[str]:
        """The formulas that do not hold; none in a queue that works. Takes linear time: for tests."""
        dirty, processing = self._dirty.keys(), self._processing.keys()
        queued = {key for key in dirty | processing if key in self._queued}
        lanes_agree = all(self._queued.lane_of(key) is self._dirty.get(key) for key in queued)
        somebody_comes = not self._getters or self._getters.on_the_way_count > 0
        formulas = {
            "Q ⊆ D": queued <= dirty and len(queued) == len(self._queued),
            "Q ∩ P = ∅": not queued & processing,
            "D ⊆ Q ∪ P": dirty <= queued | processing,
            "claimed ⊆ P": self._claims.keys() <= processing,
            "∀ k ∈ Q: lane of k in Q = lane of k in D": lanes_agree,
            "Q ≠ ∅ ⇒ no getter sleeps, or one is on its way": not queued or somebody_comes,
            "delayed ≠ ∅ ⇒ the timer runs": not self._delayed or self._delayed.timer_runs,
        }
        return [formula for formula, holds in formulas.items() if not holds]

    def _take(self) -> K:
        key, lane = self._queued.take()
        del self._dirty[key]
        self._processing[key] = lane
        self._metrics.removed(key)
        self._metrics.started(key)
        return key

    def _release(self, key: K) -> None:
        """Passes the key, which nobody works on any more, to the next claim, to the line, or to nobody."""
        line = self._claims.get(key)
        if line is not None:
            if line.call_next():
                return
            del self._claims[key]
        del self._processing[key]
        lane = self._dirty.get(key)
        if lane is not None:
            self._queued.put(key, lane)
            self._getters.call_next()
        self._tell_the_end()

    def _call_getter(self) -> None:
        if self._queued:
            self._getters.call_next()

    def _has_ended(self) -> bool:
        """Whether workers are to end, given that nothing is queued."""
        # A dirty key that is not queued is with somebody, perhaps a claim: a worker must be there afterwards.
        return self._shutting_down and not (self._draining and self._dirty)

    def _tell_the_end(self) -> None:
        """Wakes those who wait for the end, if it has come. Called wherever D or P has become smaller."""
        if not self._queued and self._has_ended():
            self._getters.call_all()
        if self._shutting_down and self.is_idle:
            self._drain_over.set()

    def _stop_adding(self) -> None:
        self._shutting_down = True
        self._delayed.stop()
        self._tell_the_end()
