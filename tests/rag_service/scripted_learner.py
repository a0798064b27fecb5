"""The Learner's side of WatchUpdates: a store that is a dictionary, and a real server that says what it is
told.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from errata import digest
from errata.v1 import block_pb2, example_pb2, learner_pb2
from rag_service.read_your_writes import Epochs, token_for

Response = learner_pb2.WatchUpdatesResponse


class ToyEmbedder:
    """Unit vectors out of a hash: equal texts are equal, all others have nothing in common."""

    def __init__(self, fingerprint: str = "toy/8", dimension: int = 8) -> None:
        self.fingerprint = fingerprint
        self.dimension = dimension
        self.closed = False

    def embed(self, text: str) -> NDArray[np.float32]:
        seed = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
        vector = np.random.default_rng(seed).standard_normal(self.dimension)
        return (vector / np.linalg.norm(vector)).astype(np.float32)

    async def query(self, text: str) -> NDArray[np.float32]:
        assert not self.closed
        return self.embed(text)

    async def close(self) -> None:
        self.closed = True


@dataclass
class ToyStore:
    """What a Learner keeps, as far as a watcher sees it."""

    embedder: ToyEmbedder = field(default_factory=ToyEmbedder)
    spec: str = "toy"
    store_id: bytes = b"store-1"
    head: int = 0
    epochs: list[tuple[int, int]] = field(default_factory=lambda: [(101, 0)])
    rows: dict[bytes, tuple[int, learner_pb2.ExampleUpdate]] = field(default_factory=dict)

    def begin_epoch(self, nonce: int) -> None:
        self.epochs.append((nonce, self.head))

    def put(self, example_id: str, text: str, **fields: Any) -> learner_pb2.ExampleUpdate:
        """Learns, or changes, one example; returns the update to send."""
        example = example_pb2.Example(
            id=example_id,
            embedding=self.embedder.embed(text).astype("<f4").tobytes(),
            query=block_pb2.Doc(blocks=[block_pb2.Block(kind=block_pb2.BLOCK_KIND_MARKUP, contents=text)]),
            answer=[
                block_pb2.Block(kind=block_pb2.BLOCK_KIND_CODE, language="bash", contents=f"echo {text}")
            ],
            query_text=text,
            embedder_fingerprint=self.embedder.fingerprint,
        )
        example.executed_time.FromSeconds(1_700_000_000 + self.head)
        for name, value in fields.items():
            if isinstance(value, dict):
                getattr(example, name).update(value)
            else:
                setattr(example, name, value)
        self.head += 1
        update = learner_pb2.ExampleUpdate(revision=self.head, put=example)
        self.rows[_key(example.namespace, example_id)] = (self.head, update)
        return update

    def delete(self, example_id: str, namespace: str = "") -> learner_pb2.ExampleUpdate:
        self.head += 1
        del self.rows[_key(namespace, example_id)]
        key = example_pb2.ExampleKey(namespace=namespace, id=example_id)
        return learner_pb2.ExampleUpdate(revision=self.head, deleted=key)

    def token_of(self, update: learner_pb2.ExampleUpdate) -> bytes:
        """What a client that made the change gets from the Learner."""
        return token_for(update.revision, self.history, self.store_id)

    @property
    def history(self) -> Epochs:
        return Epochs(self._epochs())

    @property
    def resume_token(self) -> bytes:
        return b"%s@%d" % (self.store_id, self.head)

    def hello(self, **fields: Any) -> Response:
        hello = learner_pb2.WatchHello(
            store_id=self.store_id,
            embedder_fingerprint=self.embedder.fingerprint,
            dimension=self.embedder.dimension,
            head_revision=self.head,
            example_count=len(self.rows),
            epochs=self._epochs(),
            embedder=self.spec,
        )
        hello.MergeFrom(learner_pb2.WatchHello(**fields))
        return Response(hello=hello)

    def bookmark(self, **fields: Any) -> Response:
        return Response(bookmark=self._bookmark(**fields))

    def batch(self, *updates: learner_pb2.ExampleUpdate, bookmark: bool = True) -> Response:
        batch = learner_pb2.WatchBatch(updates=updates, token=self.resume_token)
        if bookmark:
            batch.bookmark.CopyFrom(self._bookmark())
        return Response(batch=batch)

    def everything(self, *, bookmark: bool = True) -> Response:
        """All rows, as a scan from nothing gives them."""
        rows = sorted(self.rows.values(), key=lambda row: row[0])
        return self.batch(*(update for _, update in rows), bookmark=bookmark)

    def _epochs(self) -> list[learner_pb2.Epoch]:
        return [learner_pb2.Epoch(nonce=nonce, start_revision=start) for nonce, start in self.epochs]

    def _bookmark(self, **fields: Any) -> learner_pb2.WatchBookmark:
        total = 0
        for key, (revision, _) in self.rows.items():
            total = digest.add(total, digest.row_hash(key, revision))
        said = {
            "token": self.resume_token,
            "revision": self.head,
            "example_count": len(self.rows),
            "digest": digest.encode(total),
        }
        return learner_pb2.WatchBookmark(**{**said, **fields})


def reset(reason: learner_pb2.WatchResetReason.ValueType) -> Response:
    return Response(reset=learner_pb2.WatchReset(reason=reason))


def draining(resume_token: bytes) -> Response:
    return Response(draining=learner_pb2.WatchDraining(token=resume_token))


class Stream:
    """One call of WatchUpdates, as the server sees it."""

    def __init__(self, request: learner_pb2.WatchUpdatesRequest) -> None:
        self.request = request
        self.gone = asyncio.Event()
        """Set when the client has given the call up."""
        self._steps: asyncio.Queue[Response | bytes | tuple[grpc.StatusCode, str] | None] = asyncio.Queue()

    def send(self, *messages: Response | bytes) -> None:
        for message in messages:
            self._steps.put_nowait(message)

    def end(self) -> None:
        self._steps.put_nowait(None)

    def abort(self, code: grpc.StatusCode, details: str = "as the script wants it") -> None:
        self._steps.put_nowait((code, details))

    async def play(self, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
        try:
            while (step := await self._steps.get()) is not None:
                if isinstance(step, tuple):
                    await context.abort(*step)
                elif isinstance(step, bytes):
                    yield step
                else:
                    yield step.SerializeToString()
        except asyncio.CancelledError:
            self.gone.set()
            raise


class ScriptedLearner:
    """A server whose every stream is played by the test."""

    def __init__(self) -> None:
        self.address = ""
        self._opened: asyncio.Queue[Stream] = asyncio.Queue()
        self._server: grpc.aio.Server | None = None

    async def next_stream(self) -> Stream:
        async with asyncio.timeout(5):
            return await self._opened.get()

    async def start(self) -> None:
        """Listens, at the same address as before."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "WatchUpdates": grpc.unary_stream_rpc_method_handler(
                self._watch_updates,
                request_deserializer=learner_pb2.WatchUpdatesRequest.FromString,
            )
        }
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("errata.v1.LearnerService", handlers),)
        )
        port = self._server.add_insecure_port(self.address or "127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def _watch_updates(
        self, request: learner_pb2.WatchUpdatesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[bytes]:
        stream = Stream(request)
        self._opened.put_nowait(stream)
        async for message in stream.play(context):
            yield message


@asynccontextmanager
async def scripted_learner() -> AsyncIterator[ScriptedLearner]:
    learner = ScriptedLearner()
    await learner.start()
    try:
        yield learner
    finally:
        await learner.stop()


def low(low_s: float, _: float) -> float:
    """Randomness that never waits longer than it must."""
    return low_s


Uniform = Callable[[float, float], float]


def _key(namespace: str, example_id: str) -> bytes:
    return namespace.encode() + b"\0" + example_id.encode()
