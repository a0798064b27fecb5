"""Follows the Learner for ever: one WatchUpdates stream after another, over one channel.

Feeds what comes to the mirror, which decides what it means; what is here is when to call, when to give up a
call, and how long to wait. A call ends

    well        after Draining, or by the Learner or the network: the next one resumes
    silent      no message of any kind for `SILENCE_S_MAX`, which keepalive does not notice when the Learner's
                event loop is blocked: abandoned, the next one resumes
    refused     the Learner does not take it, or announces embeddings that this service cannot query: the last
                good state is served on, and the call is tried again slowly
    wrong       the state disagrees with a bookmark, or a message came where it may not: what was being
                received is dropped with its token, and the next call starts from nothing

However it ends, the call is cancelled, and cancelling the task that runs `run` ends both.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import grpc
from google.protobuf.duration_pb2 import Duration

from errata.serving.logs import get_logger
from errata.v1 import learner_pb2
from rag_service.clock import Clock
from rag_service.embedders import Embedders
from rag_service.errors import EmbedderRefusedError, RagError, StreamProtocolError
from rag_service.mirror import SILENCE_S_MAX, Mirror, Replica, Source
from rag_service.progress import Progress
from rag_service.read_your_writes import Epochs
from rag_service.reconnect import Reconnect
from rag_service.snapshot.keeper import SnapshotKeeper

if TYPE_CHECKING:
    from errata.v1.learner_pb2_grpc import LearnerServiceAsyncStub

BOOKMARK_INTERVAL_S: Final = 1
"""How often the Learner says, on a quiet stream, that nothing is missing."""
UPDATES_PER_SLICE_MAX: Final = 160
"""Changes applied in one go, as many as a usual batch has: a millisecond or two, after which searches and
health checks have their turn."""

_REFUSALS: Final = frozenset(
    {
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
"""What the same call would get again. Everything else may pass, CANCELLED too: thousands of calls that are
opened at once end in it."""

_WatchCall: TypeAlias = (
    "grpc.aio.UnaryStreamCall[learner_pb2.WatchUpdatesRequest, learner_pb2.WatchUpdatesResponse]"
)

_log = get_logger()


@dataclass(slots=True)
class _Stream:
    """The times of one call, by the clock of the subscriber."""

    waiting_since_s: float | None
    """Since when a message is awaited; None while one is worked on, which is no silence of the Learner."""
    opened_at_s: float | None = None
    """When the Hello was accepted."""
    heard_at_s: float = 0.0
    """When the last message came."""

    @property
    def lived_s(self) -> float:
        """From the Hello to the last message; 0 without a Hello."""
        return self.heard_at_s - self.opened_at_s if self.opened_at_s is not None else 0.0


class _Rest(NamedTuple):
    """What passes between two calls."""

    delay_s: float
    refused: bool = False
    """True when the Learner is there, and asking again sooner would be of no use."""


class Subscriber:
    """Keeps a mirror up to date."""

    def __init__(
        self,
        *,
        learner: "LearnerServiceAsyncStub",
        mirror: Mirror,
        progress: Progress,
        embedders: Embedders,
        reconnect: Reconnect,
        clock: Clock,
        watcher: str,
        namespaces: Sequence[str] = (),
        snapshots: SnapshotKeeper | None = None,
    ) -> None:
        """Does nothing until `run`.

        Args:
            learner: on the channel that all calls share.
            mirror: what to keep up to date.
            progress: of that mirror; tells whether a call waits for a token.
            embedders: gives the embedder that fits what a stream announces.
            reconnect: gives the delays between calls.
            clock: of the delays, and of the watch over silence.
            watcher: names this service in the Learner's metrics and logs.
            namespaces: the ones to follow; all of them when empty.
            snapshots: told of every bookmark, before and after; None where no snapshots are kept.
        """
        self._learner = learner
        self._mirror = mirror
        self._progress = progress
        self._embedders = embedders
        self._reconnect = reconnect
        self._clock = clock
        self._watcher = watcher
        self._namespaces = tuple(namespaces)
        self._snapshots = snapshots
        self.synced = asyncio.Event()
        """Set when there is a state to search: from the first bookmark that agrees with what was received, or
        from `resume_from` on."""
        self.reconnect_count = 0
        """Calls after the first."""

    def resume_from(self, replica: Replica) -> None:
        """Takes in the state of an earlier process; `run` goes on from it."""
        self._mirror.restore(replica)
        self.synced.set()

    async def run(self) -> None:
        """Follows the Learner until it is cancelled."""
        while True:
            await self._rest(await self._follow_once())
            self.reconnect_count += 1

    async def _rest(self, rest: _Rest) -> None:
        """Lets the delay pass, or less of it while somebody waits for what the next call may bring."""
        if rest.refused:
            await self._clock.sleep(rest.delay_s)
            return
        delay = asyncio.create_task(self._clock.sleep(rest.delay_s))
        hurry = asyncio.create_task(self._hurry())
        try:
            await asyncio.wait((delay, hurry), return_when=asyncio.FIRST_COMPLETED)
        finally:
            delay.cancel()
            hurry.cancel()
            await asyncio.gather(delay, hurry, return_exceptions=True)

    async def _hurry(self) -> None:
        """Returns a little after a call begins to wait for a token."""
        await self._progress.somebody_waits()
        await self._clock.sleep(self._reconnect.hurried_delay_s())

    async def _follow_once(self) -> _Rest:
        """Makes one call and sees it to its end; returns the delay before the next one."""
        resume_token = self._mirror.resume_token
        stream = _Stream(waiting_since_s=self._clock.monotonic_s())
        try:
            if await self._ended_in_silence(stream, resume_token):
                _log.warning("the Learner is silent, calling again", silence_s=SILENCE_S_MAX)
            else:
                _log.info("the stream ended, calling again")
        except EmbedderRefusedError as refused:
            _log.error("cannot follow the Learner, serving what there is", problem=refused.problem)
            return _Rest(self._reconnect.refused_delay_s(), refused=True)
        except grpc.aio.AioRpcError as error:
            return self._delay_after_status(error, stream, resume_token)
        except StreamProtocolError as error:
            _log.error("the state received is wrong, starting from nothing", problem=str(error))
            return self._delay_after_dropping(stream)
        except RagError as error:
            _log.error("the state cannot be held here, serving what there is", problem=str(error))
            self._mirror.rebuild()
            return _Rest(self._reconnect.refused_delay_s(), refused=True)
        except Exception:  # noqa: BLE001 - whatever broke the state, searches go on with the last good one
            _log.exception("the state received is unusable because of a bug, starting from nothing")
            return self._delay_after_dropping(stream)
        return _Rest(self._reconnect.delay_s(lived_s=stream.lived_s))

    def _delay_after_dropping(self, stream: _Stream) -> _Rest:
        # One live state that turned out wrong is replaced at once; a shadow that fails too must back off.
        lived_s = 0.0 if self._mirror.rebuilding else stream.lived_s
        self._mirror.rebuild()
        return _Rest(self._reconnect.delay_s(lived_s=lived_s))

    def _delay_after_status(self, error: grpc.aio.AioRpcError, stream: _Stream, resume_token: bytes) -> _Rest:
        code, details = error.code(), error.details()
        if code is grpc.StatusCode.INVALID_ARGUMENT and resume_token:
            _log.error("the Learner cannot read its token, starting from nothing", problem=details)
            self._mirror.rebuild()
            return _Rest(self._reconnect.delay_s(lived_s=0.0))
        if code in _REFUSALS:
            _log.error("the Learner refuses the call, serving what there is", code=code.name, problem=details)
            return _Rest(self._reconnect.refused_delay_s(), refused=True)
        _log.info("the stream broke, calling again", code=code.name, problem=details)
        return _Rest(self._reconnect.delay_s(lived_s=stream.lived_s))

    async def _ended_in_silence(self, stream: _Stream, resume_token: bytes) -> bool:
        """Makes the call and feeds the mirror until it ends well, or until it is silent for too long."""
        request = learner_pb2.WatchUpdatesRequest(
            resume_token=resume_token,
            watcher=self._watcher,
            embedder_fingerprint=await self._embedders.required_fingerprint(),
            bookmark_interval=Duration(seconds=BOOKMARK_INTERVAL_S),
            namespaces=self._namespaces,
        )
        call = self._learner.WatchUpdates(request)
        # A task of its own: a call that is cancelled raises CancelledError in whoever reads it, which must
        # not be taken for the cancellation of this task.
        reader = asyncio.create_task(self._read(call, stream))
        watchdog = asyncio.create_task(self._silence(stream))
        try:
            await asyncio.wait((reader, watchdog), return_when=asyncio.FIRST_COMPLETED)
            silent = not reader.done()
        finally:
            call.cancel()
            reader.cancel()
            watchdog.cancel()
            await asyncio.gather(reader, watchdog, return_exceptions=True)
        if not reader.cancelled():
            reader.result()
        return silent

    async def _silence(self, stream: _Stream) -> None:
        """Returns when no message has come for `SILENCE_S_MAX`."""
        remaining_s = SILENCE_S_MAX
        while remaining_s > 0:
            await self._clock.sleep(remaining_s)
            since_s = stream.waiting_since_s
            silence_s = 0.0 if since_s is None else self._clock.monotonic_s() - since_s
            remaining_s = SILENCE_S_MAX - silence_s

    async def _read(self, call: _WatchCall, stream: _Stream) -> None:
        """Feeds the mirror until the stream ends well."""
        coming = asyncio.ensure_future(call.read())
        try:
            while True:
                stream.waiting_since_s = self._clock.monotonic_s()
                message = await coming
                if message is grpc.aio.EOF:
                    return
                stream.waiting_since_s = None
                # gRPC gives None for what it cannot parse.
                if not isinstance(message, learner_pb2.WatchUpdatesResponse):
                    raise StreamProtocolError("a message that is none of the contract")
                stream.heard_at_s = self._clock.monotonic_s()
                # The next one comes while this one is worked on.
                coming = asyncio.ensure_future(call.read())
                await asyncio.sleep(0)
                await self._take(message, stream)
                if message.HasField("draining"):
                    return
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)

    async def _take(self, message: learner_pb2.WatchUpdatesResponse, stream: _Stream) -> None:
        if message.HasField("hello"):
            await self._open(message.hello)
            stream.opened_at_s = stream.heard_at_s
            return
        if stream.opened_at_s is None:
            raise StreamProtocolError("the stream does not begin with a Hello")
        self._mirror.heard()
        if message.HasField("batch"):
            await self._apply(message.batch)
        elif message.HasField("bookmark"):
            await self._mark(message.bookmark)
        elif message.HasField("reset"):
            reason = learner_pb2.WatchResetReason.Name(message.reset.reason)
            _log.warning("the Learner asks to start from nothing", reason=reason)
            self._mirror.reset()
        elif message.HasField("draining"):
            self._mirror.drain(message.draining.token)

    async def _open(self, hello: learner_pb2.WatchHello) -> None:
        embedder = await self._embedders.for_hello(hello)
        self._mirror.open(
            Source(
                store_id=hello.store_id,
                epochs=Epochs(hello.epochs),
                embedder=embedder,
                embedder_spec=hello.embedder,
            )
        )
        _log.info(
            "following the Learner", head_revision=hello.head_revision, example_count=hello.example_count
        )

    async def _apply(self, batch: learner_pb2.WatchBatch) -> None:
        updates = batch.updates
        for start in range(0, len(updates), UPDATES_PER_SLICE_MAX):
            if start:
                await asyncio.sleep(0)
            self._mirror.receive(updates[start : start + UPDATES_PER_SLICE_MAX])
        self._mirror.advance(batch.token)
        if batch.HasField("bookmark"):
            await self._mark(batch.bookmark)

    async def _mark(self, bookmark: learner_pb2.WatchBookmark) -> None:
        replaces = self._mirror.rebuilding
        if self._snapshots is not None and self._mirror.agrees_with(bookmark):
            # Before anybody is told: an example that is gone must not come back after a crash.
            await self._snapshots.record_deletions()
        if not self._mirror.bookmark(bookmark):
            raise StreamProtocolError(
                f"what was received differs from the Learner's state at revision {bookmark.revision}"
            )
        self.synced.set()
        if self._snapshots is not None:
            self._snapshots.bookmarked()
        live = self._mirror.live
        if replaces and live is not None:
            _log.info(
                "in sync with the Learner", revision=bookmark.revision, example_count=bookmark.example_count
            )
            await self._embedders.keep_only(live.source.embedder)
