"""A client of WatchUpdates that believes nothing: it checks each promise of the stream as a replica sees it.

`Copy` is the state of one client and judges each message; `Ledger` is what all clients of one store must
agree on; `Follower` keeps a copy up to date over the network, through whatever breaks. What the checks need
of the contract is written down here anew, so that an error in the services' own code is not shared.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, NamedTuple

import grpc
from google.protobuf.duration_pb2 import Duration

from errata.serving.channel import channel_options
from errata.v1 import learner_pb2 as pb
from errata.v1.learner_pb2_grpc import LearnerServiceStub

SILENCE_S_MAX: Final = 3.0
"""A stream without a message for so long is given up; bookmarks come every `BOOKMARK_INTERVAL_S`."""
BOOKMARK_INTERVAL_S: Final = 0.2
RECONNECT_S_MAX: Final = 0.2
CONTENTS_SHOWN: Final = 40
"""Characters of an example, from its end, that the ledger keeps: of thousands of changes."""

Key = tuple[str, str]
"""Namespace and ID."""


class ViolationError(AssertionError):
    """The stream broke one of its promises."""


class Row(NamedTuple):
    """A live example as a client holds it."""

    revision: int
    contents: str
    """Of the first block of its answer."""


class Proof(NamedTuple):
    """What a bookmark says of a state."""

    example_count: int
    digest: bytes


class Moment(NamedTuple):
    """A revision and the epoch that gave it: a restored store gives revisions again, in another epoch."""

    epoch: int
    """Its nonce; 0 for the revision 0, which none gave."""
    revision: int


@dataclass
class Ledger:
    """What every client of a store must see alike: a moment is one change, and one state."""

    changes: dict[Moment, tuple[Key, str]] = field(default_factory=dict)
    """The example, and what became of it."""
    proofs: dict[tuple[tuple[str, ...], Moment], Proof] = field(default_factory=dict)
    """By namespaces."""
    violations: list[str] = field(default_factory=list)
    """What went wrong, for the test to find none."""

    def change(self, moment: Moment, key: Key, change: str) -> None:
        known = self.changes.setdefault(moment, (key, change))
        if known != (key, change):
            raise ViolationError(f"{moment} was {known}, now it is {(key, change)}")

    def proof(self, namespaces: tuple[str, ...], moment: Moment, proof: Proof) -> None:
        known = self.proofs.setdefault((namespaces, moment), proof)
        if known != proof:
            raise ViolationError(f"the state at {moment} was {known}, now it is {proof}")


class Copy:
    """What one client holds, with its token; judges each message that it takes."""

    def __init__(self, ledger: Ledger, namespaces: Sequence[str] = ()) -> None:
        self.ledger = ledger
        self.namespaces = tuple(sorted(namespaces))
        self.rows: dict[Key, Row] = {}
        self.resume_token = b""
        self.received_revision = 0
        """Of the newest change."""
        self.bookmark_revision = 0
        """Of the newest bookmark."""
        self.update_count = 0
        """Changes received, over all streams."""
        self.bookmark_count = 0
        self.resets: list[str] = []
        """The reasons of those received."""
        self._store_id = b""
        self._epochs: list[Moment] = []
        self._resumed = self._opened = self._ended = self._reset_is_due = False

    def begin_stream(self) -> bytes:
        """Forgets the stream before; returns the token for the next one."""
        self._opened = self._ended = self._reset_is_due = False
        self._resumed = bool(self.resume_token)
        return self.resume_token

    def take(self, message: pb.WatchUpdatesResponse) -> None:
        """Takes in one message.

        Raises:
            ViolationError: it breaks a promise.
        """
        kind = message.WhichOneof("message")
        self._check(not self._ended, "a message came after Draining")
        self._check(self._opened == (kind != "hello"), "Hello comes first, and once")
        self._check(
            not self._reset_is_due or kind in ("reset", "draining"), "a Reset was due: the history is another"
        )
        match kind:
            case "hello":
                self._hello(message.hello)
            case "batch":
                self._batch(message.batch)
            case "bookmark":
                self._bookmark(message.bookmark)
            case "reset":
                self._reset(message.reset)
            case "draining":
                self._ended = True
                if not self._reset_is_due:
                    self._advance(message.draining.token)
            case _:
                raise ViolationError("a message that says nothing")

    def _hello(self, hello: pb.WatchHello) -> None:
        self._opened = True
        self._epochs = [Moment(epoch.nonce, epoch.start_revision) for epoch in hello.epochs]
        starts = [epoch.revision for epoch in self._epochs]
        self._check(bool(starts) and starts == sorted(starts), "epochs are listed in order")
        self._check(starts[-1] <= hello.head_revision, "an epoch begins at the head or below")
        lost = hello.store_id != self._store_id or hello.head_revision < self.bookmark_revision
        self._reset_is_due = self._resumed and lost
        self._store_id = hello.store_id

    def _batch(self, batch: pb.WatchBatch) -> None:
        self._check(len(batch.updates) > 0, "a batch has updates")
        for update in batch.updates:
            self._check(
                update.revision > self.received_revision,
                f"revision {update.revision} comes after {self.received_revision}: twice, or out of order",
            )
            self._apply(update)
            self.received_revision = update.revision
            self.update_count += 1
        self._advance(batch.token)
        if batch.HasField("bookmark"):
            self._check(batch.bookmark.token == batch.token, "a batch and its bookmark have one token")
            self._bookmark(batch.bookmark)

    def _apply(self, update: pb.ExampleUpdate) -> None:
        if update.HasField("put"):
            key, contents = (update.put.namespace, update.put.id), update.put.answer[0].contents
            self.rows[key] = Row(update.revision, contents)
            self.ledger.change(self._moment(update.revision), key, f"put …{contents[-CONTENTS_SHOWN:]}")
        else:
            self._check(update.HasField("deleted"), "an update puts or deletes")
            key = (update.deleted.namespace, update.deleted.id)
            self.rows.pop(key, None)
            self.ledger.change(self._moment(update.revision), key, "deleted")
        self._check(not self.namespaces or key[0] in self.namespaces, f"nobody asked for {key}")

    def _bookmark(self, bookmark: pb.WatchBookmark) -> None:
        revision = bookmark.revision
        self._check(
            revision >= max(self.received_revision, self.bookmark_revision),
            f"bookmark {revision} is behind what was received",
        )
        said, held = Proof(bookmark.example_count, bookmark.digest), self.proof()
        self._check(said == held, f"at revision {revision} the bookmark says {said}, held is {held}")
        self.ledger.proof(self.namespaces, self._moment(revision), said)
        self.bookmark_revision = revision
        self.bookmark_count += 1
        self._advance(bookmark.token)

    def _reset(self, reset: pb.WatchReset) -> None:
        self._check(self._resumed, "a stream from nothing has nothing to drop")
        self.resets.append(pb.WatchResetReason.Name(reset.reason).removeprefix("WATCH_RESET_REASON_"))
        self.rows.clear()
        self.resume_token = b""
        self.received_revision = self.bookmark_revision = 0
        self._resumed = self._reset_is_due = False

    def _moment(self, revision: int) -> Moment:
        """The revision in the last epoch that begins below it."""
        nonces = [epoch.epoch for epoch in self._epochs if epoch.revision < revision]
        self._check(revision == 0 or bool(nonces), f"no epoch gave revision {revision}")
        return Moment(nonces[-1] if nonces else 0, revision)

    def _advance(self, token: bytes) -> None:
        self._check(token != b"", "a token is not empty")
        self.resume_token = token

    def proof(self) -> Proof:
        """Count and digest of what is held, by the definition of WatchBookmark."""
        total = 0
        for (namespace, example_id), row in self.rows.items():
            text = namespace.encode() + b"\0" + example_id.encode() + b"\0" + row.revision.to_bytes(8, "big")
            total += int.from_bytes(blake2b(text, digest_size=16).digest(), "big")
        return Proof(len(self.rows), (total % 2**128).to_bytes(16, "big"))

    @staticmethod
    def _check(held: bool, promise: str) -> None:  # noqa: FBT001 - it reads like an assert
        if not held:
            raise ViolationError(promise)


class Follower:
    """Keeps a copy up to date for ever: resumes with its token whatever ended the stream before."""

    def __init__(
        self,
        name: str,
        address: str,
        ledger: Ledger,
        *,
        namespaces: Sequence[str] = (),
        pause_s: float = 0.0,
        silence_s_max: float = SILENCE_S_MAX,
    ) -> None:
        """Does nothing until `run`.

        Args:
            name: for the Learner's metrics and for violations.
            address: of the Learner, or of a proxy before it.
            ledger: shared by all followers of one store.
            namespaces: the ones to follow; all of them when empty.
            pause_s: between a message and the next one that is read, of a slow one.
            silence_s_max: when a stream is given up.
        """
        self.name = name
        self.copy = Copy(ledger, namespaces)
        self.pause_s = pause_s
        """May be changed at any time."""
        self.stream_count = 0
        """Streams that began with a Hello."""
        self._address = address
        self._silence_s_max = silence_s_max
        self._changed = asyncio.Condition()

    async def run(self) -> None:
        """Follows until it is cancelled, or until a promise is broken: that is noted in the ledger."""
        try:
            while True:
                await self._follow_once()
                await asyncio.sleep(random.uniform(0.0, RECONNECT_S_MAX))
        except ViolationError as violation:
            self.copy.ledger.violations.append(f"{self.name}: {violation}")

    async def until(self, holds: Callable[[Copy], bool], seconds: float) -> None:
        """Returns when something holds of the copy.

        Raises:
            TimeoutError: it did not in time, or the ledger has violations, which the message then lists.
        """
        ledger = self.copy.ledger
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: holds(self.copy) or bool(ledger.violations))
        except TimeoutError:
            raise TimeoutError(
                f"{self.name} is at {self.copy.received_revision}, bookmark {self.copy.bookmark_revision}, "
                f"after {self.stream_count} streams"
            ) from None
        if ledger.violations:
            raise TimeoutError(f"{self.name} waits in vain: {ledger.violations}")

    async def _follow_once(self) -> None:
        request = pb.WatchUpdatesRequest(
            resume_token=self.copy.begin_stream(),
            watcher=self.name,
            bookmark_interval=Duration(nanos=round(BOOKMARK_INTERVAL_S * 1e9)),
            namespaces=self.copy.namespaces,
        )
        # A channel of its own: over an old one a black hole would swallow the next call too.
        async with grpc.aio.insecure_channel(self._address, options=channel_options()) as channel:
            call = LearnerServiceStub(channel).WatchUpdates(request)
            try:
                async with asyncio.timeout(self._silence_s_max) as silence:
                    async for message in call:
                        self.copy.take(message)
                        self.stream_count += message.HasField("hello")
                        async with self._changed:
                            self._changed.notify_all()
                        await asyncio.sleep(self.pause_s)
                        silence.reschedule(asyncio.get_running_loop().time() + self._silence_s_max)
            except TimeoutError:
                pass
            except grpc.aio.AioRpcError as error:
                if error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL):
                    raise ViolationError(
                        f"the call ended with {error.code().name}: {error.details()}"
                    ) from error
            finally:
                call.cancel()
