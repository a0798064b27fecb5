"""Both services with breakable links, watchers and writers, and the comparison at the end.

rag service ──▶ proxy ─┐
follower ─────▶ proxy ─┼─▶ Learner ◀── writers
followers ─────────────┘
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc

from errata.v1.learner_pb2 import GetStatusRequest, GetStatusResponse
from errata.v1.learner_pb2_grpc import LearnerServiceStub
from errata.v1.rag_pb2 import INDEX_STATE_LIVE, GetIndexStatusRequest, GetIndexStatusResponse
from errata.v1.rag_pb2_grpc import RagServiceStub
from tests.faults.proxy import Proxy
from tests.faults.restarting import Restarting
from tests.faults.traffic import TRANSIENT, Acknowledged, Asker, Writer, contents
from tests.faults.validator import Copy, Follower, Ledger, Proof

if TYPE_CHECKING:
    from errata.v1.learner_pb2_grpc import LearnerServiceAsyncStub
    from errata.v1.rag_pb2_grpc import RagServiceAsyncStub

ACKNOWLEDGED_MIN: Final = 10
"""Between two faults: with less there was nothing that a fault could have broken."""
RECEIVED_MIN: Final = 10
"""The same for the changes that each fast watcher received."""
TRAFFIC_S_MAX: Final = 60.0
CONVERGE_S_MAX: Final = 60.0

_POLL_S: Final = 0.02


class VoidRunError(Exception):
    """There was too little traffic before a fault: the run proves nothing."""


@dataclass(kw_only=True)
class Rig:
    """Everything that takes part in a run."""

    learner: Restarting
    rag: Restarting
    learner_stub: "LearnerServiceAsyncStub"
    rag_stub: "RagServiceAsyncStub"
    rag_proxy: Proxy
    follower_proxy: Proxy
    fast: list[Follower]
    slow: list[Follower]
    asker: Asker
    ledger: Ledger
    acknowledged: Acknowledged
    chance: random.Random
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _writers: list[Writer] = field(default_factory=list)
    _writing: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def proxies(self) -> tuple[Proxy, Proxy]:
        return self.rag_proxy, self.follower_proxy

    @property
    def followers(self) -> list[Follower]:
        return [*self.fast, *self.slow]

    @property
    def kill_count(self) -> int:
        return self.learner.kill_count + self.rag.kill_count

    async def traffic(self, seconds: float = TRAFFIC_S_MAX) -> None:
        """Returns when enough has happened, from now on, for a fault to matter.

        Raises:
            VoidRunError: it has not in time.
        """
        deadline_s = time.monotonic() + seconds
        acknowledged_count = self.acknowledged.count
        received = {follower: follower.copy.update_count for follower in self.fast}
        try:
            for follower, count in received.items():
                enough = partial(_has_received, count + RECEIVED_MIN)
                await follower.until(enough, deadline_s - time.monotonic())
        except TimeoutError as error:
            raise VoidRunError(str(error)) from error
        while (fresh_count := self.acknowledged.count - acknowledged_count) < ACKNOWLEDGED_MIN:
            if time.monotonic() > deadline_s:
                raise VoidRunError(f"only {fresh_count} writes were acknowledged")
            await asyncio.sleep(_POLL_S)

    def release(self) -> None:
        """Lets slow followers read as fast as they can from now on."""
        for follower in self.slow:
            follower.pause_s = 0.0

    def run(self, part: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Runs something until the end of the run, which looks at how it ended."""
        task = asyncio.create_task(part)
        self.tasks.append(task)
        return task

    def write(self, writer_count: int = 4) -> None:
        """Begins to write; after a rest, to the same blocks and others."""
        self._writers = [
            Writer(f"w{number}", self.learner_stub, self.acknowledged, chance=self.chance, pause_s=0.01)
            for number in range(writer_count)
        ]
        self._writing = [self.run(writer.run()) for writer in self._writers]

    async def rest(self) -> GetStatusResponse:
        """Ends the writers; returns the Learner's status once it has learned from everything."""
        for writer in self._writers:
            writer.end()
        await asyncio.gather(*self._writing)
        async with asyncio.timeout(CONVERGE_S_MAX):
            while True:
                status = await self.status()
                if not status.queued_block_count:
                    return status
                await asyncio.sleep(_POLL_S)

    async def converge(self) -> None:
        """Lets everything come to rest, and compares what is held everywhere with what was acknowledged.

        Raises:
            TimeoutError: somebody never got there.
            AssertionError: they differ.
        """
        self.release()
        for proxy in self.proxies:
            proxy.heal()
        status = await self.rest()
        head, proof = status.head_revision, Proof(status.example_count, status.digest)
        await asyncio.gather(
            *(
                each.until(lambda copy: copy.bookmark_revision >= head, CONVERGE_S_MAX)
                for each in self.followers
            ),
            self.until_rag_is_at(head),
        )
        expected = {key: contents(key, written.number) for key, written in self.acknowledged.live().items()}
        for follower in self.followers:
            copy = follower.copy
            wanted = {
                key: text
                for key, text in expected.items()
                if not copy.namespaces or key[0] in copy.namespaces
            }
            assert {key: row.contents for key, row in copy.rows.items()} == wanted, follower.name
            assert copy.namespaces or copy.proof() == proof, follower.name
        for key, written in self.acknowledged.live().items():
            row = self.fast[0].copy.rows[key]
            assert row.revision >= written.moment.revision, key
            seen = self.ledger.changes.get(written.moment)
            assert seen is None or seen[0] == key, (written, seen)
            assert await self.asker.number(key) == written.number, key

    async def until_rag_is_at(self, revision: int) -> GetIndexStatusResponse:
        """Returns once the RAG service is live and has proven itself at a revision or a later one."""
        async with asyncio.timeout(CONVERGE_S_MAX):
            while True:
                status = await self.index_status()
                if status.state == INDEX_STATE_LIVE and status.applied_revision >= revision:
                    return status
                await asyncio.sleep(_POLL_S)

    async def index_status(self) -> GetIndexStatusResponse:
        """The RAG service's account of itself, as soon as it answers."""
        while True:
            try:
                return await self.rag_stub.GetIndexStatus(GetIndexStatusRequest(), timeout=1)
            except grpc.aio.AioRpcError as error:
                if error.code() not in TRANSIENT:
                    raise
                await asyncio.sleep(_POLL_S)

    async def status(self) -> GetStatusResponse:
        """The Learner's account of itself, as soon as it answers."""
        while True:
            try:
                return await self.learner_stub.GetStatus(GetStatusRequest(), timeout=1)
            except grpc.aio.AioRpcError as error:
                if error.code() not in TRANSIENT:
                    raise
                await asyncio.sleep(_POLL_S)


