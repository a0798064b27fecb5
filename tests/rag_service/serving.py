"""A RagService on a real server, in front of a mirror that the test feeds."""

import struct
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # the package ships no types
from grpc_status import rpc_status  # type: ignore[import-untyped]  # the package ships no types
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from errata.serving.metrics import RpcMetrics
from errata.serving.server import GrpcServer, Service
from errata.v1 import block_pb2, learner_pb2, rag_pb2
from errata.v1.rag_pb2_grpc import RagServiceStub
from rag_service.mirror import Mirror, Source
from rag_service.progress import Progress
from rag_service.read_your_writes import Epochs
from rag_service.service import STATUSES, RagServicer
from tests.rag_service.following import build_index
from tests.rag_service.manual_clock import ManualClock
from tests.rag_service.scripted_learner import ToyEmbedder, ToyStore

Request = rag_pb2.SearchRequest
MIB = 1024 * 1024
Result = TypeVar("Result")


class CountingWorkers(ThreadPoolExecutor):
    """Counts what it is given to run."""

    def __init__(self) -> None:
        super().__init__(1)
        self.submitted_count = 0

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        self.submitted_count += 1
        return super().submit(fn, *args, **kwargs)


class FailingEmbedder(ToyEmbedder):
    """Raises what it is told to."""

    error: Exception | None = None

    async def query(self, text: str) -> NDArray[np.float32]:
        if self.error is not None:
            raise self.error
        return await super().query(text)


@dataclass
class Serving:
    """A service, its clock, and the mirror behind it."""

    rag: Any
    servicer: RagServicer
    mirror: Mirror
    progress: Progress
    clock: ManualClock
    workers: CountingWorkers
    store: ToyStore
    embedder: FailingEmbedder = field(default_factory=FailingEmbedder)

    def open(self, store: ToyStore | None = None) -> None:
        store = store or self.store
        self.mirror.open(
            Source(store_id=store.store_id, epochs=Epochs(store.hello().hello.epochs), embedder=self.embedder)
        )

    def receive(self, *updates: learner_pb2.ExampleUpdate) -> None:
        self.mirror.receive(updates)

    def bookmark(self) -> None:
        assert self.mirror.bookmark(self.store.bookmark().bookmark)

    def learn(self, example_id: str, text: str, **fields: Any) -> bytes:
        """Learns an example and has it arrive; returns its token."""
        update = self.store.put(example_id, text, **fields)
        self.receive(update)
        self.bookmark()
        return self.store.token_of(update)

    async def search(self, request: Request | None = None, deadline_s: float = 10, **fields: Any) -> Any:
        return await self.rag.Search(request or Request(**fields), timeout=deadline_s)

    async def ids(self, **fields: Any) -> list[str]:
        return [result.example.id for result in (await self.search(**fields)).results]

    async def failure(
        self, request: Request | None = None, deadline_s: float = 10, **fields: Any
    ) -> "Failed":
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await self.search(request, deadline_s=deadline_s, **fields)
        return Failed.of(raised.value)


@dataclass(frozen=True)
class Failed:
    """How a call ended."""

    code: grpc.StatusCode
    reason: str
    metadata: dict[str, str]

    @classmethod
    def of(cls, error: grpc.aio.AioRpcError) -> "Failed":
        status = rpc_status.from_call(error)
        info = error_details_pb2.ErrorInfo()
        assert status is not None
        (detail,) = status.details
        assert detail.Unpack(info)
        assert info.domain == "errata"
        return cls(error.code(), info.reason.removeprefix("ERROR_REASON_"), dict(info.metadata))


@asynccontextmanager
async def serving(*, synced: bool = True, namespaces: tuple[str, ...] = ()) -> AsyncIterator[Serving]:
    clock = ManualClock()
    progress = Progress(clock=clock)
    mirror = Mirror(build_index=build_index, progress=progress, clock=clock)
    with CountingWorkers() as workers:
        servicer = RagServicer(
            mirror=mirror, progress=progress, workers=workers, namespaces=namespaces, version="1.2.3"
        )
        server = GrpcServer(
            services=[Service(rag_pb2.DESCRIPTOR.services_by_name["RagService"], servicer)],
            statuses=STATUSES,
            metrics=RpcMetrics(CollectorRegistry()),
        )
        address = await server.start("127.0.0.1:0")
        try:
            async with grpc.aio.insecure_channel(
                address, options=[("grpc.max_receive_message_length", 8 * MIB)]
            ) as channel:
                it = Serving(RagServiceStub(channel), servicer, mirror, progress, clock, workers, ToyStore())
                if synced:
                    it.open()
                    it.bookmark()
                yield it
        finally:
            await server.drain(grace_s=0)


def markup(*contents: str) -> block_pb2.Doc:
    return block_pb2.Doc(
        blocks=[block_pb2.Block(kind=block_pb2.BLOCK_KIND_MARKUP, contents=text) for text in contents]
    )


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)
