"""The health of each service, as grpc.health.v1 has it.

A service is NOT_SERVING until it is said to serve. The empty name stands for the whole server: it serves when
every service does. Once draining, all of these are NOT_SERVING for good, and the streams of Watch end, so a
probe that watches does not hold up the end of the process.

The health service itself is SERVING for as long as it answers. Who asks for it by name learns whether the
process lives, which is not whether it should get calls: one that waits for its first sync lives.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Final

from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]  # the package ships no types

from errata.serving.fields import shortened

WHOLE_SERVER: Final = ""
HEALTH_SERVICE: Final[ServiceDescriptor] = health_pb2.DESCRIPTOR.services_by_name["Health"]

_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVICE_UNKNOWN: Final = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class UnknownServiceError(Exception):
    """Nobody serves under the name that was asked for; the contract of health checks wants NOT_FOUND."""

    def __init__(self, service: str, known: Iterable[str]) -> None:
        super().__init__(f"no service {shortened(service)}; there are {', '.join(known)}")
        self.service = service


class Health:
    """Says who serves. Belongs to one event loop."""

    def __init__(self, services: Iterable[str]) -> None:
        """Knows of some services, none of which serves yet.

        Args:
            services: their full names, such as `errata.v1.LearnerService`.
        """
        self._serving = dict.fromkeys(services, False)
        self._draining = False
        # Set and replaced at each change: who holds an old one has something to look at.
        self._changed = asyncio.Event()

    def set_serving(self, service: str, *, serving: bool) -> None:
        """Says of one service whether it serves. Without effect once draining.

        Raises:
            UnknownServiceError: there is no such service.
        """
        if service not in self._serving:
            raise UnknownServiceError(service, self._serving)
        self._serving[service] = serving
        self._announce()

    def drain(self) -> None:
        """Ends serving for good, and the streams of `watch` once they have said so."""
        self._draining = True
        self._announce()

    async def check(self, request: Any, _: object) -> Any:
        """Whether a service serves now."""
        status = self._statuses().get(request.service)
        if status is None:
            raise UnknownServiceError(request.service, self._serving)
        return health_pb2.HealthCheckResponse(status=status)

    async def list(self, _: Any, __: object) -> Any:
        """Whether each service serves now."""
        statuses = {
            name: health_pb2.HealthCheckResponse(status=status) for name, status in self._statuses().items()
        }
        return health_pb2.HealthListResponse(statuses=statuses)

    async def watch(self, request: Any, _: object) -> AsyncIterator[Any]:
        """Whether a service serves now, and each time that this changes."""
        said = None
        while True:
            # Taken before the status is read: a change after that is seen in the next turn.
            changed = self._changed
            status = self._statuses().get(request.service, _SERVICE_UNKNOWN)
            if status != said:
                yield health_pb2.HealthCheckResponse(status=status)
                said = status
            elif self._draining:
                return
            else:
                await changed.wait()

    def _statuses(self) -> Mapping[str, int]:
        whole = not self._draining and all(self._serving.values())
        statuses = {WHOLE_SERVER: _SERVING if whole else _NOT_SERVING}
        for name, serving in self._serving.items():
            statuses[name] = _SERVING if serving and not self._draining else _NOT_SERVING
        statuses[HEALTH_SERVICE.full_name] = _SERVING
        return statuses

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
