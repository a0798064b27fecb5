"""A RAG service: the real `Mirror` and the real `Progress`, and around them a call at a time.

Everything that a bookmark promises is compared with the oracle, at every bookmark.
"""

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from errata import digest
from errata.v1.learner_pb2 import WatchBookmark, WatchHello, WatchResetReason, WatchUpdatesResponse
from learner_service.change_feed import WatchOptions
from rag_service.errors import StreamProtocolError
from rag_service.index import ExampleIndex
from rag_service.mirror import Replica, Source
from rag_service.read_your_writes import Epochs, Verdict
from tests.model.held_examples import HeldExamples
from tests.model.learner import Given, Learner, given
from tests.model.oracle import TrueState
from tests.model.promises import promise
from tests.model.rules import Rules
from tests.model.stream import Sent, Stream
from tests.rag_service.manual_clock import ManualClock


@dataclass(frozen=True, slots=True)
class ToyEmbedder:
    """Names an embedder."""

    fingerprint: str
    dimension: int

    async def query(self, text: str) -> NDArray[np.float32]:
        raise NotImplementedError(text)


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """What a process leaves behind on its disk, taken at a bookmark."""

    replica: Replica
    namespaces: frozenset[str]
    applied: TrueState
    announced_by: Learner


class Client:
    """See the module. One process, that holds at most one stream."""

    def __init__(self, rules: Rules, snapshot: Snapshot | None = None) -> None:
        """Starts on a snapshot, or with nothing, following every namespace."""
        self.namespaces: frozenset[str] = frozenset()
        """What the next call asks for."""
        self.stream: Stream | None = None
        self.announced_by: Learner | None = None
        """The process whose Hello came last."""
        self.applied: TrueState | None = None
        """What is true of the state that the last bookmark came for."""
        self.bookmark_count = 0
        self.listed_epochs: frozenset[int] = frozenset()
        """Those of the last Hello."""
        self._rules = rules
        self._arriving = TrueState()
        clock = ManualClock()
        self._progress = rules.progress(clock=clock)
        self._mirror = rules.mirror(build_index=self._build_index, progress=self._progress, clock=clock)
        self.snapshot = snapshot
        """The last one that was taken."""
        if snapshot is not None:
            self._restore(snapshot)

    def call(self) -> WatchOptions:
        """What a call of WatchUpdates asks for, to go on from what is held."""
        return WatchOptions(
            watcher="model",
            resume_token=self._mirror.resume_token,
            embedder_fingerprint="",
            namespaces=self.namespaces,
            bookmark_interval_s=1.0,
        )

    def take_snapshot(self) -> None:
        """Saves the live state. The last message was its bookmark."""
        live = self._mirror.live
        assert live is not None
        assert self.applied is not None
        assert self.announced_by is not None
        assert self.stream is not None
        saved = replace(live, index=self._copy(live))
        self.snapshot = Snapshot(saved, self.stream.options.namespaces, self.applied, self.announced_by)

    def take(self, sent: Sent) -> str:
        """Takes in one message; returns what it was.

        Raises:
            BrokenPromiseError: it is not what was promised.
        """
        self._arriving = sent.truth
        response = WatchUpdatesResponse.FromString(sent.message)
        try:
            self._feed_mirror(response, sent)
        except StreamProtocolError as error:
            promise(False, f"a stream keeps to its contract: {error}")
        if response.HasField("reset"):
            return WatchResetReason.Name(response.reset.reason)
        return str(response.WhichOneof("message"))

    def verdict(self, asked: Given) -> Verdict:
        """What is said of a token now."""
        return self._progress.decide(asked.token)

    def search_token(self) -> Given | None:
        """The token that a search would be answered with now."""
        live = self._mirror.live
        if live is None:
            return None
        held = _held(live)
        token = live.token(held.received_revision)
        if not token:
            return None
        return given(token, held.source.changes[held.received_revision])

    def _feed_mirror(self, response: WatchUpdatesResponse, sent: Sent) -> None:
        """As `Subscriber._take`."""
        match response.WhichOneof("message"):
            case "hello":
                self._open(response.hello, sent.learner)
            case "batch":
                self._mirror.receive(response.batch.updates)
                self._mirror.advance(response.batch.token)
                if response.batch.HasField("bookmark"):
                    promise(response.batch.bookmark.token == response.batch.token, "a batch has one token")
                    self._mark(response.batch.bookmark, sent.truth)
            case "bookmark":
                self._mark(response.bookmark, sent.truth)
            case "reset":
                self._mirror.reset()
            case "draining":
                self._mirror.drain(response.draining.token)

    def _open(self, hello: WatchHello, learner: Learner) -> None:
        embedder = ToyEmbedder(hello.embedder_fingerprint, hello.dimension)
        epochs = Epochs(hello.epochs)
        self._mirror.open(Source(store_id=hello.store_id, epochs=epochs, embedder=embedder))
        self.announced_by = learner
        self.listed_epochs = frozenset(epoch.nonce for epoch in hello.epochs)

    def _mark(self, bookmark: WatchBookmark, truth: TrueState) -> None:
        assert self.stream is not None
        then = truth.at(bookmark.revision)
        expected = then.examples(self.stream.options.namespaces)
        total = 0
        for key, (revision, _) in expected.items():
            total = digest.add(total, digest.row_hash(key.encode(), revision))
        promise(bookmark.example_count == len(expected), "a bookmark counts the examples")
        promise(bookmark.digest == digest.encode(total), "a bookmark has the digest of the examples")
        promise(self._mirror.bookmark(bookmark), "what was received agrees with the bookmark")
        live = self._mirror.live
        assert live is not None
        promise(_held(live).examples == expected, "at a bookmark the client holds the true state")
        promise(then.revision == bookmark.revision, "a bookmark is of a revision that there was")
        self.applied = then
        self.bookmark_count += 1

    def _restore(self, snapshot: Snapshot) -> None:
        restored = replace(snapshot.replica, index=self._copy(snapshot.replica), restored=True)
        self._mirror.restore(restored)
        self.namespaces = snapshot.namespaces
        self.applied = snapshot.applied
        self.announced_by = snapshot.announced_by

    def _copy(self, replica: Replica) -> ExampleIndex:
        return cast("ExampleIndex", _held(replica).copy(lambda: self._arriving))

    def _build_index(self, dimension: int) -> ExampleIndex:
        del dimension
        return cast("ExampleIndex", HeldExamples(lambda: self._arriving))


def _held(replica: Replica) -> HeldExamples:
    return cast("HeldExamples", replica.index)
