"""A subscriber that follows a scripted Learner."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import numpy as np

from errata.embedding import EmbedderUnavailableError
from errata.v1 import example_pb2
from errata.v1.learner_pb2_grpc import LearnerServiceStub
from rag_service.embedders import BuildEmbedder, Embedders
from rag_service.index import ExampleIndex
from rag_service.mirror import Mirror
from rag_service.progress import Progress
from rag_service.query import IndexQuery
from rag_service.reconnect import Reconnect
from rag_service.subscriber import Subscriber
from tests.rag_service.manual_clock import ManualClock, until
from tests.rag_service.scripted_learner import (
    ScriptedLearner,
    Stream,
    ToyEmbedder,
    ToyStore,
    Uniform,
    low,
    scripted_learner,
)


def build_index(dimension: int) -> ExampleIndex:
    return ExampleIndex(dimension=dimension)


def found_ids(index: ExampleIndex) -> set[str]:
    """The IDs of all that can be found in the default namespace."""
    query = np.eye(1, index.dimension, dtype=np.float32)[0]
    answer = index.search(IndexQuery(embedding=query, limit=1_000, per_question_limit=1_000))
    return {example_pb2.Example.FromString(hit.example).id for hit in answer.hits}


class Builder:
    """Builds the embedders that a test knows of, and counts."""

    def __init__(self, **known: ToyEmbedder) -> None:
        self.known = known or {"toy": ToyEmbedder()}
        self.built: list[str] = []

    async def __call__(self, spec: str, held: Collection[str]) -> ToyEmbedder:
        del held
        self.built.append(spec)
        if spec not in self.known:
            raise EmbedderUnavailableError(f"no {spec} here")
        return self.known[spec]


@dataclass
class Following:
    """A subscriber that runs, and what it feeds."""

    learner: ScriptedLearner
    clock: ManualClock
    mirror: Mirror
    progress: Progress
    subscriber: Subscriber
    task: asyncio.Task[None]

    @property
    def ids(self) -> set[str]:
        """The examples that a search can find."""
        live = self.mirror.live
        return set() if live is None else found_ids(live.index)

    async def stream(self) -> Stream:
        return await self.learner.next_stream()

    async def synced(self, store: ToyStore) -> Stream:
        """The first stream, after everything in the store has been sent over it."""
        stream = await self.stream()
        stream.send(store.hello(), store.everything())
        await self.reached(store.head)
        return stream

    async def reached(self, revision: int) -> None:
        await until(lambda: self.progress.applied_revision == revision and self.mirror.live is not None)


@asynccontextmanager
async def following(
    *,
    build: BuildEmbedder | None = None,
    fixed_spec: str | None = None,
    uniform: Uniform = low,
    namespaces: tuple[str, ...] = (),
) -> AsyncIterator[Following]:
    clock = ManualClock()
    progress = Progress(clock=clock)
    mirror = Mirror(build_index=build_index, progress=progress, clock=clock)
    async with scripted_learner() as learner, grpc.aio.insecure_channel(learner.address) as channel:
        subscriber = Subscriber(
            learner=LearnerServiceStub(channel),
            mirror=mirror,
            progress=progress,
            embedders=Embedders(build=build or Builder(), fixed_spec=fixed_spec),
            reconnect=Reconnect(uniform=uniform),
            clock=clock,
            watcher="test",
            namespaces=namespaces,
        )
        task = asyncio.create_task(subscriber.run())
        try:
            yield Following(learner, clock, mirror, progress, subscriber, task)
            assert task.cancelled() or not task.done(), "the subscriber never ends by itself"
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
