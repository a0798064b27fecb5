"""The Learner's store: one LMDB environment, written by one thread, durable before it answers.

One writer: `submit` queues a mutation; the writer thread takes whatever has queued up (it never waits for
more), runs each mutation in a transaction of its own within that of the group, commits once, and only then
resolves the futures. A mutation that raises is rolled back alone. Mutations are pure: after a full map the
whole group runs again.

Many readers: `read` gives one state of the store. Keep it short: an open one holds back the pages of its
state, and the map cannot grow before it ends.

Failure: no room left, on the disk or up to `bytes_max`, fails the writes with `StoreFullError` and nothing
else; any other error of the disk at a commit leaves unknown what is durable, so the process ends at once.

Only this module knows LMDB. `writemap` stays off (with it a full disk is a SIGBUS), `sync` and `metasync` on.
"""

import asyncio
import os
import queue
import secrets
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import lmdb

from errata.serving.logs import get_logger
from learner_service.errors import StoreCorruptError, StoreError, StoreFullError
from learner_service.store.directory import check_file_system, is_full, lock, make_directory
from learner_service.store.integrity import problems
from learner_service.store.read_transaction import ReadTransaction
from learner_service.store.resize_gate import ResizeGate
from learner_service.store.schema import SCHEMA, Schema, set_version, version_of
from learner_service.store.tables import TABLES
from learner_service.store.write_transaction import WriteTransaction

T = TypeVar("T")
Mutation = Callable[[WriteTransaction], T]

MAP_BYTES_INITIAL: Final = 1 << 30
"""The map is sparse, so this costs address space only; it doubles when it is full, up to `bytes_max`."""

GROUP_MUTATIONS_MAX: Final = 1_000
"""Bounds how long the first writer of a group waits for the last."""

READERS_MAX: Final = 1_024
"""Slots for simultaneous read transactions; they are short, so far fewer are in use."""

EXIT_IO_ERROR: Final = 74
"""EX_IOERR of sysexits: what is durable is unknown, only a fresh start can tell."""

_CHECKSUM_BYTES: Final = 4

log = get_logger()


@dataclass(frozen=True, slots=True)
class Commit:
    """What listeners are told of each durable group."""

    head_revision: int
    changed_namespaces: frozenset[str]
    """Namespaces whose examples changed."""


