"""Both services behind one port, each call played by the test; and both clients as one kind of thing.

with scripted_services() as services, blocking(services.address) as client:
    services.plays("Search", Fails(UNAVAILABLE), SearchResponse())
    client.search("x")
    assert len(services.requests["Search"]) == 2
"""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
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


Step: TypeAlias = Message | Fails | Hangs


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
        with self._lock:
            self.requests[method].append(request)
            self.metadata.append(dict(context.invocation_metadata()))
            steps = self._steps[method]
            step = steps[0] if len(steps) == 1 else steps.pop(0)
        if isinstance(step, Fails):
            step.end(context)
        if isinstance(step, Hangs):
            step.hang(context)
            context.abort(grpc.StatusCode.ABORTED, "given up")
        assert isinstance(step, Message)
        return step


@contextmanager
def scripted_services(address: str = "127.0.0.1:0") -> Iterator[ScriptedServices]:
    services = ScriptedServices()
    with ThreadPoolExecutor(8) as workers:
        server = grpc.server(workers, options=[("grpc.so_reuseport", 0)])
        for name, descriptor in SERVICES.items():
            handlers = {
                method.name: _handler(services, method.name, method.input_type._concrete_class)
                for method in descriptor.methods
                if not method.server_streaming
            }
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
        port = server.add_insecure_port(address)
        services.address = f"127.0.0.1:{port}"
        server.start()
        try:
            yield services
        finally:
            server.stop(None).wait()


def _handler(
    services: ScriptedServices, method: str, request_class: type[Message]
) -> "grpc.RpcMethodHandler[Any, Any]":
    def play(request: Message, context: grpc.ServicerContext) -> Message:
        return services.play(method, request, context)

    return grpc.unary_unary_rpc_method_handler(
        play,
        request_deserializer=request_class.FromString,
        response_serializer=lambda response: response.SerializeToString(),
    )


class InTurn:
    """An AsyncErrata whose methods are called as those of an Errata are."""

    def __init__(self, client: AsyncErrata, runner: asyncio.Runner) -> None:
        self._client = client
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not asyncio.iscoroutinefunction(found):
            return found
        return lambda *args, **options: self._runner.run(found(*args, **options))


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
