"""The LearnerService of the contract: checks a request, calls the part that answers it, translates.

The table at the end turns every error of the Learner into a Status.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from errata import digest
from errata.embedding import EmbedderError, EmbedderRejectedError
from errata.serving.fields import (
    check_backfill_id,
    check_block_id,
    check_labels,
    check_namespace,
    check_namespaces,
    duration_s,
    page_size,
    timestamp_us,
)
from errata.serving.server import Call
from errata.serving.statuses import StatusRule, StatusTable
from errata.v1 import learner_pb2 as pb
from errata.v1.block_pb2 import BlockLog
from errata.v1.example_pb2 import Example
from learner_service.analyzer.following import FileStatus
from learner_service.backfill.calls import BackfillNotFoundError, Backfills, TooManyBackfillsError
from learner_service.change_feed import ChangeFeed, EmbedderIdentity, WatchOptions
from learner_service.derive import Policy
from learner_service.errors import (
    BlockNotFoundError,
    EmbedderMismatchError,
    ReembeddingError,
    StoreFullError,
    TokenMalformedError,
)
from learner_service.forgetting import forget
from learner_service.keys import BlockKey
from learner_service.learning import Learning
from learner_service.projection import block_log, block_state
from learner_service.recorder import Recorder
from learner_service.store.read_transaction import ReadTransaction
from learner_service.store.store import Store
from learner_service.tokens import decode_page_token, encode_page_token, state_token
from learner_service.validation import check_request_events

T = TypeVar("T")

BOOKMARK_INTERVAL_S: Final = 5.0
BOOKMARK_INTERVAL_S_RANGE: Final = (0.1, 60.0)

LEARN_WAIT_MARGIN_S: Final = 0.05
"""How long before the deadline of a call a wait ends, so that the answer still arrives."""

LISTED_ROWS_MAX: Final = 2_000
"""Rows looked at for one page: a filter that matches little gives short pages, never a slow one."""

BLOCK_BYTES_MAX: Final = 4 * 1024 * 1024
"""Size of a GetBlock answer above which outputs are left out."""

BACKFILL_NAMESPACES_MAX: Final = 1_000
"""Namespaces of one Backfill: they are looked through for each block that changes while it runs."""

EXAMPLES_PAGE_BYTES_MAX: Final = 2 * 1024 * 1024

WATCHER_CHARACTERS_MAX: Final = 100
"""Of a watcher's name; it is only shown to people."""


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


class LearnerServicer:
    """One method an RPC; see learner.proto for what each promises."""

    def __init__(
        self,
        *,
        store: Store,
        recorder: Recorder,
        learning: Learning,
        backfills: Backfills,
        feed: ChangeFeed,
        logs: LogFollower,
        identity: Identity,
        wall_us: Callable[[], int],
    ) -> None:
        self._store = store
        self._recorder = recorder
        self._learning = learning
        self._backfills = backfills
        self._feed = feed
        self._logs = logs
        self._identity = identity
        self._wall_us = wall_us

    async def record_events(self, request: pb.RecordEventsRequest, call: Call) -> pb.RecordEventsResponse:
        """Records events and waits, if asked, until they are learned from."""
        wait_s = _optional_duration_s(request, "learn_wait", 0)
        check_request_events(request.events, self._wall_us())
        keys = {BlockKey(event.namespace, event.block_id) for event in request.events}
        changed = await self._recorder.record(request.events)
        if wait_s:
            await self._learning.wait_until_learned(keys, _within_deadline(wait_s, call))
        return self._recorded(keys, len(changed))

    async def reconcile(self, request: pb.ReconcileRequest, call: Call) -> pb.ReconcileResponse:
        """Learns from one block now."""
        del call
        settled = await self._learning.reconcile_now(_block_key(request.id, request.namespace))
        token = b""
        if settled.revision is not None:
            with self._store.read() as transaction:
                token = state_token(transaction, settled.revision)
        return pb.ReconcileResponse(outcome=settled.outcome, reason=settled.reason, token=token)

    async def backfill(self, request: pb.BackfillRequest, call: Call) -> pb.BackfillResponse:
        """Begins to learn again from what changed."""
        del call
        if request.HasField("start_time"):
            timestamp_us("start_time", request.start_time)
        check_namespaces("namespaces", request.namespaces, BACKFILL_NAMESPACES_MAX)
        if request.backfill_id:
            check_backfill_id("backfill_id", request.backfill_id)
        backfill_id, matched_count = await self._backfills.begin(request)
        return pb.BackfillResponse(backfill_id=backfill_id, matched_block_count=matched_count)

    async def get_backfill(self, request: pb.GetBackfillRequest, call: Call) -> pb.GetBackfillResponse:
        """Says how far a backfill has come."""
        del call
        check_backfill_id("backfill_id", request.backfill_id)
        return await self._backfills.progress(request.backfill_id)

    def watch_updates(self, request: pb.WatchUpdatesRequest, call: Call) -> AsyncIterator[bytes]:
        """Streams changes."""
        check_namespaces("namespaces", request.namespaces)
        interval = request.bookmark_interval if request.HasField("bookmark_interval") else None
        options = WatchOptions(
            watcher=request.watcher[:WATCHER_CHARACTERS_MAX] or call.peer,
            resume_token=request.resume_token,
            embedder_fingerprint=request.embedder_fingerprint,
            namespaces=frozenset(request.namespaces),
            bookmark_interval_s=duration_s(
                "bookmark_interval", interval, BOOKMARK_INTERVAL_S, clamp_s=BOOKMARK_INTERVAL_S_RANGE
            ),
        )
        return self._feed.watch(options)

    async def get_block(self, request: pb.GetBlockRequest, call: Call) -> pb.GetBlockResponse:
        """Returns a block, its example, and why there is none."""
        del call
        key = _block_key(request.id, request.namespace)
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

    async def list_blocks(self, request: pb.ListBlocksRequest, call: Call) -> pb.ListBlocksResponse:
        """Lists blocks, the latest change first."""
        del call
        size = page_size("page_size", request.page_size)
        check_namespaces("namespaces", request.namespaces)
        before_us = decode_page_token(request.page_token)
        return await asyncio.to_thread(self._list_blocks, request, size, before_us)

    async def list_examples(self, request: pb.ListExamplesRequest, call: Call) -> pb.ListExamplesResponse:
        """Lists examples, the latest change first."""
        del call
        size = page_size("page_size", request.page_size)
        check_namespaces("namespaces", request.namespaces)
        check_labels("labels", request.labels)
        before_revision = decode_page_token(request.page_token)
        return await asyncio.to_thread(self._list_examples, request, size, before_revision)

    async def forget_example(self, request: pb.ForgetExampleRequest, call: Call) -> pb.ForgetExampleResponse:
        """Deletes an example and erases its block, for good."""
        del call
        key = _block_key(request.id, request.namespace)
        revision = await self._store.write(lambda transaction: forget(transaction, key))
        token = b""
        if revision is not None:
            with self._store.read() as transaction:
                token = state_token(transaction, revision)
        return pb.ForgetExampleResponse(token=token)

    async def get_status(self, request: pb.GetStatusRequest, call: Call) -> pb.GetStatusResponse:
        """Describes the store, the queue and the watchers."""
        del request, call
        return await asyncio.to_thread(self._status)

    # --- Below: reads of the store, in its own terms.

    def _recorded(self, keys: Iterable[BlockKey], changed_count: int) -> pb.RecordEventsResponse:
        pending_count, newest = 0, 0
        with self._store.read() as transaction:
            for key in keys:
                row = transaction.pending(key)
                pending_count += row is not None and not row.parked
                newest = max(newest, transaction.example_revision(key) or 0)
            token = state_token(transaction, newest) if newest and not pending_count else b""
        return pb.RecordEventsResponse(
            changed_block_count=changed_count, pending_block_count=pending_count, token=token
        )

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

    def _list_blocks(
        self, request: pb.ListBlocksRequest, size: int, before_us: int | None
    ) -> pb.ListBlocksResponse:
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

    def _list_examples(
        self, request: pb.ListExamplesRequest, size: int, before_revision: int | None
    ) -> pb.ListExamplesResponse:
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

    def _status(self) -> pb.GetStatusResponse:
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


