"""Both services behind one port, each call played by the test; and both clients as one kind of thing.

with scripted_services() as services, blocking(services.address) as client:
    services.plays("Search", Fails(UNAVAILABLE), SearchResponse())
    client.search("x")
    assert len(services.requests["Search"]) == 2
"""

import asyncio
import inspect
import threading
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

import grpc
from google.protobuf import any_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import (  # type: ignore[import-untyped]  # the package ships no types
    error_details_pb2,
    status_pb2,
)
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]  # the package ships no types

from errata.client import AsyncErrata, Errata, Settings
from errata.v1 import learner_pb2, rag_pb2

SERVICES = {
    "errata.v1.LearnerService": learner_pb2.DESCRIPTOR.services_by_name["LearnerService"],
    "errata.v1.RagService": rag_pb2.DESCRIPTOR.services_by_name["RagService"],
    "grpc.health.v1.Health": health_pb2.DESCRIPTOR.services_by_name["Health"],
}


@dataclass(frozen=True)
class Fails:
    """Ends a call with a status, and with an ErrorInfo where it has a reason."""

    code: grpc.StatusCode
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    details: bytes | None = None
    """In place of those made of `reason`."""

    def end(self, context: grpc.ServicerContext) -> NoReturn:
        details = self.details
        if details is None and self.reason:
            status = status_pb2.Status(code=self.code.value[0])
            info = error_details_pb2.ErrorInfo(
                reason=f"ERROR_REASON_{self.reason}", domain="errata", metadata=self.metadata
            )
            packed = any_pb2.Any()
            packed.Pack(info)
            status.details.append(packed)
            details = status.SerializeToString()
        trailing: list[tuple[str, str | bytes]] = [("x-request-id", "r-1")]
        if details is not None:
            trailing.append(("grpc-status-details-bin", details))
        context.set_trailing_metadata(tuple(trailing))
        context.abort(self.code, "as the test wants it")
        raise AssertionError("abort raises")


class Hangs:
    """Does not answer; knows when the call has begun and when it was given up."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.over = threading.Event()

    def hang(self, context: grpc.ServicerContext) -> None:
        if context.add_callback(self.over.set):
            self.begun.set()
            self.over.wait(30)


@dataclass(frozen=True)
class Streams:
    """Sends messages, and then ends, fails or hangs."""

    messages: Sequence[Message] = ()
    then: Fails | Hangs | None = None


Step: TypeAlias = Message | Fails | Hangs | Streams


class ScriptedServices:
    """The steps that are still to be played, and what was asked."""

    def __init__(self) -> None:
        self.address = ""
        self.requests: dict[str, list[Any]] = defaultdict(list)
        """By method, as they came."""
        self.metadata: list[dict[str, str | bytes]] = []
        """Of each call."""
        self._steps: dict[str, list[Step]] = defaultdict(list)
        self._lock = threading.Lock()

    def plays(self, method: str, *steps: Step) -> None:
        """Adds what the next calls of a method get; the last step is played for ever."""
        self._steps[method].extend(steps)

    def play(self, method: str, request: Message, context: grpc.ServicerContext) -> Message:
        step = self._next(method, request, context)
        if isinstance(step, Fails):
            step.end(context)
        if isinstance(step, Hangs):
            step.hang(context)
            context.abort(grpc.StatusCode.ABORTED, "given up")
        assert isinstance(step, Message)
        return step

    def stream(self, method: str, request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
        step = self._next(method, request, context)
        assert isinstance(step, Streams)
        yield from step.messages
        if isinstance(step.then, Fails):
            step.then.end(context)
        if isinstance(step.then, Hangs):
            step.then.hang(context)

    def _next(self, method: str, request: Message, context: grpc.ServicerContext) -> Step:
        with self._lock:
            self.requests[method].append(request)
            self.metadata.append(dict(context.invocation_metadata()))
            steps = self._steps[method]
            return steps[0] if len(steps) == 1 else steps.pop(0)


@contextmanager
def scripted_services(address: str = "127.0.0.1:0") -> Iterator[ScriptedServices]:
    services = ScriptedServices()
    with ThreadPoolExecutor(8) as workers:
        server = grpc.server(workers, options=[("grpc.so_reuseport", 0)])
        for name, descriptor in SERVICES.items():
            handlers = {method.name: _handler(services, method) for method in descriptor.methods}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
        port = server.add_insecure_port(address)
        services.address = f"127.0.0.1:{port}"
        server.start()
        try:
            yield services
        finally:
            server.stop(None).wait()


def _handler(services: ScriptedServices, method: MethodDescriptor) -> "grpc.RpcMethodHandler[Any, Any]":
    made = (
        grpc.unary_stream_rpc_method_handler
        if method.server_streaming
        else grpc.unary_unary_rpc_method_handler
    )
    play: Callable[..., Any] = services.stream if method.server_streaming else services.play
    return made(
        lambda request, context: play(method.name, request, context),
        request_deserializer=GetMessageClass(method.input_type).FromString,
        response_serializer=lambda response: response.SerializeToString(),
    )


class InTurn:
    """An AsyncErrata whose methods are called as those of an Errata are."""

    def __init__(self, client: AsyncErrata, runner: asyncio.Runner) -> None:
        self._client = client
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if inspect.isasyncgenfunction(found):
            return lambda *args, **options: self._one_by_one(found(*args, **options))
        if not inspect.iscoroutinefunction(found):
            return found
        return lambda *args, **options: self._runner.run(found(*args, **options))

    def _one_by_one(self, changes: AsyncGenerator[Any, None]) -> Iterator[Any]:
        async def next_of() -> Any:
            return await anext(changes)

        try:
            while True:
                yield self._runner.run(next_of())
        finally:
            self._runner.run(changes.aclose())


MakesClient: TypeAlias = Callable[..., Any]
"""Makes a context of a client: of two addresses, or of one for both services."""


@contextmanager
def blocking(learner: str | None, rag: str | None = None, **settings: Any) -> Iterator[Errata]:
    with Errata(learner, rag or learner, settings=Settings(**settings)) as client:
        yield client


@contextmanager
def in_turn(learner: str | None, rag: str | None = None, **settings: Any) -> Iterator[InTurn]:
    with asyncio.Runner() as runner:
        client = InTurn(AsyncErrata(learner, rag or learner, settings=Settings(**settings)), runner)
        try:
            yield client
        finally:
            client.close()
