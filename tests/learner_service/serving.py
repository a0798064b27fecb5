"""A LearnerServicer on a real store, called without a server."""

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from errata.serving.server import Call
from errata.v1 import learner_pb2 as pb
from errata.v1.block_pb2 import BlockEvent
from errata.v1.token_pb2 import StateToken
from learner_service.analyzer.following import FileStatus
from learner_service.backfill.calls import Backfills
from learner_service.change_feed import ChangeFeed
from learner_service.inspection import Identity, Inspection
from learner_service.service import LearnerServicer
from tests.learner_service.learning_parts import IDENTITY, Parts

STARTED_US = 1_699_999_999_000_000


@dataclass
class FakeLogs:
    """Follows whatever a test says."""

    files: list[FileStatus] = field(default_factory=list)

    def status(self) -> Sequence[FileStatus]:
        return self.files


def call(*, remaining_s: float | None = None, peer: str = "ipv4:127.0.0.1:5") -> Call:
    deadline_s = None if remaining_s is None else time.monotonic() + remaining_s
    return Call(request_id="r", method="m", deadline_s=deadline_s, peer=peer)


class Serving:
    """The servicer, with a method for each call that a test makes."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.logs = FakeLogs()
        self.feed = ChangeFeed(parts.store, IDENTITY)
        self.servicer = LearnerServicer(
            store=parts.store,
            recorder=parts.recorder,
            learning=parts.learning,
            backfills=Backfills(parts.store, lambda: None),
            feed=self.feed,
            inspection=Inspection(
                store=parts.store,
                feed=self.feed,
                wall_us=parts.clock,
                logs=self.logs,
                identity=Identity(
                    version="1.2.3", policy=parts.policy, embedder=IDENTITY, started_us=STARTED_US
                ),
            ),
            wall_us=parts.clock,
        )

    async def record(
        self, *events: BlockEvent, remaining_s: float | None = None, wait_s: float | None = None
    ) -> pb.RecordEventsResponse:
        request = pb.RecordEventsRequest(events=events)
        if wait_s is not None:
            request.learn_wait.FromMicroseconds(round(wait_s * 1_000_000))
        return await self.servicer.record_events(request, call(remaining_s=remaining_s))

    async def learn(self, events: Iterable[BlockEvent]) -> None:
        """Records events and learns from their blocks, in their order."""
        events = list(events)
        await self.record(*events)
        for each in dict.fromkeys((each.namespace, each.block_id) for each in events):
            await self.reconcile(each[1], each[0])

    async def reconcile(self, block_id: str, namespace: str = "") -> pb.ReconcileResponse:
        return await self.servicer.reconcile(pb.ReconcileRequest(id=block_id, namespace=namespace), call())

    async def block(self, block_id: str, namespace: str = "") -> pb.GetBlockResponse:
        return await self.servicer.get_block(pb.GetBlockRequest(id=block_id, namespace=namespace), call())

    async def forget(self, block_id: str, namespace: str = "") -> pb.ForgetExampleResponse:
        request = pb.ForgetExampleRequest(id=block_id, namespace=namespace)
        return await self.servicer.forget_example(request, call())

    async def status(self) -> pb.GetStatusResponse:
        return await self.servicer.get_status(pb.GetStatusRequest(), call())

    async def block_pages(self, **fields: Any) -> list[list[pb.BlockState]]:
        """Every page of a list of blocks."""
        pages = []
        request = pb.ListBlocksRequest(**fields)
        while True:
            response = await self.servicer.list_blocks(request, call())
            pages.append(list(response.blocks))
            if not response.next_page_token:
                return pages
            request.page_token = response.next_page_token

    async def example_pages(self, **fields: Any) -> list[pb.ListExamplesResponse]:
        """Every page of a list of examples."""
        pages = []
        request = pb.ListExamplesRequest(**fields)
        while True:
            pages.append(await self.servicer.list_examples(request, call()))
            if not pages[-1].next_page_token:
                return pages
            request.page_token = pages[-1].next_page_token

    def watch(self, **fields: Any) -> AsyncIterator[bytes]:
        return self.servicer.watch_updates(pb.WatchUpdatesRequest(**fields), call())

    def revision_of(self, token: bytes) -> int:
        """The revision of a token, which must be one of this store."""
        state = StateToken.FromString(token)
        with self.parts.store.read() as transaction:
            assert state.store_id == transaction.store_id
            assert state.epoch in {epoch.nonce for epoch in transaction.epochs()}
        return state.revision
