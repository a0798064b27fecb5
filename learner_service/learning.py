"""Learning as a whole: what changed goes through the queue to the Reconciler, and callers can wait for it.

The queue is the in-memory face of the durable `pending` table. It is filled through a bounded window that
goes round the keys: what was just recorded enters directly while there is room; the rest follows as room
appears.
A crash loses nothing, because whatever waits, waits in the store.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from errata.embedding import EmbedderError
from errata.serving.logs import get_logger
from learner_service.errors import BlockNotFoundError, StoreFullError
from learner_service.keys import BlockKey
from learner_service.reconciler import Deferred, Reconciler, Result, Settled, Superseded
from learner_service.store import Store
from learner_service.transactions import WriteTransaction
from learner_service.waiting import comes_within
from learner_service.workqueue import WorkQueue

BATCH_KEYS_MAX: Final = 64
"""Blocks that are embedded and stored together; larger batches gain little and make each of them wait."""

WORKER_COUNT: Final = 4
"""While one batch is embedded another is written and a third is read; more only share the processor."""

WINDOW_KEYS: Final = 10_000
"""Keys that stand in the queue at once; the others wait on disk."""

FEED_KEYS: Final = 500
"""Rows of `pending` read at a time, so that the event loop is never held for long."""

FEED_INTERVAL_S: Final = 10.0
"""How often the window goes round even when nobody asks, for blocks whose retry time has come."""

ATTEMPTS_MAX: Final = 5
"""Attempts at a block that fails in a way nobody foresaw, before it is parked with its error."""

log = get_logger()


@dataclass(eq=False, slots=True)
class _Waiter:
    """One caller that waits for some blocks."""

    remaining: set[BlockKey]
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def settle(self, key: BlockKey) -> None:
        self.remaining.discard(key)
        if not self.remaining:
            self.done.set()


class Learning:
    """Runs on one event loop. `run` does the work; the other methods may be called before it starts."""

    def __init__(
        self,
        *,
        store: Store,
        reconciler: Reconciler,
        queue: WorkQueue[BlockKey],
        wall_us: Callable[[], int],
        window_keys: int = WINDOW_KEYS,
    ) -> None:
        self._store = store
        self._reconciler = reconciler
        self._queue = queue
        self._wall_us = wall_us
        self._window_keys = window_keys
        # True while the last round of the window did not reach the end of `pending`.
        self._more_on_disk = True
        self._feed_wanted = asyncio.Event()
        self._feed_wanted.set()
        self._waiters: dict[BlockKey, list[_Waiter]] = {}

    def notify(self, changed: AbstractSet[BlockKey]) -> None:
        """Queues blocks that changed; those for which the window has no room wait on disk."""
        room = self._window_keys - self._known_count
        for key in islice(changed, max(room, 0)):
            self._queue.add(key)
        if room < len(changed):
            self._feed_wanted.set()

    async def run(self) -> None:
        """Learns for ever; cancel it to stop. What was not finished is still pending in the store."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._feed(), name="feed the queue")
            for number in range(WORKER_COUNT):
                tasks.create_task(self._work(), name=f"reconcile {number}")

    async def reconcile_now(self, key: BlockKey) -> Settled:
        """Reconciles one block ahead of the line.

        Raises:
            BlockNotFoundError: no event names it.
            EmbedderError: the embedder cannot be reached; the block waits for its turn.
            StoreFullError: there is no room.
        """
        async with self._queue.claim(key):
            while True:
                result = (await self._reconciler.reconcile([key])).get(key)
                if result is None:
                    raise BlockNotFoundError(key)
                if isinstance(result, Deferred):
                    raise result.error
                if isinstance(result, Settled):
                    self._settled(key)
                    return result
                # The block changed under us: what is wanted is the answer for what it now is.

    async def wait_until_learned(self, keys: AbstractSet[BlockKey], timeout_s: float) -> None:
        """Returns once none of the blocks waits for its turn, or when the time is over."""
        waiter = _Waiter(set(keys))
        for key in keys:
            self._waiters.setdefault(key, []).append(waiter)
        try:
            # Registered first, looked second: what settles in between is seen either way.
            with self._store.read() as transaction:
                waiting = {
                    key for key in keys if (row := transaction.pending(key)) is not None and not row.parked
                }
            for key in keys - waiting:
                waiter.settle(key)
            if waiting:
                await comes_within(waiter.done, timeout_s)
        finally:
            for key in keys:
                self._waiters[key].remove(waiter)
                if not self._waiters[key]:
                    del self._waiters[key]

    # --- The window.

    async def _feed(self) -> None:
        after: BlockKey | None = None
        while True:
            await comes_within(self._feed_wanted, FEED_INTERVAL_S)
            self._feed_wanted.clear()
            self._more_on_disk = True
            while self._more_on_disk and self._has_room:
                after = self._feed_some(after)
                self._more_on_disk = after is not None
                await asyncio.sleep(0)

    @property
    def _known_count(self) -> int:
        # Those that wait for another attempt count too: in a long outage that is all of them.
        return len(self._queue) + self._queue.delayed_count

    @property
    def _has_room(self) -> bool:
        return self._known_count <= self._window_keys // 2

    def _feed_some(self, after: BlockKey | None) -> BlockKey | None:
        """Queues the next rows of `pending` whose time has come; returns where to go on, None at the end."""
        now_us = self._wall_us()
        with self._store.read() as transaction:
            rows = list(islice(transaction.pending_after(after), FEED_KEYS))
        for key, row in rows:
            if not row.parked and row.retry_time.ToMicroseconds() <= now_us:
                self._queue.add(key)
        return rows[-1][0] if len(rows) == FEED_KEYS else None

    # --- The workers.

    async def _work(self) -> None:
        while True:
            keys = await self._queue.get_batch(BATCH_KEYS_MAX)
            try:
                await self._reconcile(keys)
            finally:
                for key in keys:
                    self._queue.done(key)
                if self._more_on_disk and self._has_room:
                    self._feed_wanted.set()

    async def _reconcile(self, keys: Sequence[BlockKey]) -> None:
        try:
            results = await self._reconciler.reconcile(keys)
        except StoreFullError as error:
            # Nothing can be noted in a full store: the failure is counted in memory alone.
            log.warning("learning waits for room in the store", reason=str(error))
            for key in keys:
                self._queue.add_rate_limited(key)
        except Exception as error:  # noqa: BLE001 - one block must not end learning for all others
            await self._reconcile_apart(keys, error)
        else:
            await self._settle(keys, results)

    async def _reconcile_apart(self, keys: Sequence[BlockKey], error: Exception) -> None:
        """Finds the block that breaks its batch; it is tried again a few times, then parked."""
        if len(keys) > 1:
            for key in keys:
                await self._reconcile([key])
            return
        (key,) = keys
        attempt = self._queue.num_requeues(key) + 1
        log.error("a block cannot be reconciled", block_id=key.id, attempt=attempt, exc_info=error)
        if attempt < ATTEMPTS_MAX:
            self._queue.add_rate_limited(key)
            return
        await self._note(lambda transaction: _park(transaction, key, repr(error)))
        self._queue.forget(key)
        self._settled(key)

    async def _settle(self, keys: Iterable[BlockKey], results: Mapping[BlockKey, Result]) -> None:
        failures: dict[BlockKey, tuple[EmbedderError, float]] = {}
        for key in keys:
            match results.get(key):
                case Settled():
                    self._queue.forget(key)
                    self._settled(key)
                case Superseded():
                    self._queue.add(key)
                case Deferred(error):
                    failures[key] = (error, self._queue.add_rate_limited(key))
                case None:
                    self._queue.forget(key)
        if failures:
            some_error, delay_s = next(iter(failures.values()))
            log.warning(
                "the embedder failed, will retry",
                error=str(some_error),
                block_count=len(failures),
                delay_s=delay_s,
            )
            now_us = self._wall_us()
            await self._note(lambda transaction: _note_failures(transaction, failures, now_us))

    async def _note(self, mutation: Callable[[WriteTransaction], None]) -> None:
        """Stores what people should know of a failure; in a full store the log alone has it."""
        try:
            await self._store.write(mutation)
        except StoreFullError as error:
            log.warning("a failure could not be noted", reason=str(error))

    def _settled(self, key: BlockKey) -> None:
        for waiter in self._waiters.get(key, ()):
            waiter.settle(key)


def _park(transaction: WriteTransaction, key: BlockKey, error: str) -> None:
    row = transaction.pending(key)
    if row is None:
        return
    row.parked = True
    row.failed_attempt_count = ATTEMPTS_MAX
    row.last_error = error
    transaction.put_pending(key, row)


def _note_failures(
    transaction: WriteTransaction,
    failures: Mapping[BlockKey, tuple[EmbedderError, float]],
    now_us: int,
) -> None:
    """Stores what failed and when it is tried again, for people and for the next start."""
    for key, (error, delay_s) in failures.items():
        row = transaction.pending(key)
        if row is None:
            continue
        row.failed_attempt_count += 1
        row.last_error = str(error)
        row.retry_time.FromMicroseconds(now_us + int(delay_s * 1_000_000))
        transaction.put_pending(key, row)