def _block_key(block_id: str, namespace: str) -> BlockKey:
    check_block_id("id", block_id)
    check_namespace("namespace", namespace)
    return BlockKey(namespace, block_id)


def _optional_duration_s(request: Message, field: str, default_s: float) -> float:
    value: Duration | None = getattr(request, field) if request.HasField(field) else None
    return duration_s(field, value, default_s)


def _within_deadline(wait_s: float, call: Call) -> float:
    remaining_s = call.time_remaining_s
    if remaining_s is None:
        return wait_s
    return max(0.0, min(wait_s, remaining_s - LEARN_WAIT_MARGIN_S))


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


STATUSES: Final[StatusTable] = {
    BlockNotFoundError: StatusRule(
        grpc.StatusCode.NOT_FOUND,
        pb.ERROR_REASON_BLOCK_NOT_FOUND,
        lambda error: {"block_id": error.key.id},
    ),
    BackfillNotFoundError: StatusRule(
        grpc.StatusCode.NOT_FOUND,
        pb.ERROR_REASON_BACKFILL_NOT_FOUND,
        lambda error: {"backfill_id": error.backfill_id},
    ),
    TooManyBackfillsError: StatusRule(grpc.StatusCode.RESOURCE_EXHAUSTED, pb.ERROR_REASON_RATE_LIMITED),
    TokenMalformedError: StatusRule(grpc.StatusCode.INVALID_ARGUMENT, pb.ERROR_REASON_TOKEN_MALFORMED),
    EmbedderMismatchError: StatusRule(
        grpc.StatusCode.FAILED_PRECONDITION,
        pb.ERROR_REASON_EMBEDDER_MISMATCH,
        lambda error: {"want": error.want, "got": error.got},
    ),
    ReembeddingError: StatusRule(
        grpc.StatusCode.UNAVAILABLE,
        pb.ERROR_REASON_REEMBEDDING,
        lambda error: {"done": str(error.done_count), "total": str(error.total_count)},
    ),
    StoreFullError: StatusRule(grpc.StatusCode.RESOURCE_EXHAUSTED, pb.ERROR_REASON_STORE_FULL),
    EmbedderRejectedError: StatusRule(grpc.StatusCode.INVALID_ARGUMENT, pb.ERROR_REASON_EMBEDDER_REJECTED),
    EmbedderError: StatusRule(grpc.StatusCode.UNAVAILABLE, pb.ERROR_REASON_EMBEDDER_UNAVAILABLE),
}
"""What each error of the Learner is on the wire. Any other is a bug, and INTERNAL."""
