"""What both clients are made of: connections, settings, the memory of their own writes, and operations."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Generic, Self

from errata.client.connections import Channel, Connections
from errata.client.operations import Operations
from errata.client.own_writes import OwnWrites
from errata.client.settings import Settings, addresses_from
from errata.client.steps import Service


class ClientState(ABC, Generic[Channel]):
    """A client that can do nothing yet; see `Errata` and `AsyncErrata`."""

    def __init__(
        self,
        learner: str | Channel | None = None,
        rag: str | Channel | None = None,
        *,
        settings: Settings | None = None,
    ) -> None:
        """Connects to nothing yet.

        Args:
            learner: HOST:PORT of the Learner, or a channel, which stays yours to close; None when it is not
                used.
            rag: the same of the RAG service.
            settings: None takes the defaults.

        Raises:
            ValueError: an address is none.
        """
        self._settings = settings or Settings()
        self._connections = Connections[Channel](
            {Service.LEARNER: learner, Service.RAG: rag}, self._open_channel
        )
        self._own_writes = OwnWrites()
        self._operations = Operations(self._settings, self._own_writes)

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str] = os.environ, *, settings: Settings | None = None
    ) -> Self:
        """A client of the services at ERRATA_LEARNER and ERRATA_RAG.

        A variable that is not set means the address at which the service listens by default, an empty one
        that the service is not used.
        """
        learner, rag = addresses_from(environ)
        return cls(learner, rag, settings=settings)

    @property
    def token(self) -> bytes:
        """What the searches of this client see at least, for `remember` of another; empty for nothing."""
        return self._own_writes.newest()

    def remember(self, token: bytes) -> None:
        """Has the searches of this client see what another one recorded.

        Raises:
            ValueError: it is no token.
        """
        self._own_writes.remember(token)

    @staticmethod
    @abstractmethod
    def _open_channel(address: str) -> Channel:
        """A channel to an address."""
