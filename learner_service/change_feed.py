"""Streams every change of an example after a token, as WatchUpdates promises.

Ordered, unique, complete: a stream is a cursor over the log of the store, read in bounded chunks; there is no
queue a watcher, so a slow one costs its cursor and nothing else. Bookmarkable and verifiable: a chunk whose
scan reached the end of the log carries head, count and digest of the very transaction that proved it.
Resumable: each batch carries the position after it, and a position is checked again for every chunk.

Watchers that stand at the same place receive the same bytes, encoded once.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from errata import digest
from errata.v1.learner_pb2 import (
    Epoch,
    WatchBookmark,
    WatchDraining,
    WatchHello,
    WatchReset,
    WatchUpdatesResponse,
)
from learner_service import tokens
from learner_service.errors import EmbedderMismatchError
from learner_service.store.read_transaction import ReadTransaction
from learner_service.store.store import Commit, Store
from learner_service.tokens import WatchPosition

BATCH_BYTES_MAX: Final = 256 * 1024
"""Smaller batches sync several times slower; larger ones gain little and delay the first."""

SCANNED_ROWS_MAX: Final = 4_096
"""Bounds a chunk of a stream of few namespaces, whose rows may lie far apart."""

INLINE_REVISIONS_MAX: Final = 64
"""A chunk of so few new rows is read on the event loop: its pages are warm, and a thread costs more."""

SHARED_CHUNKS_MAX: Final = 64
"""Watchers at the head stand at one place, those that reconnect at many: these bound the memory."""

_JITTER: Final = 0.2
"""Bookmarks of many streams opened at once spread over this part of the interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOptions:
    """What a watcher asked for, checked."""

    watcher: str
    resume_token: bytes
    embedder_fingerprint: str
    namespaces: frozenset[str]
    bookmark_interval_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedderIdentity:
    """The embedder of the vectors in the store, as the Hello announces it."""

    spec: str
    fingerprint: str
    dimension: int


class WatcherLag(NamedTuple):
    """How far a watcher is behind, at most."""

    watcher: str
    revision_count: int


class Chunk(NamedTuple):
    """What one read of the log gave."""

    message: bytes
    """An encoded WatchUpdatesResponse; empty when there is nothing to say yet."""
    position: WatchPosition
    complete: bool
    """True when the scan reached the end of the log; the message then carries a bookmark."""


