"""What operators ask the Learner: blocks and why they were learned from or not, examples, how it is doing.

Read-only, and bounded: a page looks at so many rows and holds so many bytes, whatever there is.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from errata import digest
from errata.v1 import learner_pb2 as pb
from errata.v1.block_pb2 import BlockLog
from errata.v1.example_pb2 import Example
from learner_service.analyzer.following import FileStatus
from learner_service.change_feed import ChangeFeed, EmbedderIdentity
from learner_service.derive import Policy
from learner_service.errors import BlockNotFoundError
from learner_service.keys import BlockKey
from learner_service.projection import block_log, block_state
from learner_service.store.read_transaction import ReadTransaction
from learner_service.store.store import Store
from learner_service.tokens import encode_page_token

T = TypeVar("T")

LISTED_ROWS_MAX: Final = 2_000
"""Rows looked at for one page: a filter that matches little gives short pages, never a slow one."""

BLOCK_BYTES_MAX: Final = 4 * 1024 * 1024
"""Size of a GetBlock answer above which outputs are left out."""

EXAMPLES_PAGE_BYTES_MAX: Final = 2 * 1024 * 1024


class LogFollower(Protocol):
    """What follows the logs, as far as GetStatus shows it."""

    def status(self) -> Sequence[FileStatus]:
        """The files being followed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What GetStatus says of the program itself."""

    version: str
    policy: Policy
    embedder: EmbedderIdentity
    started_us: int


class Inspection:
    """Answers from the store, the followed logs and the streams, as messages of the contract."""

    def __init__(
        self,
        *,
        store: Store,
        feed: ChangeFeed,
        logs: LogFollower,
        identity: Identity,
        wall_us: Callable[[], int],
    ) -> None:
        self._store = store
        self._feed = feed
        self._logs = logs
        self._identity = identity
        self._wall_us = wall_us

    def block(self, key: BlockKey) -> pb.GetBlockResponse:
        """A block, its example, and why there is none; without outputs where they would make it too large.

        Raises:
            BlockNotFoundError: nothing is known of it.
        """
        with self._store.read() as transaction:
            record = transaction.block(key)
            if record is None:
                raise BlockNotFoundError(key)
            stored = transaction.example(key)
            response = pb.GetBlockResponse(block=block_log(key, record), state=self._state(transaction, key))
        if stored is not None and stored.example is not None:
            response.example.CopyFrom(_without_embedding(stored.example))
        if response.ByteSize() > BLOCK_BYTES_MAX:
            _drop_outputs(response.block)
        if response.ByteSize() > BLOCK_BYTES_MAX:
            # What it was learned from is in the block, but for what redaction and trimming took.
            response.ClearField("example")
        return response

    def list_blocks(
        self, request: pb.ListBlocksRequest, size: int, before_us: int | None
    ) -> pb.ListBlocksResponse:
        """At most `size` of the blocks asked for, the latest change first, those before a time or all."""
        response = pb.ListBlocksResponse()
        namespaces, reasons = frozenset(request.namespaces), frozenset(request.reasons)
        with self._store.read() as transaction:
            page = _Page(transaction.blocks_before(before_us))
            for _, key in page:
                if namespaces and key.namespace not in namespaces:
                    continue
                state = self._state(transaction, key)
                if not reasons or state.reason in reasons:
                    response.blocks.append(state)
                if len(response.blocks) == size:
                    break
            response.next_page_token = page.next_token()
        return response

    def list_examples(
        self, request: pb.ListExamplesRequest, size: int, before_revision: int | None
    ) -> pb.ListExamplesResponse:
        """At most `size` of the examples asked for, the latest first, those below a revision or all."""
        response = pb.ListExamplesResponse()
        namespaces = frozenset(name.encode() for name in request.namespaces)
        page_bytes = 0
        with self._store.read() as transaction:
            page = _Page(transaction.log_before(before_revision))
            for _, row in page:
                if not row.live or (namespaces and row.namespace not in namespaces):
                    continue
                example = _without_embedding(pb.ExampleUpdate.FromString(row.update).put)
                if not _has_labels(example.labels, request.labels):
                    continue
                if response.examples and page_bytes + example.ByteSize() > EXAMPLES_PAGE_BYTES_MAX:
                    page.put_back()
                    break
                response.examples.append(example)
                page_bytes += example.ByteSize()
                if len(response.examples) == size:
                    break
            response.next_page_token = page.next_token()
        return response

    def status(self) -> pb.GetStatusResponse:
        """The store, the queue, the followed logs and the streams."""
        with self._store.read() as transaction:
            waiting = transaction.queue_summary()
            tally = transaction.tally()
            response = pb.GetStatusResponse(
                version=self._identity.version,
                store_id=transaction.store_id,
                head_revision=transaction.head_revision,
                block_count=transaction.block_count,
                example_count=tally.count,
                queued_block_count=waiting.queued_block_count,
                failed_block_count=waiting.parked_block_count,
                embedder_fingerprint=transaction.embedder_fingerprint,
                digest=digest.encode(tally.digest),
                compact_revision=transaction.compact_revision,
                policy=self._identity.policy.value,
                store_bytes_max=self._store.bytes_max,
            )
        for file in self._logs.status():
            response.log_files.add(
                path=file.path,
                offset_bytes=file.offset_bytes,
                size_bytes=file.size_bytes,
                malformed_line_count=file.malformed_line_count,
            )
        response.store_bytes = self._store.size_bytes
        if waiting.oldest_enqueued_us is not None:
            age_us = max(0, self._wall_us() - waiting.oldest_enqueued_us)
            response.oldest_queued_age.CopyFrom(_duration(age_us))
        response.start_time.CopyFrom(_timestamp(self._identity.started_us))
        for lag in self._feed.lags():
            response.watchers.add(watcher=lag.watcher, lag_revision_count=lag.revision_count)
        return response

    # --- Below.

    def _state(self, transaction: ReadTransaction, key: BlockKey) -> pb.BlockState:
        record = transaction.block(key)
        if record is None:
            raise BlockNotFoundError(key)
        return block_state(
            key,
            record,
            transaction.pending(key),
            learned=transaction.is_learned(key),
            policy=self._identity.policy,
            fingerprint=self._identity.embedder.fingerprint,
            dimension=self._identity.embedder.dimension,
        )


class _Page(Iterator[tuple[int, T]]):
    """Rows by descending number, at most `LISTED_ROWS_MAX`, that knows where the next page begins."""

    def __init__(self, rows: Iterator[tuple[int, T]]) -> None:
        self._rows = rows
        self._bounded = islice(rows, LISTED_ROWS_MAX)
        self._last: int | None = None
        self._before_last: int | None = None
        self._returned = False

    def __next__(self) -> tuple[int, T]:
        number, row = next(self._bounded)
        self._before_last, self._last = self._last, number
        return number, row

    def put_back(self) -> None:
        """Leaves the last row to the next page. It is not the first of this one."""
        self._last = self._before_last
        self._returned = True

    def next_token(self) -> str:
        """Asks for what follows the rows taken; empty when nothing does."""
        more = self._returned or next(self._rows, None) is not None
        return encode_page_token(self._last) if more and self._last is not None else ""


def _without_embedding(example: Example) -> Example:
    example.ClearField("embedding")
    return example


def _has_labels(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in wanted.items())


def _drop_outputs(block: BlockLog) -> None:
    shown: Collection[str] = ("generated_block", "executed_block", "succeeded_block")
    for field in shown:
        if block.HasField(field):  # type: ignore[arg-type]  # the stubs want a literal
            getattr(block, field).ClearField("outputs")
    for blocks in (block.doc.blocks, block.taught.query.blocks, block.taught.answer):
        for each in blocks:
            each.ClearField("outputs")


def _timestamp(time_us: int) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromMicroseconds(time_us)
    return timestamp


def _duration(length_us: int) -> Duration:
    duration = Duration()
    duration.FromMicroseconds(length_us)
    return duration
