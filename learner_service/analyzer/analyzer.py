"""The Analyzer: follows directories of logs, for ever and from where it stopped, and records what they say.

Every step is one transaction: the events of some lines, what the lines add to their traces, and the offset
after them. So a crash repeats work and loses none, and since recording is idempotent the repetition shows
nowhere. Files take turns, so a long old log does not hold up a short new one.

Reading and parsing happen off the event loop. Nothing here knows queues or gRPC.
"""

import asyncio
import time
from collections import ChainMap, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from errata.serving.logs import get_logger
from errata.store.v1.store_pb2 import LogFileRecord
from learner_service.analyzer.dialects import DialectName, Outcome
from learner_service.analyzer.directories import LogDirectory
from learner_service.analyzer.following import FILES_REMEMBERED_MAX, FileStatus, FollowedFiles, LogFile
from learner_service.analyzer.reading import EVENTS_MAX, STEP_BYTES, Step, read_step
from learner_service.analyzer.storing import LogWriter, RecordEvents, Stored, StoredStep, store_steps
from learner_service.analyzer.waking import EVERYTHING, Changes, Waker
from learner_service.errors import StoreFullError
from learner_service.keys import BlockKey

LOOK_INTERVAL_S: Final = 1.0
"""How long a change may go unseen where the system does not tell of it."""
LOOK_SHARE_MAX: Final = 0.02
"""Of the time, spent on looking at all files: with very many of them it is done more rarely."""
FULL_STORE_WAIT_S: Final = 10.0
"""Between attempts while the store has no room."""
FILES_AT_ONCE_MAX: Final = 200
"""Files whose steps share a transaction."""

log = get_logger()

T = TypeVar("T")


class LogReader(Protocol):
    """What the Analyzer reads of a state of the store."""

    def log_files(self) -> Iterator[tuple[bytes, LogFileRecord]]:
        """Every log file that was ever read, by identity."""
        ...


WriterT = TypeVar("WriterT", bound=LogWriter)
WriterT_co = TypeVar("WriterT_co", bound=LogWriter, covariant=True)


class LogStore(Protocol[WriterT_co]):
    """The store, as far as the Analyzer uses it."""

    def read(self) -> AbstractContextManager[LogReader]:
        """One state of the store."""
        ...

    async def write(self, mutation: Callable[[WriterT_co], T]) -> T:
        """Runs a pure mutation, and returns what it returned once that is durable."""
        ...


class LineMeter(Protocol):
    """Is told how much was read."""

    def lines_read(self, dialect: DialectName, outcome: Outcome, line_count: int, byte_count: int) -> None:
        """Some lines were read, and are stored if they said something."""
        ...


class NoMeter:
    """Takes no notice."""

    def lines_read(self, dialect: DialectName, outcome: Outcome, line_count: int, byte_count: int) -> None:
        """Does nothing."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the Analyzer is behind."""

    byte_count: int
    """In all files, not read yet; the start of a line that is not complete included."""
    seconds: float
    """How much older the last line read is than the newest one, in the file of which that is most. Of lines
    that do not say when they were written: how long they have waited. 0 when no complete line is left."""


_Ready: TypeAlias = "OrderedDict[str, LogFile]"
"""Files that may have something to be read, by path, in the order of their turns."""