@dataclass(eq=False, slots=True)
class _Watcher:
    """One open stream. There may be thousands: an Event and a timeout each would be 1.2 KiB more."""

    options: WatchOptions
    cursor: int = 0
    woken: bool = False
    """Whether there may be news; for the stream to clear before it looks."""
    _waiting: "asyncio.Future[None] | None" = None

    def wake(self) -> None:
        """Says that there may be news."""
        self.woken = True
        self._stop_waiting()

    async def woken_within(self, seconds: float) -> bool:
        """Waits until there may be news; False when there was none in time."""
        if not self.woken:
            loop = asyncio.get_running_loop()
            self._waiting = loop.create_future()
            alarm = loop.call_later(seconds, self._stop_waiting)
            try:
                await self._waiting
            finally:
                alarm.cancel()
                self._waiting = None
        return self.woken

    def _stop_waiting(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class ChangeFeed:
    """Serves any number of streams on one event loop. See the module."""

    def __init__(
        self,
        store: Store,
        embedder: EmbedderIdentity,
        *,
        check_ready: Callable[[], None] = lambda: None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Has no streams yet.

        Args:
            store: whose changes are streamed.
            embedder: of the vectors in it.
            check_ready: raises ReembeddingError while they are of another one too.
            jitter: spreads bookmarks, in [0, 1).
        """
        self._store = store
        self._check_ready = check_ready
        self._embedder = embedder
        self._jitter = jitter
        self._watchers: set[_Watcher] = set()
        self._watcher_gone = asyncio.Event()
        self._draining = False
        # Counts commits that changed examples: a chunk read at one count serves all who stand where it began.
        self._commit_count = 0
        # The namespaces too: a call may present the token of another filter, and must then get its Reset.
        self._chunks_at_head: dict[tuple[WatchPosition, frozenset[str]], Chunk] = {}

    def follow_commits(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts waking watchers, on `loop`, whenever the store commits a change of an example."""
        self._store.on_commit(lambda commit: _call_soon(loop, self._committed, commit))

    async def watch(self, options: WatchOptions) -> AsyncGenerator[bytes, None]:
        """The messages of one stream, encoded.

        Raises:
            TokenMalformedError: the token cannot be read.
            ReembeddingError: the vectors in the store are of two embedders, for a while.
            EmbedderMismatchError: the watcher has another embedder than the store.
        """
        self._check_ready()
        wanted = options.embedder_fingerprint
        if wanted and wanted != self._embedder.fingerprint:
            raise EmbedderMismatchError(want=wanted, got=self._embedder.fingerprint)
        held = tokens.WatchPosition.decode(options.resume_token) if options.resume_token else None
        watcher = _Watcher(options)
        self._watchers.add(watcher)
        # One generator, though it is long: each coroutine within would cost a stream another 0.3 KiB.
        try:
            yield self._hello(options)
            position = held if held is not None else self._start(options)
            bookmark_due = True
            while not self._draining:
                watcher.woken = False
                chunk = await self._read(position, options)
                # A wake may come for a change that was read already: then there is nothing to say.
                news = bookmark_due or chunk.position != position
                position = chunk.position
                watcher.cursor = position.cursor
                if chunk.message and news:
                    yield chunk.message
                wait_s = options.bookmark_interval_s * (1 - _JITTER * self._jitter())
                bookmark_due = not chunk.complete or not await watcher.woken_within(wait_s)
            yield WatchUpdatesResponse(draining=WatchDraining(token=position.encode())).SerializeToString()
        finally:
            self._watchers.discard(watcher)
            self._watcher_gone.set()

    async def drain(self) -> None:
        """Ends every stream with Draining, and each later one at once; returns when all have ended."""
        self._draining = True
        for watcher in self._watchers:
            watcher.wake()
        while self._watchers:
            self._watcher_gone.clear()
            await self._watcher_gone.wait()

    def lags(self) -> list[WatcherLag]:
        """The open streams, by name."""
        with self._store.read() as transaction:
            head = transaction.head_revision
        # Copied in one step: this runs in a thread, while streams come and go.
        watchers = list(self._watchers)
        lags = (WatcherLag(each.options.watcher, head - each.cursor) for each in watchers)
        return sorted(lags)

    @property
    def watcher_count(self) -> int:
        """Number of open streams."""
        return len(self._watchers)

    async def _read(self, position: WatchPosition, options: WatchOptions) -> Chunk:
        # No await between taking the count and using the cache: a commit cannot come between them.
        if (ready := self._chunks_at_head.get((position, options.namespaces))) is not None:
            return ready
        count = self._commit_count
        with self._store.read() as transaction:
            few = transaction.head_revision - position.cursor <= INLINE_REVISIONS_MAX
        if few:
            chunk = self._read_chunk(position, options)
        else:
            chunk = await asyncio.to_thread(self._read_chunk, position, options)
        shareable = chunk.complete and count == self._commit_count
        if shareable and len(self._chunks_at_head) < SHARED_CHUNKS_MAX:
            self._chunks_at_head[position, options.namespaces] = chunk
        return chunk

    def _read_chunk(self, position: WatchPosition, options: WatchOptions) -> Chunk:
        with self._store.read() as transaction:
            reason = tokens.reset_reason(
                position, transaction, options.namespaces, self._embedder.fingerprint
            )
            if reason is not None:
                start = tokens.start_position(transaction, options.namespaces, self._embedder.fingerprint)
                reset = WatchUpdatesResponse(reset=WatchReset(reason=reason))
                return Chunk(reset.SerializeToString(), start, complete=False)
            return scan(transaction, position, options)

    def _start(self, options: WatchOptions) -> WatchPosition:
        with self._store.read() as transaction:
            return tokens.start_position(transaction, options.namespaces, self._embedder.fingerprint)

    def _hello(self, options: WatchOptions) -> bytes:
        with self._store.read() as transaction:
            hello = WatchHello(
                store_id=transaction.store_id,
                embedder_fingerprint=self._embedder.fingerprint,
                dimension=self._embedder.dimension,
                head_revision=transaction.head_revision,
                example_count=transaction.tally(options.namespaces).count,
                epochs=(
                    Epoch(nonce=epoch.nonce, start_revision=epoch.start_revision)
                    for epoch in transaction.epochs()
                ),
                embedder=self._embedder.spec,
            )
        return WatchUpdatesResponse(hello=hello).SerializeToString()

    def _committed(self, commit: Commit) -> None:
        if not commit.changed_namespaces:
            return
        self._commit_count += 1
        self._chunks_at_head.clear()
        for watcher in self._watchers:
            wanted = watcher.options.namespaces
            if not wanted or not wanted.isdisjoint(commit.changed_namespaces):
                watcher.wake()


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[[Commit], None], commit: Commit) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(callback, commit)


def scan(
    transaction: ReadTransaction,
    position: WatchPosition,
    options: WatchOptions,
    *,
    scanned_rows_max: int = SCANNED_ROWS_MAX,
    batch_bytes_max: int = BATCH_BYTES_MAX,
) -> Chunk:
    """Reads the rows above a position, up to the bounds of a chunk, and encodes them as one message."""
    head = transaction.head_revision
    epoch = next(transaction.durable_epochs()).nonce
    namespaces = frozenset(name.encode() for name in options.namespaces)
    updates: list[bytes] = []
    update_bytes, cursor, complete = 0, position.cursor, True
    for scanned, (revision, row) in enumerate(transaction.log_after(position.cursor)):
        if scanned == scanned_rows_max:
            complete = False
            break
        # A scan from nothing needs no deletion made before it began.
        if (row.live or revision > position.base) and (not namespaces or row.namespace in namespaces):
            if updates and update_bytes + len(row.update) > batch_bytes_max:
                complete = False
                break
            updates.append(row.update)
            update_bytes += len(row.update)
        cursor = revision
    after = position.advanced(cursor=cursor, head=head, epoch=epoch)
    if complete:
        after = after.bookmarked(head)
    token = after.encode()
    bookmark = _bookmark(transaction, options, token) if complete else b""
    if updates:
        return Chunk(_encode_batch(updates, token, bookmark), after, complete)
    return Chunk(_tagged(_RESPONSE_BOOKMARK, bookmark) if complete else b"", after, complete)


def _bookmark(transaction: ReadTransaction, options: WatchOptions, token: bytes) -> bytes:
    tally = transaction.tally(options.namespaces)
    return WatchBookmark(
        token=token,
        revision=transaction.head_revision,
        example_count=tally.count,
        digest=digest.encode(tally.digest),
    ).SerializeToString()


# Stored updates go out as they are: a batch is written field by field around them. Each constant is the tag
# of a length-delimited field, number << 3 | 2, and a test compares the result with the generated messages.
_RESPONSE_BATCH: Final = 2 << 3 | 2
_RESPONSE_BOOKMARK: Final = 3 << 3 | 2
_BATCH_UPDATES: Final = 1 << 3 | 2
_BATCH_TOKEN: Final = 2 << 3 | 2
_BATCH_BOOKMARK: Final = 3 << 3 | 2


def _encode_batch(updates: list[bytes], token: bytes, bookmark: bytes) -> bytes:
    parts = [_tagged(_BATCH_UPDATES, update) for update in updates]
    parts.append(_tagged(_BATCH_TOKEN, token))
    if bookmark:
        parts.append(_tagged(_BATCH_BOOKMARK, bookmark))
    return _tagged(_RESPONSE_BATCH, b"".join(parts))


def _tagged(tag: int, value: bytes) -> bytes:
    return bytes((tag, *_varint(len(value)))) + value


def _varint(number: int) -> Iterator[int]:
    while number >> 7:
        yield number & 0x7F | 0x80
        number >>= 7
    yield number