def _has_received(update_count: int, copy: Copy) -> bool:
    return copy.update_count >= update_count


@asynccontextmanager
async def running_rig(
    store_dir: Path, chance: random.Random, *, asking: bool = True, snapshots: bool = False
) -> AsyncIterator[Rig]:
    """Starts everything but the writers; in the end nobody has broken a promise, and no service erred."""
    ledger, acknowledged = Ledger(), Acknowledged()
    async with AsyncExitStack() as resources:
        learner = Restarting(
            "learner_service",
            *("--store-dir", str(store_dir), "--embedder", "hashing", "--policy", "executions"),
        )
        await resources.enter_async_context(learner)
        rag_proxy = await resources.enter_async_context(Proxy(learner.address))
        follower_proxy = await resources.enter_async_context(Proxy(learner.address))
        keeping = ("--snapshot-dir", str(store_dir.with_name("snapshot"))) if snapshots else ()
        rag = Restarting("rag_service", "--learner", rag_proxy.address, *keeping)
        await resources.enter_async_context(rag)
        learner_stub = LearnerServiceStub(await resources.enter_async_context(learner.process.channel()))
        rag_stub = RagServiceStub(await resources.enter_async_context(rag.process.channel()))
        rig = Rig(
            learner=learner,
            rag=rag,
            learner_stub=learner_stub,
            rag_stub=rag_stub,
            rag_proxy=rag_proxy,
            follower_proxy=follower_proxy,
            fast=[
                Follower("direct", learner.address, ledger),
                Follower("over a proxy", follower_proxy.address, ledger),
                Follower("one namespace", learner.address, ledger, namespaces=["team"]),
            ],
            slow=[Follower("slow", learner.address, ledger, pause_s=0.2)],
            asker=Asker(rag_stub, acknowledged),
            ledger=ledger,
            acknowledged=acknowledged,
            chance=chance,
        )
        for follower in rig.followers:
            rig.run(follower.run())
        if asking:
            rig.run(rig.asker.run())
        try:
            yield rig
        finally:
            for task in rig.tasks:
                task.cancel()
            results = await asyncio.gather(*rig.tasks, return_exceptions=True)
    ended_badly = [
        result for result in results if result is not None and not isinstance(result, asyncio.CancelledError)
    ]
    assert not ended_badly, ended_badly
    assert [*ledger.violations, *rig.asker.violations] == []
    assert [*learner.errors, *rag.errors] == []
