"""Embeds every stored example anew after a change of embedders, while events come in and searches go on.

`start.py` has written the target into the store before this begins. Rows are gone through in the order of
their revisions; each is embedded and stored at a new revision, so that the log is again in order in the end,
and what an earlier, killed attempt has done is passed over. What is learned or forgotten meanwhile stays so:
a result is stored only if its example is still the one that was read. The last transaction makes the target
the embedder in use.

Until then no stream is served, as one would mix vectors that must not be compared. An embedder that cannot be
reached is waited for. A text that it refuses for good loses its example: the deletion is announced, and its
block shows the reason until an event or a backfill brings it back.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge

from errata.embedding import EmbedderError, EmbedderRejectedError
from errata.serving.logs import get_logger
from errata.store.v1.store_pb2 import PendingRecord
from errata.v1.learner_pb2 import ExampleUpdate
from learner_service.change_feed import EmbedderIdentity
from learner_service.derive import EXAMPLE_BYTES_MAX, example_too_large
from learner_service.errors import ReembeddingError, StoreFullError
from learner_service.keys import BlockKey
from learner_service.reconciler import DocumentEmbedder
from learner_service.store.store import Store
from learner_service.store.write_transaction import WriteTransaction
from learner_service.workqueue.backoff import ExponentialBackoff

T = TypeVar("T")

BATCH_ROWS_MAX: Final = 256
"""Examples that are embedded and stored together: one request to a server, and some 50 ms of the writer."""

SCANNED_ROWS_MAX: Final = 4_096
"""Rows of one read transaction; many of them may need nothing."""

PROGRESS_LOG_S: Final = 10.0
"""Between lines in the log."""

RETRY_DELAY_S_MIN: Final = 1.0

log = get_logger()


@dataclass(frozen=True, slots=True)
class _Row:
    """An example that has a vector of another embedder."""

    key: BlockKey
    revision: int
    text: str


@dataclass(frozen=True, slots=True)
class _Embedded:
    """What is to be done about one example."""

    row: _Row
    embedding: bytes
    failure: str = ""
    """Why there is no embedding, for people."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Some rows of the log that were looked at."""

    rows: list[_Row]
    cursor: int
    live_count: int
    """Of all that were looked at."""


