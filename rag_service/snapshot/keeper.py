"""When snapshots are written, and what is made durable at every bookmark.

Written in the background, of the live state as it is at a bookmark: the first at once, then `DELAY_S_MIN`
after a change, less often where writing takes long, and when the service ends. A failure is logged and tried
again; nothing waits for a snapshot.

Deletions are another matter: whoever is told that one is applied must never get the example again, not after
a crash either. They are recorded before the bookmark that carries them is acknowledged. Those that come while
a snapshot is being written concern the one that there is, and that one too.

    begin     state and token are held, both of one bookmark           event loop, no waiting
    write     all of it into a temporary file                          thread `writer`, long
    install   its deletions so far beside it, then its name            thread `files`, short
    record    deletions, into the file beside the snapshot             thread `files`, short

`files` does one thing after another, so whatever is recorded after an install finds the new snapshot.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from threading import Event
from typing import Final, TypeVar

from errata.serving.logs import get_logger
from rag_service.clock import Clock
from rag_service.mirror import Mirror, Replica
from rag_service.snapshot.capture import Capture, Point
from rag_service.snapshot.directory import SnapshotDirectory
from rag_service.snapshot.errors import SnapshotAbandonedError, SnapshotError

DELAY_S_MIN: Final = 5.0
"""From the first change that no snapshot has to the one that has it."""
WRITING_SHARE_MAX: Final = 0.1
"""Of the time, so much is spent writing."""
RETRY_S: Final = 60.0
"""After a failure. A disk is not made free or writable by asking more often."""
LAST_BOOKMARK_S_MAX: Final = 1.5
"""At the end, the longest wait for a bookmark; the Learner sends one a second."""
TOKEN_REFRESH_S: Final = 3_600.0
"""A state that does not change is written again for its token: the Learner forgets deletions in a day."""
PIECE_PAUSE_S: Final = 0.000_1
"""Between two pieces, so that a search never waits for the interpreter longer than for one of them."""

Result = TypeVar("Result")

_log = get_logger()


class SnapshotKeeper:
    """Keeps the snapshot in a directory near the live state. Used on one event loop."""

    def __init__(
        self,
        *,
        directory: SnapshotDirectory,
        mirror: Mirror,
        namespaces: Sequence[str],
        clock: Clock,
        wall_us: Callable[[], int],
        writer: Executor,
        files: Executor,
    ) -> None:
        """Does nothing until `run`.

        Args:
            directory: where they are kept; from here on used on `files` alone.
            mirror: whose live state is saved.
            namespaces: the ones that are followed; all of them when empty.
            clock: of all waiting.
            wall_us: microseconds since 1970.
            writer: one thread, for what takes long.
            files: one thread, for what bookmarks wait for.
        """
        self._directory = directory
        self._mirror = mirror
        self._namespaces = sorted(namespaces)
        self._clock = clock
        self._wall_us = wall_us
        self._writer = writer
        self._files = files
        # The live state at its last bookmark, what of it the snapshot in the directory holds, and what that
        # one will hold when the writing that has begun succeeds.
        self._newest: Point | None = None
        self._saved: Point | None = None
        self._covered: Point | None = None
        # When the first change came that is not covered.
        self._changed_at_s: float | None = None
        self._saved_at_s = 0.0
        self._not_before_s = 0.0
        self._seconds_per_example = 0.0
        # What is being written, or is to be; None when nothing is.
        self._capture: Capture | None = None
        # Gets the state at the next bookmark, or None when it is not wanted any more.
        self._wanted: asyncio.Future[Capture | None] | None = None
        self._bookmarked = asyncio.Event()
        self._saving = asyncio.Lock()
        self._abandoned = Event()
        self._ended = False

    def restored(self, replica: Replica) -> None:
        """Takes in that the snapshot in the directory is the live state now."""
        self._newest = self._saved = self._covered = Point.of(replica)
        self._saved_at_s = self._clock.monotonic_s()

    async def record_deletions(self) -> None:
        """Makes durable what the next bookmark of the mirror acknowledges as deleted."""
        live, receiving = self._mirror.live, self._mirror.receiving
        if receiving is None:
            return
        deleted = dict(receiving.deleted)
        if live is not None and live is not receiving:
            # The state is replaced as a whole, and what it had and the new one has not is deleted too.
            revision = receiving.index.received_revision
            lost = await asyncio.to_thread(lambda: live.index.keys() - receiving.index.keys())
            deleted.update({**dict.fromkeys(lost, revision), **live.deleted})
        if self._capture is not None:
            self._capture.deletions.update(deleted)
        if deleted or not self._directory.settled:
            await self._in(self._files, partial(self._directory.record, deleted))
            if not self._directory.has_snapshot:
                self._saved = None

    def bookmarked(self) -> None:
        """Takes in that the live state has come to a bookmark."""
        live = self._mirror.live
        if live is None:
            return
        self._newest = Point.of(live)
        if self._changed_at_s is None and not self._newest.is_held_by(self._covered):
            self._changed_at_s = self._clock.monotonic_s()
        self._bookmarked.set()
        if self._wanted is not None and not self._wanted.done():
            # Here and now: the next change may come before anybody else has a turn.
            self._wanted.set_result(self._captured(live))

    async def run(self) -> None:
        """Writes snapshots as they fall due, until `finish`."""
        while not self._ended:
            due_in_s = self._due_in_s()
            if due_in_s is None or due_in_s > 0:
                await self._next_bookmark(due_in_s)
            else:
                async with self._saving:
                    await self._save()

    async def finish(self, *, within_s: float) -> None:
        """Writes a last snapshot where there is something new and time for it; none begins afterwards.

        Deletions are recorded all the same, for as long as the mirror is fed.

        Args:
            within_s: the time there is; a snapshot that is not complete by then is given up.
        """
        self._ended = True
        self._bookmarked.set()
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)
        try:
            async with asyncio.timeout(within_s), self._saving:
                await self._save_the_last(within_s)
        except TimeoutError:
            self._abandoned.set()
            _log.warning("no time to write a snapshot, the next start resumes from the one before")

    def _due_in_s(self) -> float | None:
        """Seconds until a snapshot is due; None when there is nothing to write."""
        newest, saved = self._newest, self._saved
        if newest is None:
            return None
        now_s = self._clock.monotonic_s()
        if saved is None:
            due_s = now_s
        elif self._changed_at_s is not None:
            due_s = self._changed_at_s + DELAY_S_MIN
        elif newest.applied_revision != saved.applied_revision:
            due_s = self._saved_at_s + TOKEN_REFRESH_S
        else:
            return None
        return max(due_s, self._not_before_s) - now_s

    async def _next_bookmark(self, max_wait_s: float | None) -> None:
        """Returns at the next bookmark, or when the time is over."""
        self._bookmarked.clear()
        waiting: list[asyncio.Future[object]] = [asyncio.ensure_future(self._bookmarked.wait())]
        if max_wait_s is not None:
            waiting.append(asyncio.ensure_future(self._clock.sleep(max_wait_s)))
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    async def _save_the_last(self, within_s: float) -> None:
        if self._newest is None or self._newest.is_held_by(self._saved):
            return
        if self._seconds_per_example * self._newest.replica.index.count > within_s:
            _log.info("no time to write a snapshot, the next start resumes from the one before")
            return
        await self._save(bookmark_wait_s_max=LAST_BOOKMARK_S_MAX)

    async def _save(self, *, bookmark_wait_s_max: float | None = None) -> None:
        """Writes the live state; says so when that fails, and sees to it that it is tried again."""
        begun_s = self._clock.monotonic_s()
        try:
            await self._in(self._files, self._directory.acquire)
            capture = await self._next_capture(bookmark_wait_s_max)
            if capture is not None:
                await self._write_and_install(capture)
        except SnapshotAbandonedError:
            return
        except (OSError, SnapshotError) as error:
            _log.warning("cannot write a snapshot, trying again later", problem=str(error), retry_s=RETRY_S)
        except Exception:  # noqa: BLE001 - whatever is wrong with snapshots, searches go on
            _log.exception("cannot write a snapshot because of a bug, trying again later", retry_s=RETRY_S)
        else:
            return
        self._not_before_s = self._clock.monotonic_s() + RETRY_S
        self._covered, self._changed_at_s = self._saved, begun_s

    async def _next_capture(self, wait_s_max: float | None) -> Capture | None:
        """The live state if it is at a bookmark, or as soon as it is; None when that is not to be."""
        live = self._mirror.live
        if live is not None and live.at_bookmark and not self._mirror.rebuilding:
            return self._captured(live)
        wanted = self._wanted = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait([wanted], timeout=wait_s_max)
        except asyncio.CancelledError:
            if self._capture is not None:
                self._capture.held.release()
                self._capture = None
            raise
        finally:
            self._wanted = None
        return wanted.result() if wanted.done() else None

    def _captured(self, live: Replica) -> Capture:
        """Keeps the live state, which is at a bookmark."""
        age_us = round(self._mirror.staleness_s(live) * 1e6)
        capture = self._capture = Capture.of(
            live, namespaces=self._namespaces, bookmark_time_us=self._wall_us() - age_us
        )
        self._covered, self._changed_at_s = capture.point, None
        return capture

    async def _write_and_install(self, capture: Capture) -> None:
        begun_s = self._clock.monotonic_s()
        try:
            writing = self._writer.submit(capture.write, self._directory.temporary_path, self._step)
            # However it ends, and also when it never begins.
            writing.add_done_callback(lambda _: capture.held.release())
            await asyncio.wrap_future(writing)
            deletions = dict(capture.deletions)
            install = partial(self._directory.install, capture.header.snapshot_id, deletions)
            await self._in(self._files, install)
        finally:
            self._capture = None
            if not self._directory.has_snapshot:
                self._saved = None
        now_s = self._clock.monotonic_s()
        self._saved, self._saved_at_s = capture.point, now_s
        self._not_before_s = now_s + (now_s - begun_s) * (1 / WRITING_SHARE_MAX - 1)
        bookmark = capture.header.bookmark
        self._seconds_per_example = (now_s - begun_s) / max(1, bookmark.example_count)
        _log.debug("snapshot written", revision=bookmark.revision, seconds=round(now_s - begun_s, 3))

    def _step(self) -> None:
        if self._abandoned.is_set():
            raise SnapshotAbandonedError
        time.sleep(PIECE_PAUSE_S)

    async def _in(self, executor: Executor, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(executor, work)
