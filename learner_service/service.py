"""The LearnerService of the contract: checks a request, calls the part that answers it, translates.

The table at the end turns every error of the Learner into a Status.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

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
from learner_service.backfill.calls import BackfillNotFoundError, Backfills, TooManyBackfillsError
from learner_service.change_feed import ChangeFeed, WatchOptions
from learner_service.errors import (
    BlockNotFoundError,
    EmbedderMismatchError,
    ReembeddingError,
    StoreFullError,
    TokenMalformedError,
)
from learner_service.forgetting import forget
from learner_service.inspection import Inspection
from learner_service.keys import BlockKey
from learner_service.learning import Learning
from learner_service.recorder import Recorder
from learner_service.store.store import Store
from learner_service.tokens import decode_page_token, state_token
from learner_service.validation import check_request_events

T = TypeVar("T")

BOOKMARK_INTERVAL_S: Final = 5.0
BOOKMARK_INTERVAL_S_RANGE: Final = (0.1, 60.0)

LEARN_WAIT_MARGIN_S: Final = 0.05
"""How long before the deadline of a call a wait ends, so that the answer still arrives."""

BACKFILL_NAMESPACES_MAX: Final = 1_000
"""Namespaces of one Backfill: they are looked through for each block that changes while it runs."""

WATCHER_CHARACTERS_MAX: Final = 100
"""Of a watcher's name; it is only shown to people."""


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
        inspection: Inspection,
        wall_us: Callable[[], int],
    ) -> None:
        self._store = store
        self._recorder = recorder
        self._learning = learning
        self._backfills = backfills
        self._feed = feed
        self._inspection = inspection
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
        return self._inspection.block(_block_key(request.id, request.namespace))

    async def list_blocks(self, request: pb.ListBlocksRequest, call: Call) -> pb.ListBlocksResponse:
        """Lists blocks, the latest change first."""
        del call
        size = page_size("page_size", request.page_size)
        check_namespaces("namespaces", request.namespaces)
        before_us = decode_page_token(request.page_token)
        return await asyncio.to_thread(self._inspection.list_blocks, request, size, before_us)

    async def list_examples(self, request: pb.ListExamplesRequest, call: Call) -> pb.ListExamplesResponse:
        """Lists examples, the latest change first."""
        del call
        size = page_size("page_size", request.page_size)
        check_namespaces("namespaces", request.namespaces)
        check_labels("labels", request.labels)
        before_revision = decode_page_token(request.page_token)
        return await asyncio.to_thread(self._inspection.list_examples, request, size, before_revision)

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
        return await asyncio.to_thread(self._inspection.status)

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