class Reembedding:
    """See the module. `begin` before anything is served, then `run`."""

    def __init__(
        self,
        store: Store,
        *,
        embedder: DocumentEmbedder,
        identity: EmbedderIdentity,
        registry: CollectorRegistry,
        batch_rows_max: int = BATCH_ROWS_MAX,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Does nothing yet.

        Args:
            store: whose embedder is to become `identity`.
            embedder: makes the vectors.
            identity: of the embedder.
            registry: of the metrics.
            batch_rows_max: examples that are embedded and stored together.
            sleep: waits some seconds before something is tried again.
        """
        self._store = store
        self._embedder = embedder
        self._identity = identity
        self._batch_rows_max = batch_rows_max
        self._sleep = sleep
        self._under_way = False
        self._done_count = 0
        self._total_count = 0
        total = Gauge("errata_reembedding_examples", "Examples of a change of embedders.", registry=registry)
        total.set_function(lambda: self._total_count)
        done = Gauge("errata_reembedding_done_examples", "Of those, the ones done.", registry=registry)
        done.set_function(lambda: self._done_count)
        self._lost = Counter(
            "errata_reembedding_lost_examples", "Examples whose text the embedder refused.", registry=registry
        )

    def check(self) -> None:
        """Returns when the vectors in the store are all of one embedder.

        Raises:
            ReembeddingError: they are not, or not yet.
        """
        if self._under_way:
            raise ReembeddingError(done_count=self._done_count, total_count=self._total_count)

    def begin(self) -> None:
        """From now on and until `run` is through, `check` fails."""
        with self._store.read() as transaction:
            self._total_count = transaction.tally().count
        self._under_way = True

    async def run(self) -> None:
        """Embeds everything anew, if it has begun. Cancelled, it is taken up by the next start."""
        if not self._under_way:
            return
        with self._store.read() as transaction:
            end, before = transaction.head_revision, transaction.embedder_fingerprint
        target = self._identity.fingerprint
        log.info("every example is embedded anew", before=before, target=target, total=self._total_count)
        now_s = asyncio.get_running_loop().time
        cursor, logged_s = 0, now_s()
        # What comes above `end` has vectors of this process, and thus of the target.
        while cursor < end:
            part = await asyncio.to_thread(self._scan, cursor, end)
            embedded = await self._embed(part.rows)
            if embedded:
                lost_count = await self._write(partial(self._replace, embedded=embedded))
                self._lost.inc(lost_count)
                if lost_count:
                    log.warning("the embedder refuses texts, their examples are lost", count=lost_count)
            cursor = part.cursor
            self._done_count = min(self._done_count + part.live_count, self._total_count)
            if now_s() - logged_s >= PROGRESS_LOG_S:
                logged_s = now_s()
                log.info("embedding anew", done=self._done_count, total=self._total_count)
        await self._write(lambda transaction: transaction.set_embedder_fingerprint(target))
        self._done_count = self._total_count
        self._under_way = False
        log.info("every example has been embedded anew", total=self._total_count)

    def _scan(self, cursor: int, end: int) -> _Part:
        """Looks at the rows above a cursor, until a batch is full."""
        rows: list[_Row] = []
        live_count = 0
        with self._store.read() as transaction:
            for scanned, (revision, row) in enumerate(transaction.log_after(cursor)):
                if revision > end:
                    return _Part(rows, end, live_count)
                cursor = revision
                if row.live:
                    live_count += 1
                    example = ExampleUpdate.FromString(row.update).put
                    if example.embedder_fingerprint != self._identity.fingerprint:
                        rows.append(_Row(BlockKey.decode(row.key), revision, example.query_text))
                if len(rows) == self._batch_rows_max or scanned == SCANNED_ROWS_MAX:
                    return _Part(rows, cursor, live_count)
        return _Part(rows, end, live_count)

    async def _embed(self, rows: Sequence[_Row]) -> list[_Embedded]:
        if not rows:
            return []
        try:
            vectors = await self._patiently(lambda: self._embedder.documents([row.text for row in rows]))
        except EmbedderRejectedError as error:
            if len(rows) == 1:
                return [_Embedded(rows[0], b"", str(error))]
            # One of them is to blame: halving finds it.
            middle = len(rows) // 2
            return [*await self._embed(rows[:middle]), *await self._embed(rows[middle:])]
        return [_Embedded(row, _encoded(vector)) for row, vector in zip(rows, vectors, strict=True)]

    async def _write(self, mutation: Callable[[WriteTransaction], T]) -> T:
        return await self._patiently(lambda: self._store.write(mutation))

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Makes attempts until one succeeds, or the embedder refuses a text for good."""
        backoff: ExponentialBackoff[None] = ExponentialBackoff(delay_s_min=RETRY_DELAY_S_MIN)
        while True:
            try:
                return await attempt()
            except EmbedderRejectedError:
                raise
            except (EmbedderError, StoreFullError) as error:
                delay_s = backoff.next_delay_s(None)
                log.warning(
                    "embedding anew has to wait",
                    reason=str(error),
                    delay_s=delay_s,
                    done=self._done_count,
                    total=self._total_count,
                )
            await self._sleep(delay_s)

    def _replace(self, transaction: WriteTransaction, embedded: Sequence[_Embedded]) -> int:
        """Stores what is still wanted; returns how many examples are lost."""
        lost_count = 0
        for each in embedded:
            stored = transaction.example(each.row.key)
            if stored is None or stored.example is None or stored.revision != each.row.revision:
                # Learned anew or forgotten meanwhile.
                continue
            example, failure = stored.example, each.failure
            example.embedder_fingerprint = self._identity.fingerprint
            if not failure and example_too_large(example, self._identity.dimension):
                failure = f"the example would be larger than {EXAMPLE_BYTES_MAX:,} bytes"
            if failure:
                _give_up(transaction, each.row.key, failure)
                lost_count += 1
                continue
            example.embedding = each.embedding
            transaction.put_example(example)
        return lost_count


def _give_up(transaction: WriteTransaction, key: BlockKey, failure: str) -> None:
    transaction.delete_example(key)
    waiting = transaction.pending(key)
    if waiting is None or waiting.parked:
        # One that waits for its turn will fail or succeed by itself.
        parked = PendingRecord(parked=True, last_error=failure, failed_attempt_count=1)
        transaction.put_pending(key, parked)


def _encoded(vector: NDArray[np.float32]) -> bytes:
    return vector.astype("<f4", copy=False).tobytes()