class _Table:
    """One sub-database in one transaction. Each value ends in a checksum of its key and itself."""

    __slots__ = ("_database", "_name", "_transaction")

    def __init__(self, name: str, database: Any, transaction: "lmdb.Transaction[bytes]") -> None:
        self._name = name
        self._database = database
        self._transaction = transaction

    def get(self, key: bytes) -> bytes | None:
        sealed = self._transaction.get(key, db=self._database)
        return None if sealed is None else self._unseal(key, sealed)

    def put(self, key: bytes, value: bytes) -> None:
        self._transaction.put(key, _seal(key, value), db=self._database)

    def append(self, key: bytes, value: bytes) -> None:
        # LMDB answers an append out of order with False, not with an exception.
        if not self._transaction.put(key, _seal(key, value), db=self._database, append=True):
            raise StoreCorruptError(f"{self._name}: a row stands above {key.hex()}, which should be the last")

    def delete(self, key: bytes) -> bool:
        return self._transaction.delete(key, db=self._database)

    def scan(self, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        with self._transaction.cursor(self._database) as cursor:
            found = cursor.set_range(start) if start else cursor.first()
            if found:
                for key, sealed in cursor.iternext():
                    yield key, self._unseal(key, sealed)

    def scan_down(self, below: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        with self._transaction.cursor(self._database) as cursor:
            # On the row at or above `below`, the next one down is the first wanted.
            found = cursor.prev() if below is not None and cursor.set_range(below) else cursor.last()
            if found:
                for key, sealed in cursor.iterprev():
                    yield key, self._unseal(key, sealed)

    def __len__(self) -> int:
        return self._transaction.stat(self._database)["entries"]

    def _unseal(self, key: bytes, sealed: bytes) -> bytes:
        value = sealed[:-_CHECKSUM_BYTES]
        if _checksum(key, value) != sealed[-_CHECKSUM_BYTES:]:
            raise StoreCorruptError(f"{self._name}: the value of {key.hex()} is damaged; restore a backup")
        return value


def _checksum(key: bytes, value: bytes) -> bytes:
    return zlib.crc32(value, zlib.crc32(key)).to_bytes(_CHECKSUM_BYTES, "big")


def _seal(key: bytes, value: bytes) -> bytes:
    return value + _checksum(key, value)


@dataclass(slots=True)
class _Waiting:
    """A mutation in the queue of the writer."""

    mutation: Mutation[Any]
    future: "Future[Any]"


def _end_process(error: BaseException) -> None:
    """The default answer to an I/O error: nothing may run on, not even `finally`."""
    log.critical("the disk failed at a commit, the process ends", error=str(error))
    os._exit(EXIT_IO_ERROR)


class Store:
    """See the module. `open` makes one; `close` it, or use it in a `with`."""

    def __init__(
        self,
        environment: lmdb.Environment,
        lock_file: int,
        *,
        directory: Path,
        clock_us: Callable[[], int],
        bytes_max: int,
        on_io_error: Callable[[BaseException], None],
    ) -> None:
        self.directory = directory
        self.bytes_max = bytes_max
        self._environment = environment
        self._lock_file = lock_file
        self._clock_us = clock_us
        self._on_io_error = on_io_error
        self._databases = {name: environment.open_db(name.encode()) for name in TABLES}
        # Nobody knows this epoch before its first write is durable, but watchers are told of it already.
        self._epoch_nonce = secrets.randbits(64)
        self._epoch_is_durable = False
        self._gate = ResizeGate()
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._closing = False
        self._submit_lock = threading.Lock()
        self._listeners: list[Callable[[Commit], None]] = []
        self._writer = threading.Thread(target=self._write_groups, name="store-writer", daemon=True)

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        clock_us: Callable[[], int],
        bytes_max: int,
        map_bytes_initial: int = MAP_BYTES_INITIAL,
        on_io_error: Callable[[BaseException], None] = _end_process,
        schema: Schema = SCHEMA,
    ) -> Self:
        """Opens the store in a directory, or makes a new one there; one of an older version is migrated.

        Args:
            directory: created when absent.
            clock_us: the wall clock, in microseconds since 1970. It may go back.
            bytes_max: what the data file may grow to.
            map_bytes_initial: what it may grow to before the map must be resized.
            on_io_error: called from the writer thread when a commit failed and must not return normally
                to anything that goes on writing; ends the process unless a test injects something else.
            schema: the layout that this program reads and writes.

        Raises:
            StoreError: the directory cannot be used, another process has it, or the store is of a version
                that this program cannot bring up to date.
            StoreFullError: there is no room to bring it up to date, or to make one; it is as it was.
        """
        make_directory(directory)
        check_file_system(directory)
        lock_file = lock(directory)
        try:
            environment = lmdb.open(
                os.fspath(directory),
                map_size=min(map_bytes_initial, bytes_max),
                max_dbs=len(TABLES),
                max_readers=READERS_MAX,
                # For the owner alone, as what people ran is private.
                mode=0o600,
            )
        except lmdb.Error as error:
            os.close(lock_file)
            raise StoreError(f"{directory}: not a store that can be opened: {error}") from error
        try:
            # Before anything is written into a store that is not ours to write.
            _check_version(environment, directory, schema)
            store = cls(
                environment,
                lock_file,
                directory=directory,
                clock_us=clock_us,
                bytes_max=bytes_max,
                on_io_error=on_io_error,
            )
            store._adopt_or_create(schema)
        except BaseException:
            environment.close()
            os.close(lock_file)
            raise
        store._writer.start()
        return store

    def close(self) -> None:
        """Writes what is queued, then closes. Later calls of `submit` fail."""
        with self._submit_lock:
            if self._closing:
                return
            self._closing = True
            self._queue.put(None)
        self._writer.join()
        with self._gate.resizer():
            self._environment.close()
        os.close(self._lock_file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def read(self) -> Iterator[ReadTransaction]:
        """One state of the store. Copy out what is needed; never hold it across an await.

        Raises:
            StoreCorruptError: from a read within, when a value is damaged.
        """
        with self._gate.reader(), self._environment.begin() as transaction:
            yield ReadTransaction(self._tables(transaction), self._epoch_nonce)

    def submit(self, mutation: Mutation[T]) -> "Future[T]":
        """Queues a mutation. The future is done when it is durable, with what the mutation returned.

        The future raises what the mutation raised, or `StoreFullError`; then nothing of it was kept.
        """
        future: Future[T] = Future()
        with self._submit_lock:
            if self._closing:
                raise StoreError("the store is closed")
            self._queue.put(_Waiting(mutation, future))
        return future

    async def write(self, mutation: Mutation[T]) -> T:
        """Runs a mutation and returns what it returned once that is durable. Raises as `submit` says."""
        return await asyncio.wrap_future(self.submit(mutation))

    def on_commit(self, listener: Callable[[Commit], None]) -> None:
        """Calls `listener` from the writer thread after each durable group. It must return at once."""
        self._listeners.append(listener)

    def forget_dead_readers(self) -> int:
        """Frees the pages that processes held which were killed while they read, and returns how many did.

        A backup is such a reader. As long as it counts as reading, no page that changed since is used again.
        """
        with self._gate.reader():
            return self._environment.reader_check()

    def check(self) -> list[str]:
        """Reads the whole store and says what breaks its invariants; nothing, when all is well.

        Raises:
            StoreCorruptError: a value is damaged.
        """
        with self.read() as transaction:
            return list(problems(transaction))

    @property
    def size_bytes(self) -> int:
        """Bytes of the data file in use."""
        with self._gate.reader():
            pages = self._environment.info()["last_pgno"] + 1
            return pages * self._environment.stat()["psize"]

    # --- Opening.

    def _adopt_or_create(self, schema: Schema) -> None:
        while True:
            try:
                self._try_to_adopt_or_create(schema)
            except lmdb.MapFullError as error:
                if not self._grow_map():
                    raise StoreFullError(
                        f"--store-dir {self.directory}: its limit of {self.bytes_max:,} bytes leaves no "
                        "room to bring it up to date; it is as it was; raise --store-bytes-max"
                    ) from error
            except lmdb.Error as error:
                if isinstance(error, lmdb.DiskError) or is_full(self.directory):
                    raise StoreFullError(
                        f"--store-dir {self.directory}: its disk is full ({error}); free some room"
                    ) from error
                raise StoreError(f"--store-dir {self.directory}: cannot be written: {error}") from error
            else:
                return

    def _try_to_adopt_or_create(self, schema: Schema) -> None:
        with self._environment.begin(write=True) as transaction:
            tables = self._tables(transaction)
            held = version_of(tables["meta"])
            created, migrated = held is None, schema.migrate(tables)
            if created:
                set_version(tables["meta"], schema.version)
                new = WriteTransaction(tables, self._epoch_nonce, self._clock_us)
                new.create(secrets.token_bytes(16))
                new.begin_epoch()
        if migrated:
            log.info("the store has been brought up to date", schema_before=held, schema=schema.version)
        # On a full disk an old store must still open: its epoch waits for the first write.
        self._epoch_is_durable = created

    def _tables(self, transaction: "lmdb.Transaction[bytes]") -> dict[str, _Table]:
        return {name: _Table(name, database, transaction) for name, database in self._databases.items()}

    # --- The writer thread.

    def _write_groups(self) -> None:
        while (first := self._queue.get()) is not None:
            group, last = [first], False
            with suppress(queue.Empty):
                while len(group) < GROUP_MUTATIONS_MAX:
                    waiting = self._queue.get_nowait()
                    if waiting is None:
                        last = True
                        break
                    group.append(waiting)
            self._write_group([each for each in group if each.future.set_running_or_notify_cancel()])
            if last:
                return

    def _write_group(self, group: Sequence[_Waiting]) -> None:
        if not group:
            return
        try:
            results, commit = self._commit(group)
        except lmdb.MapFullError:
            self._write_in_larger_map(group)
        except lmdb.Error as error:
            self._disk_failed(group, error)
        else:
            self._epoch_is_durable = True
            for listener in self._listeners:
                listener(commit)
            for waiting, result in zip(group, results, strict=True):
                if isinstance(result, _Raised):
                    waiting.future.set_exception(result.error)
                else:
                    waiting.future.set_result(result)

    def _write_in_larger_map(self, group: Sequence[_Waiting]) -> None:
        if self._grow_map():
            self._write_group(group)
        elif len(group) > 1:
            # One of them may be what does not fit: the others must not fail with it.
            for waiting in group:
                self._write_group([waiting])
        else:
            self._fail(group, f"the store has reached its limit of {self.bytes_max:,} bytes")

    def _disk_failed(self, group: Sequence[_Waiting], error: lmdb.Error) -> None:
        # A write that the disk had half the room for comes back as EIO, not as ENOSPC.
        if isinstance(error, lmdb.DiskError) or is_full(self.directory):
            self._fail(group, f"the disk of {self.directory} is full ({error})")
            return
        self._on_io_error(error)
        self._fail(group, f"the disk of {self.directory} failed ({error})")

    def _commit(self, group: Sequence[_Waiting]) -> tuple[list[Any], Commit]:
        """Runs the mutations and makes them durable, all or none; one that raises is left out alone."""
        changed_namespaces: set[str] = set()
        results: list[Any] = []
        with self._environment.begin(write=True) as parent:
            if not self._epoch_is_durable:
                self._writable(parent).begin_epoch()
            for waiting in group:
                child = self._environment.begin(write=True, parent=parent)
                transaction = self._writable(child)
                try:
                    result = waiting.mutation(transaction)
                except lmdb.Error:
                    child.abort()
                    raise
                except Exception as error:  # noqa: BLE001 - it is the caller's, and reaches the caller
                    child.abort()
                    results.append(_Raised(error))
                else:
                    child.commit()
                    results.append(result)
                    changed_namespaces |= transaction.changed_namespaces
            head = self._writable(parent).head_revision
        return results, Commit(head, frozenset(changed_namespaces))

    def _writable(self, transaction: "lmdb.Transaction[bytes]") -> WriteTransaction:
        return WriteTransaction(self._tables(transaction), self._epoch_nonce, self._clock_us)

    def _grow_map(self) -> bool:
        """Doubles the map, up to `bytes_max`; False when it is there already."""
        size = self._environment.info()["map_size"]
        if size >= self.bytes_max:
            return False
        with self._gate.resizer():
            self._environment.set_mapsize(min(2 * size, self.bytes_max))
        log.info("the store's map has grown", map_bytes=min(2 * size, self.bytes_max))
        return True

    def _fail(self, group: Sequence[_Waiting], why: str) -> None:
        log.error("a write to the store failed", reason=why, mutation_count=len(group))
        for waiting in group:
            waiting.future.set_exception(StoreFullError(f"{why}; free some room, then send it again"))


def _check_version(environment: lmdb.Environment, directory: Path, schema: Schema) -> None:
    try:
        database = environment.open_db(b"meta", create=False)
    except lmdb.NotFoundError:
        return
    with environment.begin() as transaction:
        held = version_of(_Table("meta", database, transaction))
    if held is not None:
        try:
            schema.check(held)
        except StoreError as error:
            raise StoreError(f"--store-dir {directory}: {error}") from error


@dataclass(frozen=True, slots=True)
class _Raised:
    """Stands for the result of a mutation that raised."""

    error: Exception
