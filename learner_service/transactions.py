"""What can be read and changed in one transaction of the store, in the terms of the Learner.

The tables are those of the design: `blocks`, `pending` and the rest, keyed as their comments in `TABLES` say.
Nothing here knows the engine below; `store.py` hands in the tables of a transaction and commits it.

Invariants, which `integrity.py` checks on the whole store:
    the head revision never goes down, and every revision is given to one change;
    `log` holds one row a key, at its newest revision, and `examples` inverts `log`;
    a tombstone stands for each deleted row of `log`, and for nothing else;
    count and digest of a namespace are those of its live rows;
    `blocks_by_time` inverts the modification times of `blocks`.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Final, NamedTuple, Protocol

from errata import digest
from errata.store.v1.store_pb2 import BlockRecord, LogFileRecord, PendingRecord, TraceRecord
from errata.v1.example_pb2 import Example
from errata.v1.learner_pb2 import ExampleUpdate
from learner_service.backfill_rows import BackfillReader, BackfillWriter
from learner_service.keys import BlockKey
from learner_service.u64 import U64_BYTES, decode_u64, encode_u64

TABLES: Final = (
    "meta",  # name -> value; see the constants below
    "epochs",  # start revision ‖ number -> nonce
    "blocks",  # block key -> BlockRecord
    "blocks_by_time",  # modified time -> block key
    "pending",  # block key -> PendingRecord
    "log",  # revision -> LogRow
    "examples",  # block key -> revision
    "tombstones",  # revision -> time of the deletion
    "namespaces",  # namespace ‖ 0 -> Tally
    "traces",  # namespace ‖ 0 ‖ trace ID -> TraceRecord
    "trace_blocks",  # namespace ‖ 0 ‖ length of the trace ID ‖ trace ID ‖ block ID -> nothing
    "files",  # identity of a log file -> LogFileRecord
    "backfills",  # ID -> BackfillRecord, and a row for each done block; see `backfill_rows.py`
)

EPOCHS_KEPT_MAX: Final = 1_000
"""Older epochs are dropped: a token of one is then of an unknown epoch, and is lost."""

_HEAD: Final = b"head"
_COMPACT: Final = b"compact"
_CLOCK: Final = b"clock"
_STORE_ID: Final = b"store_id"
_TALLY: Final = b"tally"
_PARKED: Final = b"parked"
_FINGERPRINT: Final = b"fingerprint"
_TARGET_FINGERPRINT: Final = b"target_fingerprint"
_POLICY: Final = b"policy"
_REDACTION: Final = b"redaction"
_REDACTION_CURSOR: Final = b"redaction_cursor"


class Table(Protocol):
    """One sub-database within one transaction. Keys are in the order of their bytes."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a key."""

    def put(self, key: bytes, value: bytes) -> None:
        """Sets the value of a key."""

    def append(self, key: bytes, value: bytes) -> None:
        """Sets the value of a key above all others."""

    def delete(self, key: bytes) -> bool:
        """Removes a key; False when there was none."""

    def scan(self, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """The rows from `start` on, upwards."""

    def scan_down(self, below: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """The rows below a key, or all, downwards."""

    def __len__(self) -> int:
        """Number of rows."""


class LogRow(NamedTuple):
    """One row of the log: the newest change of one example."""

    live: bool
    """False when the change was a deletion."""
    key: bytes
    """The block key, encoded."""
    update: bytes
    """The ExampleUpdate, encoded, as a watcher receives it."""

    def encode(self) -> bytes:
        """The row as stored: what a scan must know comes first, so that the update need not be decoded."""
        return bytes((self.live,)) + len(self.key).to_bytes(2, "big") + self.key + self.update

    @classmethod
    def decode(cls, encoded: bytes) -> "LogRow":
        """The row that `encode` gave these bytes for."""
        end = 3 + int.from_bytes(encoded[1:3], "big")
        return cls(encoded[0] == 1, encoded[3:end], encoded[end:])

    @property
    def namespace(self) -> bytes:
        """The namespace of the example, encoded."""
        return self.key[: self.key.index(0)]


@dataclass(frozen=True, slots=True)
class Tally:
    """How many live examples there are, and their digest."""

    count: int
    digest: int

    def encode(self) -> bytes:
        """The tally as stored."""
        return self.count.to_bytes(U64_BYTES, "big") + digest.encode(self.digest)

    @classmethod
    def decode(cls, encoded: bytes | None) -> "Tally":
        """The tally that `encode` gave these bytes for; of nothing, the empty one."""
        if encoded is None:
            return cls(0, 0)
        return cls(int.from_bytes(encoded[:U64_BYTES], "big"), int.from_bytes(encoded[U64_BYTES:], "big"))

    def with_row(self, key: bytes, revision: int) -> "Tally":
        """The tally with one live row more."""
        return Tally(self.count + 1, digest.add(self.digest, digest.row_hash(key, revision)))

    def without_row(self, key: bytes, revision: int) -> "Tally":
        """The tally with one live row less."""
        return Tally(self.count - 1, digest.subtract(self.digest, digest.row_hash(key, revision)))


class Epoch(NamedTuple):
    """A time in which one process wrote the store."""

    start_revision: int
    nonce: int


class StoredExample(NamedTuple):
    """The newest change of an example."""

    revision: int
    example: Example | None
    """None when it was deleted."""


@dataclass(frozen=True, slots=True)
class QueueSummary:
    """What waits for its turn."""

    queued_block_count: int
    parked_block_count: int
    oldest_enqueued_us: int | None


class ReadTransaction:
    """One state of the store. Valid only within the `with` that gave it."""

    def __init__(self, tables: Mapping[str, Table], epoch_nonce: int) -> None:
        self._tables = tables
        self._epoch_nonce = epoch_nonce

    # --- The store as a whole.

    @property
    def store_id(self) -> bytes:
        """Names the store."""
        return self._tables["meta"].get(_STORE_ID) or b""

    @property
    def head_revision(self) -> int:
        """The newest revision given."""
        return self._number(_HEAD)

    @property
    def compact_revision(self) -> int:
        """Tombstones up to this revision may be gone."""
        return self._number(_COMPACT)

    @property
    def clock_us(self) -> int:
        """The newest time given to a change."""
        return self._number(_CLOCK)

    @property
    def embedder_fingerprint(self) -> str:
        """The embedder in use: of every stored vector, unless there is a target. Empty in a new store."""
        return (self._tables["meta"].get(_FINGERPRINT) or b"").decode()

    @property
    def target_fingerprint(self) -> str:
        """The embedder that a change began towards: vectors are of both. Empty when none is under way."""
        return (self._tables["meta"].get(_TARGET_FINGERPRINT) or b"").decode()

    @property
    def policy_hash(self) -> bytes:
        """What the policy was when the examples were derived."""
        return self._tables["meta"].get(_POLICY) or b""

    @property
    def redaction_hash(self) -> bytes:
        """The redaction rules that all stored text has gone through."""
        return self._tables["meta"].get(_REDACTION) or b""

    @property
    def redaction_cursor(self) -> bytes:
        """How far stored text has gone through other rules; empty unless that is under way."""
        return self._tables["meta"].get(_REDACTION_CURSOR) or b""

    def durable_epochs(self) -> Iterator[Epoch]:
        """The history of the store as it is on disk, newest first. Tokens name only these."""
        for key, nonce in self._tables["epochs"].scan_down():
            yield Epoch(decode_u64(key[:U64_BYTES]), decode_u64(nonce))

    def epochs(self) -> list[Epoch]:
        """The history of the store, oldest first, the epoch of this process included."""
        known = list(self.durable_epochs())[::-1]
        if all(epoch.nonce != self._epoch_nonce for epoch in known):
            known.append(Epoch(self.head_revision, self._epoch_nonce))
        return known

    def tally(self, namespaces: Collection[str] = ()) -> Tally:
        """Count and digest of the live examples of some namespaces; of none named, of all."""
        if not namespaces:
            return Tally.decode(self._tables["meta"].get(_TALLY))
        count, total = 0, 0
        for namespace in set(namespaces):
            part = self._namespace_tally(namespace.encode())
            count, total = count + part.count, digest.add(total, part.digest)
        return Tally(count, total)

    # --- Blocks.

    @property
    def block_count(self) -> int:
        """Blocks known, the forgotten ones included."""
        return len(self._tables["blocks"])

    def block(self, key: BlockKey) -> BlockRecord | None:
        """What is known of a block."""
        encoded = self._tables["blocks"].get(key.encode())
        return None if encoded is None else BlockRecord.FromString(encoded)

    def blocks_after(self, key: BlockKey | None) -> Iterator[tuple[BlockKey, BlockRecord]]:
        """The blocks by key, after a key or from the first."""
        start = b"" if key is None else key.encode() + b"\0"
        for encoded, record in self._tables["blocks"].scan(start):
            yield BlockKey.decode(encoded), BlockRecord.FromString(record)

    def blocks_before(self, modified_us: int | None = None) -> Iterator[tuple[int, BlockKey]]:
        """The blocks that last changed before a time, or all, with those times, the latest first."""
        below = None if modified_us is None else encode_u64(modified_us)
        for time_key, key in self._tables["blocks_by_time"].scan_down(below):
            yield decode_u64(time_key), BlockKey.decode(key)

    # --- Work that waits.

    def pending(self, key: BlockKey) -> PendingRecord | None:
        """The place of a block in the queue."""
        encoded = self._tables["pending"].get(key.encode())
        return None if encoded is None else PendingRecord.FromString(encoded)

    def pending_after(self, key: BlockKey | None) -> Iterator[tuple[BlockKey, PendingRecord]]:
        """What waits or is parked, by key, after a key or from the first."""
        start = b"" if key is None else key.encode() + b"\0"
        for encoded, record in self._tables["pending"].scan(start):
            yield BlockKey.decode(encoded), PendingRecord.FromString(record)

    def queue_summary(self) -> QueueSummary:
        """Counts what waits. The parked are few, the counts are kept; only the oldest needs a scan."""
        parked = self._number(_PARKED)
        oldest = min(
            (
                record.enqueued_time.ToMicroseconds()
                for _, record in self.pending_after(None)
                if not record.parked
            ),
            default=None,
        )
        return QueueSummary(len(self._tables["pending"]) - parked, parked, oldest)

    @property
    def backfills(self) -> BackfillReader:
        """Work that was asked for once more."""
        return BackfillReader(self._tables)

    # --- Examples and their log.

    def example_revision(self, key: BlockKey) -> int | None:
        """Revision of the newest change of an example, a deletion included while it is remembered."""
        encoded = self._tables["examples"].get(key.encode())
        return None if encoded is None else decode_u64(encoded)

    def example(self, key: BlockKey) -> StoredExample | None:
        """The newest change of an example; None when there never was one, or its deletion is forgotten."""
        revision = self.example_revision(key)
        if revision is None:
            return None
        row = self._log_row(revision)
        if not row.live:
            return StoredExample(revision, None)
        return StoredExample(revision, ExampleUpdate.FromString(row.update).put)

    def is_learned(self, key: BlockKey) -> bool:
        """True when the block has an example."""
        revision = self.example_revision(key)
        return revision is not None and self._tables["tombstones"].get(encode_u64(revision)) is None

    @property
    def example_count_known(self) -> int:
        """Keys with a row in the log, the remembered deletions included."""
        return len(self._tables["examples"])

    def namespaces(self) -> set[str]:
        """The namespaces that ever had an example."""
        return {key[:-1].decode() for key, _ in self._tables["namespaces"].scan()}

    def log_after(self, revision: int) -> Iterator[tuple[int, LogRow]]:
        """The changes above a revision, in order."""
        for key, row in self._tables["log"].scan(encode_u64(revision + 1)):
            yield decode_u64(key), LogRow.decode(row)

    def log_before(self, revision: int | None = None) -> Iterator[tuple[int, LogRow]]:
        """The changes below a revision, or all, the newest first."""
        below = None if revision is None else encode_u64(revision)
        for key, row in self._tables["log"].scan_down(below):
            yield decode_u64(key), LogRow.decode(row)

    # --- Logs that are followed.

    def trace(self, namespace: str, trace_id: str) -> TraceRecord | None:
        """What is known of a trace."""
        encoded = self._tables["traces"].get(_trace_key(namespace, trace_id))
        return None if encoded is None else TraceRecord.FromString(encoded)

    def trace_times(self) -> Iterator[tuple[str, str, int]]:
        """Namespace and ID of every trace, with when a line last changed it; in no order of time."""
        for key, record in self._tables["traces"].scan():
            namespace, _, trace_id = key.partition(b"\0")
            modified = TraceRecord.FromString(record).modified_time
            yield namespace.decode(), trace_id.decode(), modified.ToMicroseconds()

    def traces_after(self, namespace: str, trace_id: str) -> Iterator[tuple[str, str, TraceRecord]]:
        """Namespace, ID and record of the traces after one, in the order of namespaces and IDs."""
        for key, record in self._tables["traces"].scan(_trace_key(namespace, trace_id) + b"\0"):
            found_namespace, _, found_id = key.partition(b"\0")
            yield found_namespace.decode(), found_id.decode(), TraceRecord.FromString(record)

    def traces(self, namespace: str) -> Iterator[tuple[str, TraceRecord]]:
        """The traces of a namespace, by ID."""
        prefix = _trace_key(namespace, "")
        for key, record in self._tables["traces"].scan(prefix):
            if not key.startswith(prefix):
                return
            yield key[len(prefix) :].decode(), TraceRecord.FromString(record)

    def log_file(self, identity: bytes) -> LogFileRecord | None:
        """How far a log file has been read."""
        encoded = self._tables["files"].get(identity)
        return None if encoded is None else LogFileRecord.FromString(encoded)

    def log_files(self) -> Iterator[tuple[bytes, LogFileRecord]]:
        """Every log file that was ever read, by identity."""
        for identity, record in self._tables["files"].scan():
            yield identity, LogFileRecord.FromString(record)

    # --- Below.

    def _number(self, name: bytes) -> int:
        return decode_u64(self._tables["meta"].get(name) or b"")

    def _namespace_tally(self, namespace: bytes) -> Tally:
        return Tally.decode(self._tables["namespaces"].get(namespace + b"\0"))

    def _log_row(self, revision: int) -> LogRow:
        encoded = self._tables["log"].get(encode_u64(revision))
        if encoded is None:
            raise KeyError(revision)
        return LogRow.decode(encoded)


class WriteTransaction(ReadTransaction):
    """A state of the store that is being changed. Durable only when `Store.submit`'s future says so."""

    def __init__(self, tables: Mapping[str, Table], epoch_nonce: int, wall_us: Callable[[], int]) -> None:
        super().__init__(tables, epoch_nonce)
        self._wall_us = wall_us
        # Of the clock in the store, once it was read: thousands of blocks may be stored in one transaction.
        self._last_tick_us: int | None = None
        self.changed_namespaces: set[str] = set()

    def tick_us(self) -> int:
        """A time later than any given before: the wall clock's, unless that has gone back."""
        if self._last_tick_us is None:
            self._last_tick_us = self.clock_us
        now = self._last_tick_us = max(self._wall_us(), self._last_tick_us + 1)
        self._tables["meta"].put(_CLOCK, encode_u64(now))
        return now

    # --- The store as a whole.

    def create(self, store_id: bytes) -> None:
        """Makes an empty store: names it and starts counting."""
        meta = self._tables["meta"]
        meta.put(_STORE_ID, store_id)
        for name in (_HEAD, _COMPACT, _CLOCK, _PARKED):
            meta.put(name, encode_u64(0))

    def set_embedder_fingerprint(self, fingerprint: str) -> None:
        """States the embedder of every stored vector; ends a change that was under way."""
        self._tables["meta"].put(_FINGERPRINT, fingerprint.encode())
        self._tables["meta"].delete(_TARGET_FINGERPRINT)

    def set_target_fingerprint(self, fingerprint: str) -> None:
        """States that vectors of another embedder are among those of the one in use from here on."""
        self._tables["meta"].put(_TARGET_FINGERPRINT, fingerprint.encode())

    def set_policy_hash(self, policy_hash: bytes) -> None:
        """States the policy that the examples are derived by."""
        self._tables["meta"].put(_POLICY, policy_hash)

    def set_redaction_hash(self, redaction_hash: bytes) -> None:
        """States the rules that all stored text has gone through, and that nothing more is under way."""
        self._tables["meta"].put(_REDACTION, redaction_hash)
        self.set_redaction_cursor(b"")

    def set_redaction_cursor(self, cursor: bytes) -> None:
        """Notes how far stored text has gone through other rules."""
        self._tables["meta"].put(_REDACTION_CURSOR, cursor)

    def begin_epoch(self) -> None:
        """Starts the epoch of this process at the head. Forgets the oldest ones beyond `EPOCHS_KEPT_MAX`."""
        epochs = self._tables["epochs"]
        last = next(epochs.scan_down(), None)
        number = 0 if last is None else decode_u64(last[0][U64_BYTES:]) + 1
        epochs.append(encode_u64(self.head_revision) + encode_u64(number), encode_u64(self._epoch_nonce))
        for key, _ in list(_first(epochs.scan(), len(epochs) - EPOCHS_KEPT_MAX)):
            epochs.delete(key)

    # --- Blocks and the work on them.

    @property
    def backfills(self) -> BackfillWriter:
        """Work that was asked for once more."""
        return BackfillWriter(self._tables, self.tick_us)

    def put_block(self, key: BlockKey, record: BlockRecord) -> None:
        """Stores a block that changed, gives it a new modification time, and queues it for learning."""
        modified_us = self._put_block_at_new_time(key, record)
        before = self.pending(key)
        waiting = PendingRecord()
        if before is not None and not before.parked:
            waiting.enqueued_time.CopyFrom(before.enqueued_time)
        else:
            waiting.enqueued_time.FromMicroseconds(modified_us)
        self._put_pending(key, waiting, before)

    def put_forgotten_block(self, key: BlockKey) -> None:
        """Stores that a block is forgotten: nothing of it is kept, nothing waits."""
        self._put_block_at_new_time(key, BlockRecord(forgotten=True))
        self.delete_pending(key)

    def put_pending(self, key: BlockKey, record: PendingRecord) -> None:
        """Stores the place of a block in the queue."""
        self._put_pending(key, record, self.pending(key))

    def delete_pending(self, key: BlockKey) -> None:
        """Takes a block out of the queue. One that is not there stays so."""
        self._count_parked(self.pending(key), parked_now=False)
        self._tables["pending"].delete(key.encode())

    # --- Examples.

    def put_example(self, example: Example) -> int:
        """Stores an example at a new revision and returns that. Sets its modification time."""
        example.modified_time.FromMicroseconds(self.tick_us())
        revision = self._next_revision()
        update = ExampleUpdate(revision=revision, put=example).SerializeToString()
        key = BlockKey(example.namespace, example.id)
        self._supersede(key)
        self._announce(key, revision, LogRow(True, key.encode(), update))
        self._retally(key, lambda tally: tally.with_row(key.encode(), revision))
        return revision

    def delete_example(self, key: BlockKey) -> int | None:
        """Deletes an example and returns the revision of that; None when there is none."""
        if not self.is_learned(key):
            return None
        deleted_us = self.tick_us()
        revision = self._next_revision()
        update = ExampleUpdate(revision=revision)
        update.deleted.namespace, update.deleted.id = key
        self._supersede(key)
        self._announce(key, revision, LogRow(False, key.encode(), update.SerializeToString()))
        self._tables["tombstones"].append(encode_u64(revision), encode_u64(deleted_us))
        return revision

    def compact(self, *, deleted_before_us: int, kept_min: int, kept_max: int, dropped_max: int) -> int:
        """Forgets old deletions, the oldest first, and returns how many.

        A deletion goes when it is older than `deleted_before_us` and `kept_min` newer ones stay, or when more
        than `kept_max` are kept. Live examples are never touched. A stream that may have missed a deletion
        that is gone can tell by the compact revision, which moves in this transaction.

        Args:
            deleted_before_us: by the store's clock.
            kept_min: deletions that are kept whatever their age.
            kept_max: deletions that are kept at most.
            dropped_max: bounds the transaction.
        """
        tombstones = self._tables["tombstones"]
        count = len(tombstones)
        dropped: list[bytes] = []
        for row_key, deleted_us in tombstones.scan():
            left = count - len(dropped)
            too_many = left > kept_max
            too_old = left > kept_min and decode_u64(deleted_us) < deleted_before_us
            if len(dropped) == dropped_max or not (too_many or too_old):
                break
            dropped.append(row_key)
        for row_key in dropped:
            self._tables["examples"].delete(self._log_row(decode_u64(row_key)).key)
            self._tables["log"].delete(row_key)
            tombstones.delete(row_key)
        if dropped:
            self._tables["meta"].put(_COMPACT, dropped[-1])
        return len(dropped)

    # --- Logs that are followed.

    def put_trace(self, namespace: str, trace_id: str, record: TraceRecord) -> None:
        """Stores what is known of a trace."""
        self._tables["traces"].put(_trace_key(namespace, trace_id), record.SerializeToString())

    def delete_trace(self, namespace: str, trace_id: str) -> None:
        """Drops what is known of a trace, but the blocks that `take_trace_blocks` gives."""
        self._tables["traces"].delete(_trace_key(namespace, trace_id))

    def add_trace_block(self, namespace: str, trace_id: str, block_id: str) -> None:
        """Notes a block that a trace names, beside those in its record; once is enough."""
        key = _trace_blocks_prefix(namespace, trace_id) + block_id.encode()
        if self._tables["trace_blocks"].get(key) is None:
            self._tables["trace_blocks"].put(key, b"")

    def take_trace_blocks(self, namespace: str, trace_id: str, count_max: int) -> list[str]:
        """Takes blocks that were noted beside those in the record; fewer than asked for when that is all."""
        prefix = _trace_blocks_prefix(namespace, trace_id)
        rows = takewhile(lambda row: row[0].startswith(prefix), self._tables["trace_blocks"].scan(prefix))
        keys = [key for key, _ in islice(rows, count_max)]
        for key in keys:
            self._tables["trace_blocks"].delete(key)
        return [key.removeprefix(prefix).decode() for key in keys]

    def put_log_file(self, identity: bytes, record: LogFileRecord) -> None:
        """Stores how far a log file has been read."""
        self._tables["files"].put(identity, record.SerializeToString())

    def delete_log_file(self, identity: bytes) -> None:
        """Drops what is known of a log file."""
        self._tables["files"].delete(identity)

    # --- Below.

    def _put_block_at_new_time(self, key: BlockKey, record: BlockRecord) -> int:
        encoded_key = key.encode()
        before = self.block(key)
        if before is not None:
            before_us = before.modified_time.ToMicroseconds()
            self._tables["blocks_by_time"].delete(encode_u64(before_us))
            self.backfills.block_leaves(encoded_key, before_us)
        modified_us = self.tick_us()
        record.modified_time.FromMicroseconds(modified_us)
        self._tables["blocks"].put(encoded_key, record.SerializeToString(deterministic=True))
        self._tables["blocks_by_time"].append(encode_u64(modified_us), encoded_key)
        return modified_us

    def _put_pending(self, key: BlockKey, record: PendingRecord, before: PendingRecord | None) -> None:
        self._count_parked(before, parked_now=record.parked)
        self._tables["pending"].put(key.encode(), record.SerializeToString())

    def _count_parked(self, before: PendingRecord | None, *, parked_now: bool) -> None:
        parked_before = before is not None and before.parked
        if parked_now != parked_before:
            count = self._number(_PARKED) + (1 if parked_now else -1)
            self._tables["meta"].put(_PARKED, encode_u64(count))

    def _next_revision(self) -> int:
        revision = self.head_revision + 1
        self._tables["meta"].put(_HEAD, encode_u64(revision))
        return revision

    def _supersede(self, key: BlockKey) -> None:
        """Takes the row of a key's last change out of the log, its tombstone or its share of the tally."""
        revision = self.example_revision(key)
        if revision is None:
            return
        row_key = encode_u64(revision)
        self._tables["log"].delete(row_key)
        if not self._tables["tombstones"].delete(row_key):
            self._retally(key, lambda tally: tally.without_row(key.encode(), revision))

    def _announce(self, key: BlockKey, revision: int, row: LogRow) -> None:
        self._tables["log"].append(encode_u64(revision), row.encode())
        self._tables["examples"].put(key.encode(), encode_u64(revision))
        self.changed_namespaces.add(key.namespace)

    def _retally(self, key: BlockKey, change: Callable[[Tally], Tally]) -> None:
        namespace = key.namespace.encode()
        self._tables["namespaces"].put(namespace + b"\0", change(self._namespace_tally(namespace)).encode())
        self._tables["meta"].put(_TALLY, change(self.tally()).encode())


def _trace_key(namespace: str, trace_id: str) -> bytes:
    return namespace.encode() + b"\0" + trace_id.encode()


def _trace_blocks_prefix(namespace: str, trace_id: str) -> bytes:
    """Of no trace the beginning of that of another one, whatever the two IDs hold."""
    encoded_id = trace_id.encode()
    return namespace.encode() + b"\0" + bytes((len(encoded_id),)) + encoded_id


def _first(rows: Iterable[tuple[bytes, bytes]], count: int) -> Iterator[tuple[bytes, bytes]]:
    for _, row in zip(range(count), rows, strict=False):
        yield row
