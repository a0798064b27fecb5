"""Follows the changes of examples: what to ask for, what a message means, and when to ask again.

Knows no channel: the clients open the streams and hand over what comes, and what each stream ended with.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from errata.client.errors import CallError, RateLimitedError, UnavailableError
from errata.client.steps import Method, Service, Uniform
from errata.v1.example_pb2 import Example
from errata.v1.learner_pb2 import (
    WatchBatch,
    WatchBookmark,
    WatchResetReason,
    WatchUpdatesRequest,
    WatchUpdatesResponse,
)
from errata.v1.learner_pb2_grpc import LearnerServiceStub

PAUSE_S_FIRST: Final = 0.1
"""Before a stream is opened again, at most; twice as much after each that brought nothing."""
PAUSE_S_MAX: Final = 30.0

WATCH_UPDATES: Final[Method[WatchUpdatesRequest, WatchUpdatesResponse]] = Method(
    Service.LEARNER, LearnerServiceStub, "WatchUpdates", WatchUpdatesResponse
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamplePut:
    """An example is new, or has changed."""

    example: Example
    """As it now is, with its embedding."""
    revision: int
    token: bytes
    """Begins after this change, or a little before it: a change may come again, and none is missed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleDeleted:
    """An example no longer exists."""

    namespace: str
    id: str
    revision: int
    token: bytes
    """See `ExamplePut.token`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaughtUp:
    """Who applied every change holds exactly what the Learner held at this revision."""

    revision: int
    example_count: int
    token: bytes
    """Begins here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOver:
    """Drop every example that is held: the changes that follow begin from nothing."""

    reason: WatchResetReason.ValueType
    token: bytes = b""

    @property
    def reason_name(self) -> str:
        """Such as `STORE_CHANGED`."""
        return WatchResetReason.Name(self.reason).removeprefix("WATCH_RESET_REASON_")


Change: TypeAlias = ExamplePut | ExampleDeleted | CaughtUp | StartOver


class Following:
    """Where one watcher stands, over all of its streams."""

    def __init__(self, *, token: bytes, namespaces: Iterable[str], watcher: str, uniform: Uniform) -> None:
        """Begins at a token.

        Args:
            token: of the last change that was applied; empty begins from nothing.
            namespaces: whose examples are followed; none follows all.
            watcher: names it in the metrics and logs of the Learner.
            uniform: for the pauses between streams.
        """
        self._token = token
        self._namespaces = tuple(namespaces)
        self._watcher = watcher
        self._uniform = uniform
        self._fruitless_count = 0

    def request(self) -> WatchUpdatesRequest:
        """Asks for what comes after what was received."""
        return WatchUpdatesRequest(
            resume_token=self._token, watcher=self._watcher, namespaces=self._namespaces
        )

    def changes(self, response: WatchUpdatesResponse) -> Iterator[Change]:
        """What a message says; one that says nothing to a client gives nothing."""
        match response.WhichOneof("message"):
            case "batch":
                yield from self._batch(response.batch)
            case "bookmark":
                yield self._caught_up(response.bookmark)
            case "reset":
                self._token = b""
                yield StartOver(reason=response.reset.reason)
            case "draining":
                self._moved(response.draining.token)

    def pause_s(self, error: CallError | None) -> float:
        """How long to wait before the next stream.

        Args:
            error: what the last one ended with; None when the Learner ended it in good order.

        Raises:
            CallError: that error, when another stream would end in the same way.
        """
        if error is not None and not isinstance(error, (UnavailableError, RateLimitedError)):
            raise error
        self._fruitless_count += 1
        # The exponent is bounded, since a float is.
        longest_s = min(PAUSE_S_MAX, PAUSE_S_FIRST * 2 ** min(self._fruitless_count - 1, 32))
        return self._uniform(0.0, longest_s)

    def _batch(self, batch: WatchBatch) -> Iterator[Change]:
        last = len(batch.updates) - 1
        for position, update in enumerate(batch.updates):
            if position == last:
                self._moved(batch.token)
            if update.HasField("deleted"):
                yield ExampleDeleted(
                    namespace=update.deleted.namespace,
                    id=update.deleted.id,
                    revision=update.revision,
                    token=self._token,
                )
            else:
                yield ExamplePut(example=update.put, revision=update.revision, token=self._token)
        self._moved(batch.token)
        if batch.HasField("bookmark"):
            yield self._caught_up(batch.bookmark)

    def _caught_up(self, bookmark: WatchBookmark) -> CaughtUp:
        self._moved(bookmark.token)
        return CaughtUp(
            revision=bookmark.revision, example_count=bookmark.example_count, token=bookmark.token
        )

    def _moved(self, token: bytes) -> None:
        self._token = token
        self._fruitless_count = 0
