"""What this service holds of the Learner's state: the state that is searched, and the one to replace it.

A state and the token that resumes it are one thing, a `Replica`: whoever drops one drops the other. There is
a live replica once a bookmark has proven the first; after a Reset, or a bookmark whose digest disagrees, a
shadow is received from nothing while the live one goes on answering, and takes its place at the first
bookmark that agrees with it.

    SYNCING      no live replica yet
    STALE        there is one, and no message came for `SILENCE_S_MAX`
    RESYNCING    there is one, messages come, and a shadow is to replace it
    LIVE         there is one, and messages come

Knows nothing of gRPC; `subscriber.py` feeds it. Used on one event loop; only searches may run elsewhere.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from errata.serving.logs import get_logger
from errata.v1 import learner_pb2, rag_pb2
from rag_service.clock import Clock
from rag_service.errors import StreamProtocolError
from rag_service.index import ExampleIndex, encoded_key
from rag_service.index_errors import StaleUpdateError
from rag_service.progress import Progress
from rag_service.read_your_writes import NO_EPOCHS, Epochs, token_for

SILENCE_S_MAX: Final = 15.0
"""A stream that is silent for so long is dead, and a state whose bookmark is older may be behind. The Learner
sends a bookmark each second."""

_log = get_logger()


class QueryEmbedder(Protocol):
    """Embeds queries as the documents of an index were embedded."""

    @property
    def fingerprint(self) -> str:
        """Names the embedder, its weights, its dimension and its text rules."""
        ...

    @property
    def dimension(self) -> int:
        """Length of its vectors."""
        ...

    async def query(self, text: str) -> NDArray[np.float32]:
        """The unit vector of a text, shape (dimension,)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a Hello says of the stream that it opens, and the embedder that fits it."""

    store_id: bytes
    epochs: Epochs
    embedder: QueryEmbedder
    embedder_spec: str = ""
    """As the Learner announces it."""


@dataclass(slots=True, kw_only=True, eq=False)
class Replica:
    """One state as received, and how to go on from it."""

    index: ExampleIndex
    source: Source
    """Of the Hello under which its newest change came."""
    resume_token: bytes = b""
    """Good for this state alone. Empty before the first batch."""
    own_epochs: Epochs = NO_EPOCHS
    """Of the Hello under which its last bookmark came."""
    applied_revision: int = 0
    """Of its last bookmark: what it is known to hold completely."""
    bookmark_time_s: float = field(default=0.0)
    """When that bookmark came."""
    at_bookmark: bool = False
    """True when nothing has come since."""
    deleted: dict[bytes, int] = field(default_factory=dict)
    """Key and revision of each deletion that has come since; see `updates.encoded_key`."""
    restored: bool = False
    """True when no bookmark has come since it was read from disk."""

    def continues_under(self, source: Source) -> bool:
        """Tells whether a stream of `source` can go on from this state without a Reset."""
        return (
            self.source.store_id == source.store_id
            and self.source.embedder.fingerprint == source.embedder.fingerprint
            and self.source.embedder.dimension == source.embedder.dimension
        )

    def agrees_with(self, bookmark: learner_pb2.WatchBookmark) -> bool:
        """Tells whether the bookmark describes exactly this state."""
        return (
            bookmark.revision >= max(self.applied_revision, self.index.received_revision)
            and bookmark.example_count == self.index.count
            and bookmark.digest == self.index.digest
            # One that is deleted here and live there, as after a restored backup, has to be received again.
            and not (self.restored and self.index.withheld_count)
        )

    def token(self, revision: int) -> bytes:
        """The token of a change that this state has received; empty for 0."""
        return token_for(revision, self.source.epochs, self.source.store_id)


class Mirror:
    """The live replica and its shadow, fed with the messages of one stream after another."""

    def __init__(
        self, *, build_index: Callable[[int], ExampleIndex], progress: Progress, clock: Clock
    ) -> None:
        """Starts with nothing.

        Args:
            build_index: an empty index for vectors of a dimension.
            progress: told of each Hello and of each bookmark of the live replica.
            clock: tells how old the last bookmark is.
        """
        self._build_index = build_index
        self._progress = progress
        self._clock = clock
        self._live: Replica | None = None
        # Invariant: without a live replica it is always being rebuilt.
        self._rebuilding = True
        self._shadow: Replica | None = None
        self._source: Source | None = None
        # True from a Hello that the receiving replica does not continue under to the Reset that must follow.
        self._reset_is_due = False
        self._heard_at_s = clock.monotonic_s()
        self.resync_count = 0
        """Times that a live replica had to be replaced."""

    @property
    def live(self) -> Replica | None:
        """The replica to search; None before the first bookmark."""
        return self._live

    @property
    def rebuilding(self) -> bool:
        """True while the state is received from nothing."""
        return self._rebuilding

    @property
    def receiving(self) -> Replica | None:
        """The replica that a stream feeds: the live one, or its shadow while that is received."""
        return self._shadow if self._rebuilding else self._live

    @property
    def resume_token(self) -> bytes:
        """What the next stream goes on from; empty for a state that is to be received from nothing."""
        receiving = self.receiving
        return receiving.resume_token if receiving is not None else b""

    @property
    def state(self) -> rag_pb2.IndexState.ValueType:
        """What the index is doing, now."""
        if self._live is None:
            return rag_pb2.INDEX_STATE_SYNCING
        if self._clock.monotonic_s() - self._heard_at_s > SILENCE_S_MAX:
            return rag_pb2.INDEX_STATE_STALE
        return rag_pb2.INDEX_STATE_RESYNCING if self._rebuilding else rag_pb2.INDEX_STATE_LIVE

    def staleness_s(self, replica: Replica) -> float:
        """Seconds since the replica was last known to be up to date."""
        return max(0.0, self._clock.monotonic_s() - replica.bookmark_time_s)

    def degraded(self, replica: Replica) -> bool:
        """True when an answer from the replica may lack something that the Learner has."""
        return (
            self._rebuilding
            or replica is not self._live
            or replica.restored
            or self.staleness_s(replica) > SILENCE_S_MAX
            or replica.index.quarantined_count > 0
        )

    def restore(self, replica: Replica) -> None:
        """Takes in a state that an earlier process held at a bookmark: it is served until more is heard."""
        self._live = replica
        self._rebuilding = False
        self._heard_at_s = -math.inf
        self._progress.bookmark(replica.source.store_id, replica.own_epochs, replica.applied_revision)

    def open(self, source: Source) -> None:
        """Takes in that a stream begins."""
        self.heard()
        self._source = source
        self._progress.hello(source.store_id, source.epochs)
        receiving = self.receiving
        if receiving is None or not receiving.resume_token:
            # A call without a token is owed no Reset, whatever the store.
            self._shadow = self._fresh(source)
            self._reset_is_due = False
        else:
            self._reset_is_due = not receiving.continues_under(source)

    def heard(self) -> None:
        """Takes in that the Learner is there."""
        self._heard_at_s = self._clock.monotonic_s()

    def receive(self, updates: Sequence[learner_pb2.ExampleUpdate]) -> None:
        """Applies changes to the replica that the stream feeds.

        Raises:
            StreamProtocolError: a Reset was due, or the changes are out of order.
            RagError: the index cannot hold them.
        """
        receiving, source = self._fed()
        receiving.source = source
        receiving.at_bookmark = False
        for update in updates:
            if update.HasField("deleted"):
                receiving.deleted[encoded_key(update.deleted.namespace, update.deleted.id)] = update.revision
        try:
            quarantined = receiving.index.apply(updates)
        except StaleUpdateError as error:
            raise StreamProtocolError(str(error)) from error
        for example in quarantined:
            key = example.key.decode(errors="replace")
            _log.warning(
                "malformed example received, not searchable",
                key=key,
                revision=example.revision,
                reason=example.reason,
            )

    def drain(self, resume_token: bytes) -> None:
        """Takes in the token that a stream which ends gives in parting."""
        # Before a Reset that did not come any more, the Learner gives back what it was given.
        if not self._reset_is_due:
            self.advance(resume_token)

    def advance(self, resume_token: bytes) -> None:
        """Takes in the token of the state as it now is.

        Raises:
            StreamProtocolError: a Reset was due.
        """
        receiving, _ = self._fed()
        receiving.resume_token = resume_token

    def agrees_with(self, bookmark: learner_pb2.WatchBookmark) -> bool:
        """Tells whether `bookmark` will find that the replica which the stream feeds agrees.

        Raises:
            StreamProtocolError: a Reset was due.
        """
        return self._fed()[0].agrees_with(bookmark)

    def bookmark(self, bookmark: learner_pb2.WatchBookmark) -> bool:
        """Compares the replica that the stream feeds with the bookmark; if they agree, makes it the live one.

        Returns:
            False when they disagree: then nothing has changed, and the replica is not to be trusted.

        Raises:
            StreamProtocolError: a Reset was due.
        """
        receiving, source = self._fed()
        if not receiving.agrees_with(bookmark):
            return False
        receiving.resume_token = bookmark.token
        receiving.own_epochs = source.epochs
        receiving.applied_revision = bookmark.revision
        receiving.bookmark_time_s = self._clock.monotonic_s()
        receiving.at_bookmark = True
        receiving.deleted.clear()
        receiving.restored = False
        if self._live is not receiving:
            receiving.index.end_filling()
        self._live = receiving
        self._shadow = None
        self._rebuilding = False
        self._progress.bookmark(source.store_id, source.epochs, bookmark.revision)
        return True

    def reset(self) -> None:
        """Takes in that the stream goes on from nothing."""
        if self._source is None:
            raise StreamProtocolError("a Reset came before the Hello")
        self.rebuild()
        self._shadow = self._fresh(self._source)
        self._reset_is_due = False

    def rebuild(self) -> None:
        """Drops the state that is being received, its token included; the next stream starts from nothing."""
        if not self._rebuilding:
            self.resync_count += 1
        self._rebuilding = True
        self._shadow = None

    def _fed(self) -> tuple[Replica, Source]:
        receiving, source = self.receiving, self._source
        if receiving is None or source is None or self._reset_is_due:
            raise StreamProtocolError("the stream goes on from a state that it does not continue")
        return receiving, source

    def _fresh(self, source: Source) -> Replica:
        index = self._build_index(source.embedder.dimension)
        index.begin_filling()
        return Replica(index=index, source=source)
