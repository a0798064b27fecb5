"""What every operation stands on: the settings of its client, and calls within a deadline."""

import random
import time
from collections.abc import Iterable

from errata.client.following import Following
from errata.client.own_writes import OwnWrites
from errata.client.search_requests import check_several
from errata.client.settings import Settings, check_deadline
from errata.client.steps import Clock, Deadline, Method, Request, Response, Steps, Uniform, called


class Caller:
    """One client's settings, and what it remembers of its own writes.

    Every operation raises a CallError when it fails for good, and takes `deadline_s` seconds at most; None is
    that of the settings, and so is a `namespace` of None.
    """

    def __init__(
        self,
        settings: Settings,
        own_writes: OwnWrites,
        *,
        clock: Clock = time.monotonic,
        uniform: Uniform = random.uniform,
    ) -> None:
        """Takes its parts.

        Args:
            settings: of the client.
            own_writes: remembers what is written, for the searches that come after.
            clock: for deadlines.
            uniform: for the pauses between retries.
        """
        self._settings = settings
        self._own_writes = own_writes
        self._clock = clock
        self._uniform = uniform

    def _called(
        self, method: Method[Request, Response], request: Request, deadline_s: float | None
    ) -> Steps[Response]:
        return called(method, request, self._deadline(deadline_s), self._uniform)

    def _deadline(self, deadline_s: float | None) -> Deadline:
        if deadline_s is None:
            return Deadline(self._settings.deadline_s, self._clock)
        check_deadline(deadline_s)
        return Deadline(deadline_s, self._clock)

    def following(self, *, token: bytes, namespaces: Iterable[str] | None, watcher: str) -> Following:
        """Where a new watcher stands; see `Following`."""
        where = (self._settings.namespace,) if namespaces is None else namespaces
        check_several("namespaces", where)
        return Following(token=token, namespaces=where, watcher=watcher, uniform=self._uniform)

    def _namespace(self, namespace: str | None) -> str:
        return self._settings.namespace if namespace is None else namespace
