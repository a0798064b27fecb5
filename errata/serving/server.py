"""One gRPC server, built from service descriptors and plain objects.

    server = GrpcServer(
        services=[Service(learner_pb2.DESCRIPTOR.services_by_name["LearnerService"], servicer)],
        statuses=STATUSES,
        metrics=RpcMetrics(registry),
    )
    address = await server.start("127.0.0.1:0")                   # "127.0.0.1:41234"
    await server.set_serving("errata.v1.LearnerService", True)
    await stop.wait()
    await server.drain(end_the_watchers)

A method of the contract is a method of the servicer, named in snake_case:

    async def get_block(self, request: GetBlockRequest, call: Call) -> GetBlockResponse | bytes: ...
    async def watch_updates(
        self, request: WatchUpdatesRequest, call: Call
    ) -> AsyncIterator[WatchUpdatesResponse | bytes]:
        yield ...

Bytes are a response that is serialised already, and are sent as they are. What a method raises becomes a
Status through the table, also half way through a stream. Health and reflection come with every server.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_reflection.v1alpha import (  # type: ignore[import-untyped]  # the package ships no types
    reflection,
)

from errata.serving.addresses import Address, parse_address, resolve_for_listening, why_not_listening
from errata.serving.channel import server_options
from errata.serving.handlers import REQUEST_BYTES_MAX, Call, MethodHandler
from errata.serving.health import HEALTH_SERVICE, Health, UnknownServiceError
from errata.serving.logs import get_logger
from errata.serving.metrics import RpcMetrics
from errata.serving.process import StartError
from errata.serving.statuses import SHARED_STATUSES, StatusRule, StatusTable
from errata.serving.symbols import SymbolPool
from errata.v1 import learner_pb2

__all__ = ["DRAIN_S_MAX", "REQUEST_BYTES_MAX", "Call", "GrpcServer", "Service"]

DRAIN_S_MAX: Final = 9.0
"""Of a whole drain; with what comes after it a process is gone 10 s after SIGTERM."""
DRAIN_GRACE_S: Final = 7.0
"""Calls that have not ended by then are cut off."""

_HEALTH_STATUSES: Final[StatusTable] = {
    UnknownServiceError: StatusRule(grpc.StatusCode.NOT_FOUND, learner_pb2.ERROR_REASON_UNSPECIFIED)
}

log = get_logger()


@dataclass(frozen=True, slots=True)
class Service:
    """One service of the contract, and the object that answers for it."""

    descriptor: ServiceDescriptor
    servicer: object
    unserved: frozenset[str] = frozenset()
    """Methods of the contract that the servicer does not have; they answer UNIMPLEMENTED."""


class GrpcServer:
    """Serves some services, their health and their reflection. Belongs to one event loop; starts once."""

    def __init__(self, *, services: Sequence[Service], statuses: StatusTable, metrics: RpcMetrics) -> None:
        """Binds each method; opens nothing.

        Args:
            services: what is served.
            statuses: what their errors become, besides those of `SHARED_STATUSES`.
            metrics: counts the calls.

        Raises:
            TypeError: a servicer lacks a method of its service that is not among the `unserved`.
        """
        names = [service.descriptor.full_name for service in services]
        self._health = Health(names)
        health_service = Service(HEALTH_SERVICE, self._health)
        table = {**SHARED_STATUSES, **_HEALTH_STATUSES, **statuses}
        self._handlers = [
            _generic_handler(service, table, metrics) for service in (*services, health_service)
        ]
        self._names = (*names, health_service.descriptor.full_name, reflection.SERVICE_NAME)
        self._server: grpc.aio.Server | None = None

    async def start(self, listen: str) -> str:
        """Answers calls from now on; every service is NOT_SERVING yet.

        Args:
            listen: HOST:PORT; port 0 lets the system choose.

        Returns:
            The address that was bound, by number.

        Raises:
            StartError: the address cannot be listened at.
        """
        wanted = _parsed(listen)
        # Asked first, because gRPC gives no reason and writes a line of its own to stderr.
        problem = why_not_listening(wanted)
        if problem is not None:
            raise _not_listening(listen, problem)
        server = grpc.aio.server(handlers=self._handlers, options=server_options())
        reflection.enable_server_reflection(self._names, server, SymbolPool())
        try:
            port = server.add_insecure_port(str(wanted))
        except RuntimeError:
            raise _not_listening(listen, "it was taken a moment ago") from None
        await server.start()
        self._server = server
        bound = wanted._replace(port=port)
        if not bound.is_loopback:
            log.warning(
                "listening beyond this machine without authentication: "
                "whoever reaches the address can read and write everything",
                address=str(bound),
            )
        return str(bound)

    async def set_serving(self, service: str, serving: bool) -> None:  # noqa: FBT001 - health is yes or no
        """Says of one service whether it serves.

        Raises:
            UnknownServiceError: there is no such service.
        """
        self._health.set_serving(service, serving=serving)

    async def drain(
        self, on_drain: Callable[[], Awaitable[None]] | None = None, *, grace_s: float = DRAIN_GRACE_S
    ) -> None:
        """Ends serving: health first, then the watchers, then everybody.

        Raises nothing, and takes `DRAIN_S_MAX` at most.

        Args:
            on_drain: ends the streams that would not end by themselves; what it raises is logged.
            grace_s: calls still open after so long are cut off.
        """
        begin_s = time.monotonic()
        grace_s = min(grace_s, DRAIN_GRACE_S)
        self._health.drain()
        if on_drain is not None:
            try:
                async with asyncio.timeout(grace_s):
                    await on_drain()
            except TimeoutError:
                log.warning("the watchers did not end in time", seconds=grace_s)
            except Exception:
                log.exception("ending the watchers failed")
        if self._server is None:
            return
        left_s = max(0.0, begin_s + grace_s - time.monotonic())
        # A task that is left alone when time is up: cancelling gRPC's own shutdown would confuse it.
        stopping = asyncio.ensure_future(self._server.stop(left_s))
        _, pending = await asyncio.wait({stopping}, timeout=begin_s + DRAIN_S_MAX - time.monotonic())
        if pending:
            log.warning("calls did not end in time", seconds=DRAIN_S_MAX)


def _generic_handler(service: Service, statuses: StatusTable, metrics: RpcMetrics) -> grpc.GenericRpcHandler:
    handlers = {
        method.name: MethodHandler(method, service.servicer, statuses=statuses, metrics=metrics).to_grpc()
        for method in service.descriptor.methods
        if method.name not in service.unserved
    }
    return grpc.method_handlers_generic_handler(service.descriptor.full_name, handlers)


def _parsed(listen: str) -> Address:
    try:
        return resolve_for_listening(parse_address(listen))
    except (OSError, ValueError) as error:
        raise _not_listening(listen, str(error)) from None


def _not_listening(listen: str, problem: str) -> StartError:
    return StartError(
        f"cannot listen at {listen}: {problem}; end whoever holds the port, or choose another address with "
        "--listen (port 0 takes a free one)"
    )
