"""How soon a link that is dead in one way or another is noticed: the settings of gRPC, by their effect."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from errata.v1.learner_pb2 import GetStatusRequest
from errata.v1.learner_pb2_grpc import LearnerServiceStub
from errata.v1.rag_pb2 import INDEX_STATE_LIVE, INDEX_STATE_STALE, GetIndexStatusRequest, IndexState
from errata.v1.rag_pb2_grpc import RagServiceStub
from scripts.processes import Process, start
from tests.faults.proxy import Proxy

if TYPE_CHECKING:
    from errata.v1.learner_pb2_grpc import LearnerServiceAsyncStub
    from errata.v1.rag_pb2_grpc import RagServiceAsyncStub

DEAD_PROCESS_S_MAX = 2.0
FROZEN_PROCESS_S_MAX = 20.0
BLACK_HOLE_S_MAX = 35.0
POLL_S = 0.05


@dataclass
class Pair:
    """A RAG service that follows a Learner over a proxy, and is live."""

    learner: Process
    learner_stub: "LearnerServiceAsyncStub"
    rag: Process
    rag_stub: "RagServiceAsyncStub"
    proxy: Proxy

    async def state(self) -> IndexState.ValueType:
        return (await self.rag_stub.GetIndexStatus(GetIndexStatusRequest())).state

    async def watcher_count(self) -> int:
        return len((await self.learner_stub.GetStatus(GetStatusRequest())).watchers)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as running:
        learner = await running.enter_async_context(
            start("learner_service", "--store-dir", str(tmp_path / "store"), "--embedder", "hashing")
        )
        proxy = await running.enter_async_context(Proxy(learner.address))
        rag = await running.enter_async_context(start("rag_service", "--learner", proxy.address))
        yield Pair(
            learner=learner,
            learner_stub=LearnerServiceStub(await running.enter_async_context(learner.channel())),
            rag=rag,
            rag_stub=RagServiceStub(await running.enter_async_context(rag.channel())),
            proxy=proxy,
        )


async def until(holds: Callable[[], Awaitable[bool]], seconds: float) -> float:
    """Returns after how many seconds something held; fails when it did not in time."""
    begin_s = time.monotonic()
    async with asyncio.timeout(seconds):
        while True:
            held = await holds()
            if held:
                return time.monotonic() - begin_s
            await asyncio.sleep(POLL_S)


@pytest.mark.slow
async def test_a_learner_that_died_is_called_again_within_two_seconds(pair: Pair) -> None:
    pair.proxy.accepted.clear()
    pair.learner.kill()
    async with asyncio.timeout(DEAD_PROCESS_S_MAX):
        await pair.proxy.accepted.wait()
    assert "the stream broke, calling again" in pair.rag.stderr


@pytest.mark.soak
async def test_a_frozen_learner_makes_the_index_stale_within_20_s_and_live_again_when_it_thaws(
    pair: Pair,
) -> None:
    async def is_stale() -> bool:
        return await pair.state() == INDEX_STATE_STALE

    async def is_live() -> bool:
        return await pair.state() == INDEX_STATE_LIVE

    pair.learner.freeze()
    await until(is_stale, FROZEN_PROCESS_S_MAX)
    pair.learner.thaw()
    await until(is_live, BLACK_HOLE_S_MAX)


@pytest.mark.soak
async def test_a_black_holed_link_is_replaced_by_a_new_one_within_35_s_on_both_sides(pair: Pair) -> None:
    async def is_live_over_a_new_link() -> bool:
        return pair.proxy.accepted_count == 2 and await pair.state() == INDEX_STATE_LIVE

    async def learner_has_one_watcher() -> bool:
        return await pair.watcher_count() == 1

    assert await pair.watcher_count() == 1
    pair.proxy.black_hole()
    waited_s = await until(is_live_over_a_new_link, BLACK_HOLE_S_MAX)
    # The Learner must not go on writing to the one that nobody reads.
    await until(learner_has_one_watcher, BLACK_HOLE_S_MAX - waited_s)