class Analyzer(Generic[WriterT]):
    """See the module. `run` it, or `poll` it by hand."""

    def __init__(
        self,
        *,
        store: LogStore[WriterT],
        record_events: RecordEvents[WriterT],
        directories: Sequence[LogDirectory],
        notify: Callable[[AbstractSet[BlockKey]], None],
        clock_us: Callable[[], int],
        redaction: bool = True,
        meter: LineMeter | None = None,
        look_interval_s: float = LOOK_INTERVAL_S,
        full_store_wait_s: float = FULL_STORE_WAIT_S,
        files_remembered_max: int = FILES_REMEMBERED_MAX,
    ) -> None:
        """Takes its parts, and does nothing yet.

        Args:
            store: keeps blocks, traces and offsets.
            record_events: folds valid, redacted events into the store, within a transaction, and returns the
                blocks that changed.
            directories: to follow. They need not exist yet, and are never made.
            notify: called on the event loop with the blocks that changed, once that is durable.
            clock_us: the wall clock, in microseconds since 1970; called from any thread.
            redaction: False stores secrets as they come.
            meter: is told of the lines that were read; nobody is when None.
            look_interval_s: how long a change may go unseen where the system does not tell of it.
            full_store_wait_s: between attempts while the store has no room.
            files_remembered_max: records of files kept in the store; files that exist are never forgotten.
        """
        self._store = store
        self._record_events = record_events
        self._directories = tuple(directories)
        self._notify = notify
        self._clock_us = clock_us
        self._redaction = redaction
        self._meter = NoMeter() if meter is None else meter
        self._look_interval_s = look_interval_s
        self._full_store_wait_s = full_store_wait_s
        self._files = FollowedFiles(self._directories, clock_us, files_remembered_max)
        self._is_loaded = False
        self._next_survey_s = 0.0
        # One pass at a time: the files are not safe for more.
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Follows the directories until it is cancelled. A full store is waited out."""
        if not self._directories:
            await asyncio.Event().wait()
        async with Waker([directory.path for directory in self._directories]) as waker:
            changes = EVERYTHING
            while True:
                try:
                    async with self._turn:
                        await self._catch_up(changes, waker)
                except StoreFullError as error:
                    log.warning("logs wait for room in the store", reason=str(error))
                    await asyncio.sleep(self._full_store_wait_s)
                    changes = EVERYTHING
                else:
                    changes = await waker.wait(max(self._look_interval_s, self._until_survey_s()))

    async def poll(self) -> None:
        """Reads every complete line that there is, and returns when what they say is durable.

        Raises:
            StoreFullError: the store has no room. What was read until then is stored; the next pass goes on.
        """
        async with self._turn:
            while await self._catch_up(EVERYTHING):
                pass

    def status(self) -> tuple[FileStatus, ...]:
        """How far each log file was read, by path. May be called from any thread."""
        return tuple(
            FileStatus(
                path=file.path_text,
                offset_bytes=file.offset_bytes,
                # It may have grown since it was looked at.
                size_bytes=max(file.size_bytes, file.offset_bytes),
                malformed_line_count=file.record.malformed_line_count,
            )
            for file in self._files.files()
        )

    def lag(self) -> Lag:
        """How far it is behind. May be called from any thread."""
        byte_count, seconds, now_us = 0, 0.0, self._clock_us()
        for file in self._files.files():
            byte_count += max(0, file.size_bytes - file.offset_bytes)
            since_us, behind_s = file.unread_since_us, file.behind_s
            if since_us is not None:
                seconds = max(seconds, (now_us - since_us) / 1e6 if behind_s is None else behind_s)
        return Lag(byte_count, seconds)

    async def _catch_up(self, changes: Changes, waker: Waker | None = None) -> bool:
        """Reads what there is, also what appears meanwhile; False when there was nothing."""
        ready: _Ready = OrderedDict()
        await self._look(changes, ready)
        if not ready:
            return False
        while ready:
            await self._advance(ready)
            changes = Changes() if waker is None else waker.take()
            if changes or (waker is not None and self._until_survey_s() <= 0):
                await self._look(changes, ready)
        return True

    async def _look(self, changes: Changes, ready: _Ready) -> None:
        for file in await asyncio.to_thread(self._look_at, changes):
            ready[file.path] = file

    def _look_at(self, changes: Changes) -> list[LogFile]:
        if self._is_loaded and not changes.everything and self._until_survey_s() > 0:
            found = self._files.look_at(changes.paths)
            if found is not None:
                return found
        begin_s = time.monotonic()
        if not self._is_loaded:
            with self._store.read() as transaction:
                self._files.load(transaction.log_files())
            self._is_loaded = True
        found = self._files.survey()
        end_s = time.monotonic()
        self._next_survey_s = end_s + max(self._look_interval_s, (end_s - begin_s) / LOOK_SHARE_MAX)
        return found

    def _until_survey_s(self) -> float:
        return self._next_survey_s - time.monotonic()

    async def _advance(self, ready: _Ready) -> None:
        """Takes one step through each of the first files, as far as they fit one transaction."""
        read = await asyncio.to_thread(self._read_some, ready)
        while read:
            steps = [step for _, step in read]
            added_count = sum(step.before is None for step in steps)
            surplus_keys = self._files.surplus_keys(added_count)
            mutation = partial(
                store_steps, steps=steps, record_events=self._record_events, surplus_keys=surplus_keys
            )
            try:
                stored: Stored = await self._store.write(mutation)
            except BaseException:
                # It may be stored all the same, or what was read is not: the files have to be found anew.
                self._is_loaded = False
                raise
            left = read[len(stored.steps) :]
            rests: list[tuple[LogFile, Step]] = []
            for (file, step), result in zip(read, stored.steps, strict=False):
                if result is None:
                    self._is_loaded = False
                    continue
                self._is_stored(file, step, result, surplus_keys)
                if result.rest is not None:
                    rests.append((file, result.rest))
                elif not step.at_end:
                    ready[file.path] = file
            if stored.changed:
                self._notify(stored.changed)
            if not self._is_loaded:
                # Somebody else reads these logs into this store; begin again with what it holds.
                ready.clear()
                await self._look(EVERYTHING, ready)
                return
            read = rests + left

    def _read_some(self, ready: _Ready) -> list[tuple[LogFile, Step]]:
        read: list[tuple[LogFile, Step]] = []
        reserved: dict[bytes, LogFileRecord] = {}
        taken = ChainMap(reserved, self._files.keys)
        byte_count = said_count = 0
        while ready and byte_count < STEP_BYTES and said_count < EVENTS_MAX and len(read) < FILES_AT_ONCE_MAX:
            _, file = ready.popitem(last=False)
            try:
                step = read_step(file, taken, self._clock_us(), redaction=self._redaction)
            except OSError as error:
                self._files.warn(file.path, error.strerror or type(error).__name__)
                continue
            if step is None:
                file.is_read()
                continue
            reserved[step.identity.key] = file.record
            byte_count += step.end_offset - file.offset_bytes
            said_count += len(step.said)
            read.append((file, step))
        return read

    def _is_stored(
        self, file: LogFile, step: Step, stored: StoredStep, surplus_keys: Sequence[bytes]
    ) -> None:
        dropped = {step.before_key, *surplus_keys} - {step.identity.key}
        self._files.stored(file, step.identity, stored.record, dropped)
        if stored.rest is not None:
            return
        for (dialect, outcome), counted in step.counts.items():
            self._meter.lines_read(dialect, outcome, counted.line_count, counted.byte_count)
        if step.at_end:
            file.is_read()
        else:
            file.behind_s = step.behind_s
