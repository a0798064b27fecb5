"""Learning as a whole: what changed goes through the queue to the Reconciler, and callers can wait for it.

The queue is the in-memory face of the durable `pending` table. It is filled through a bounded window that
goes round the keys: what was just recorded enters directly while there is room; the rest follows as room
appears.
A crash loses nothing, because whatever waits, waits in the store.

Live work never waits for what a backfill embeds: a batch is of one lane.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Protocol

from errata.embedding import EmbedderError
from errata.serving.logs import get_logger
from errata.store.v1.store_pb2 import PendingRecord
from errata.v1.learner_pb2 import NOT_LEARNED_REASON_ERROR, RECONCILE_OUTCOME_FAILED
from learner_service.backfill.rows import Reconciled
from learner_service.errors import BlockNotFoundError, StoreFullError
from learner_service.keys import BlockKey
from learner_service.reconciler import Deferred, Reconciler, Result, Settled, Superseded
from learner_service.store.store import Store
from learner_service.store.write_transaction import WriteTransaction
from learner_service.waiting import comes_within
from learner_service.workqueue.lanes import Lane
from learner_service.workqueue.queue import WorkQueue

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


class Listener(Protocol):
    """Is told how each turn of a block ended, on the event loop."""

    def settled(self, key: BlockKey, result: Settled | Superseded | None) -> None:
        """The turn is over; a block that was superseded is live work again. None: there is no such block."""

    def put_off(self, key: BlockKey) -> None:
        """The block failed in a way that may pass, and gets another turn after a while."""


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
        # True when something found no room since the last round began, which may have passed its key by.
        self._overflowed = False
        self._feed_wanted = asyncio.Event()
        self._feed_wanted.set()
        self._waiters: dict[BlockKey, list[_Waiter]] = {}
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Tells somebody of every turn from now on."""
        self._listeners.append(listener)

    def learn_again(self, keys: Iterable[BlockKey]) -> None:
        """Queues blocks of a backfill, behind all that people have just done."""
        for key in keys:
            self._queue.add(key, Lane.BACKFILL)

    def notify(self, changed: AbstractSet[BlockKey]) -> None:
        """Queues blocks that changed; those for which the window has no room wait on disk."""
        room = self._window_keys - self._known_count
        for key in islice(changed, max(room, 0)):
            self._queue.add(key)
        if room < len(changed):
            self._overflowed = True
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
                    # The claim took it out of the queue.
                    self._put_off(key)
                    raise result.error
                if isinstance(result, Settled):
                    self._queue.forget(key)
                    self._settled(key, result)
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
                if after is None:
                    self._overflowed = False
                after = self._feed_some(after)
                self._more_on_disk = after is not None or self._overflowed
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
            parts = {lane: [key for key in keys if self._queue.lane_of(key) is lane] for lane in Lane}
            try:
                for lane, part in parts.items():
                    await self._reconcile(part, lane)
                    while part:
                        self._queue.done(part.pop())
            finally:
                for key in (key for part in parts.values() for key in part):
                    self._queue.done(key)
                if self._more_on_disk and self._has_room:
                    self._feed_wanted.set()

    async def _reconcile(self, keys: Sequence[BlockKey], lane: Lane) -> None:
        if not keys:
            return
        try:
            results = await self._reconciler.reconcile(keys, lane)
        except StoreFullError as error:
            # Nothing can be noted in a full store: the failure is counted in memory alone.
            log.warning("learning waits for room in the store", reason=str(error))
            for key in keys:
                self._put_off(key)
        except Exception as error:  # noqa: BLE001 - one block must not end learning for all others
            await self._reconcile_apart(keys, lane, error)
        else:
            await self._settle(keys, results)

    async def _reconcile_apart(self, keys: Sequence[BlockKey], lane: Lane, error: Exception) -> None:
        """Finds the block that breaks its batch; it is tried again a few times, then parked."""
        if len(keys) > 1:
            for key in keys:
                await self._reconcile([key], lane)
            return
        (key,) = keys
        attempt = self._queue.num_requeues(key) + 1
        log.error("a block cannot be reconciled", block_id=key.id, attempt=attempt, exc_info=error)
        if attempt < ATTEMPTS_MAX:
            self._put_off(key)
            return
        await self._note(lambda transaction: _park(transaction, key, repr(error)))
        self._queue.forget(key)
        self._settled(key, Settled(RECONCILE_OUTCOME_FAILED, NOT_LEARNED_REASON_ERROR, None))

    async def _settle(self, keys: Iterable[BlockKey], results: Mapping[BlockKey, Result]) -> None:
        failures: dict[BlockKey, tuple[EmbedderError, float]] = {}
        for key in keys:
            match results.get(key):
                case Settled() as settled:
                    self._queue.forget(key)
                    self._settled(key, settled)
                case Superseded() as superseded:
                    self._queue.add(key)
                    self._tell(key, superseded)
                case Deferred(error):
                    failures[key] = (error, self._put_off(key))
                case None:
                    self._queue.forget(key)
                    self._tell(key, None)
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

    def _settled(self, key: BlockKey, result: Settled) -> None:
        for waiter in self._waiters.get(key, ()):
            waiter.settle(key)
        self._tell(key, result)

    def _tell(self, key: BlockKey, result: Settled | Superseded | None) -> None:
        for listener in self._listeners:
            listener.settled(key, result)

    def _put_off(self, key: BlockKey) -> float:
        """Gives a block that failed another turn after a while; returns after how many seconds."""
        delay_s = self._queue.add_rate_limited(key)
        for listener in self._listeners:
            listener.put_off(key)
        return delay_s


def _park(transaction: WriteTransaction, key: BlockKey, error: str) -> None:
    block = transaction.block(key)
    if block is None or block.forgotten:
        return
    # A block of a backfill has no row before it fails.
    row = transaction.pending(key) or PendingRecord()
    row.parked = True
    row.failed_attempt_count = ATTEMPTS_MAX
    row.last_error = error
    transaction.put_pending(key, row)
    modified_us = block.modified_time.ToMicroseconds()
    transaction.backfills.count([Reconciled(key, modified_us, changed=False, failed=True)])


def _note_failures(
    transaction: WriteTransaction,
    failures: Mapping[BlockKey, tuple[EmbedderError, float]],
    now_us: int,
) -> None:
    """Stores what failed and when it is tried again, for people and for the next start."""
    for key, (error, delay_s) in failures.items():
        row = transaction.pending(key)
        if row is None:
            # A backfill remembers its blocks itself.
            continue
        if row.parked:
            # A backfill brought it back: from here on it waits for its turn again.
            row.parked = False
            row.enqueued_time.FromMicroseconds(now_us)
        row.failed_attempt_count += 1
        row.last_error = str(error)
        row.retry_time.FromMicroseconds(now_us + int(delay_s * 1_000_000))
        transaction.put_pending(key, row)
