"""The Analyzer: follows directories of logs, for ever and from where it stopped, and records what they say.

Every step is one transaction: the events of some lines, what the lines add to their traces, and the offset
after them. So a crash repeats work and loses none, and since recording is idempotent the repetition shows
nowhere. Files take turns, so a long old log does not hold up a short new one.

Reading and parsing happen off the event loop. Nothing here knows queues or gRPC.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from errata.serving.logs import get_logger
from errata.store.v1.store_pb2 import LogFileRecord, TraceRecord
from errata.v1.block_pb2 import BlockEvent
from learner_service.analyzer.directories import LogDirectory
from learner_service.analyzer.following import FILES_REMEMBERED_MAX, FileStatus, FollowedFiles, LogFile
from learner_service.analyzer.reading import Step, read_step
from learner_service.analyzer.traces import join
from learner_service.analyzer.waking import Waker
from learner_service.errors import StoreFullError
from learner_service.keys import BlockKey

LOOK_INTERVAL_S: Final = 1.0
"""How long a change may go unseen where the system does not tell of it."""
FULL_STORE_WAIT_S: Final = 10.0
"""Between attempts while the store has no room."""

log = get_logger()

T = TypeVar("T")


class LogReader(Protocol):
    """What the Analyzer reads of a state of the store."""

    def log_files(self) -> Iterator[tuple[bytes, LogFileRecord]]:
        """Every log file that was ever read, by identity."""
        ...


class LogWriter(Protocol):
    """What the Analyzer reads and changes in a transaction."""

    def trace(self, namespace: str, trace_id: str) -> TraceRecord | None:
        """What is known of a trace."""
        ...

    def put_trace(self, namespace: str, trace_id: str, record: TraceRecord) -> None:
        """Stores what is known of a trace."""
        ...

    def log_file(self, identity: bytes) -> LogFileRecord | None:
        """How far a log file has been read."""
        ...

    def put_log_file(self, identity: bytes, record: LogFileRecord) -> None:
        """Stores how far a log file has been read."""
        ...

    def delete_log_file(self, identity: bytes) -> None:
        """Drops what is known of a log file."""
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


@dataclass(frozen=True, slots=True)
class _Stored:
    """What a transaction did."""

    changed: AbstractSet[BlockKey]
    record: LogFileRecord


class Analyzer(Generic[WriterT]):
    """See the module. `run` it, or `poll` it by hand."""

    def __init__(
        self,
        *,
        store: LogStore[WriterT],
        record_events: Callable[[WriterT, Iterable[BlockEvent]], AbstractSet[BlockKey]],
        directories: Sequence[LogDirectory],
        notify: Callable[[AbstractSet[BlockKey]], None],
        clock_us: Callable[[], int],
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
            look_interval_s: how long a change may go unseen where the system does not tell of it.
            full_store_wait_s: between attempts while the store has no room.
            files_remembered_max: records of files kept in the store; files that exist are never forgotten.
        """
        self._store = store
        self._record_events = record_events
        self._directories = tuple(directories)
        self._notify = notify
        self._clock_us = clock_us
        self._look_interval_s = look_interval_s
        self._full_store_wait_s = full_store_wait_s
        self._files = FollowedFiles(self._directories, files_remembered_max)
        self._is_loaded = False
        # One pass at a time: the files are not safe for more.
        self._turn = asyncio.Lock()
        self._statuses: tuple[FileStatus, ...] = ()

    async def run(self) -> None:
        """Follows the directories until it is cancelled. A full store is waited out."""
        if not self._directories:
            await asyncio.Event().wait()
        async with Waker([directory.path for directory in self._directories]) as waker:
            while True:
                try:
                    await self.poll()
                except StoreFullError as error:
                    log.warning("logs wait for room in the store", reason=str(error))
                    await asyncio.sleep(self._full_store_wait_s)
                else:
                    await waker.wait(self._look_interval_s)

    async def poll(self) -> None:
        """Reads every complete line that there is, and returns when what they say is durable.

        Raises:
            StoreFullError: the store has no room. What was read until then is stored; the next pass goes on.
        """
        async with self._turn:
            while await self._round():
                pass

    def status(self) -> tuple[FileStatus, ...]:
        """How far each log file was read, by path."""
        return self._statuses

    async def _round(self) -> bool:
        """Takes one step through each file that has more to read; False when no file had."""
        if not self._is_loaded:
            await asyncio.to_thread(self._load)
            self._is_loaded = True
        files = await asyncio.to_thread(self._files.survey)
        self._statuses = self._files.statuses()
        # Not `any`, which would stop at the first.
        progressed = [await self._advance(file) for file in files]
        self._statuses = self._files.statuses()
        return any(progressed)

    def _load(self) -> None:
        with self._store.read() as transaction:
            self._files.load(transaction.log_files())

    async def _advance(self, file: LogFile) -> bool:
        """Takes one step through a file; False when it had nothing complete to read."""
        try:
            step = await asyncio.to_thread(self._read, file)
        except OSError as error:
            self._files.warn(file.path, error.strerror or type(error).__name__)
            return False
        if step is None:
            file.read_version = file.version
            return False
        surplus_key = self._files.surplus_key()
        dropped = {step.before_key, surplus_key} - {step.identity.key, None}
        keys = [key for key in dropped if key is not None]
        try:
            stored = await self._store.write(lambda transaction: self._apply(transaction, step, keys))
        except asyncio.CancelledError:
            # It may yet be stored: what is known of the files has to be read anew.
            self._is_loaded = False
            raise
        if stored is None:
            self._is_loaded = False
            return True
        self._files.stored(file, step.identity, stored.record, keys)
        if stored.changed:
            self._notify(stored.changed)
        return True

    def _read(self, file: LogFile) -> Step | None:
        return read_step(file, self._files.keys, self._clock_us())

    def _apply(self, transaction: WriterT, step: Step, dropped: Iterable[bytes]) -> _Stored | None:
        """Stores a step; None, and nothing stored, when the file does not stand where the step began."""
        before = transaction.log_file(step.before_key)
        if before != step.before:
            return None
        malformed_line_count = step.malformed_line_count
        events: list[BlockEvent] = []
        for record in step.records:
            events.extend(record.events)
            if record.trace is None:
                continue
            trace_id = record.trace.trace_id
            known = transaction.trace(step.namespace, trace_id) or TraceRecord()
            held = known.SerializeToString(deterministic=True)
            joined = join(known, record.trace, namespace=step.namespace, now_us=step.now_us)
            events.extend(joined.events)
            malformed_line_count += joined.refused_count
            if known.SerializeToString(deterministic=True) != held:
                known.modified_time.FromMicroseconds(step.now_us)
                transaction.put_trace(step.namespace, trace_id, known)
        changed = self._record_events(transaction, events)
        after = LogFileRecord()
        after.CopyFrom(step.after)
        after.malformed_line_count += malformed_line_count
        for key in dropped:
            transaction.delete_log_file(key)
        transaction.put_log_file(step.identity.key, after)
        return _Stored(changed, after)
