"""What can be read in one state of the store, in the terms of the Learner."""

from collections.abc import Collection, Iterator, Mapping

from errata import digest
from errata.store.v1.store_pb2 import BlockRecord, LogFileRecord, PendingRecord, TraceRecord
from errata.v1.learner_pb2 import ExampleUpdate
from learner_service.backfill.rows import BackfillReader
from learner_service.keys import BlockKey
from learner_service.store.rows import Epoch, LogRow, QueueSummary, StoredExample, Tally
from learner_service.store.tables import (
    META_CLOCK,
    META_COMPACT,
    META_FINGERPRINT,
    META_HEAD,
    META_PARKED,
    META_POLICY,
    META_REDACTION,
    META_REDACTION_CURSOR,
    META_STORE_ID,
    META_TALLY,
    META_TARGET_FINGERPRINT,
    Table,
    trace_key,
)
from learner_service.u64 import U64_BYTES, decode_u64, encode_u64


class ReadTransaction:
    """One state of the store. Valid only within the `with` that gave it."""

    def __init__(self, tables: Mapping[str, Table], epoch_nonce: int) -> None:
        self._tables = tables
        self._epoch_nonce = epoch_nonce

    # --- The store as a whole.

    @property
    def store_id(self) -> bytes:
        """Names the store."""
        return self._tables["meta"].get(META_STORE_ID) or b""

    @property
    def head_revision(self) -> int:
        """The newest revision given."""
        return self._number(META_HEAD)

    @property
    def compact_revision(self) -> int:
        """Tombstones up to this revision may be gone."""
        return self._number(META_COMPACT)

    @property
    def clock_us(self) -> int:
        """The newest time given to a change."""
        return self._number(META_CLOCK)

    @property
    def embedder_fingerprint(self) -> str:
        """The embedder in use: of every stored vector, unless there is a target. Empty in a new store."""
        return (self._tables["meta"].get(META_FINGERPRINT) or b"").decode()

    @property
    def target_fingerprint(self) -> str:
        """The embedder that a change began towards: vectors are of both. Empty when none is under way."""
        return (self._tables["meta"].get(META_TARGET_FINGERPRINT) or b"").decode()

    @property
    def policy_hash(self) -> bytes:
        """What the policy was when the examples were derived."""
        return self._tables["meta"].get(META_POLICY) or b""

    @property
    def redaction_hash(self) -> bytes:
        """The redaction rules that all stored text has gone through."""
        return self._tables["meta"].get(META_REDACTION) or b""

    @property
    def redaction_cursor(self) -> bytes:
        """How far stored text has gone through other rules; empty unless that is under way."""
        return self._tables["meta"].get(META_REDACTION_CURSOR) or b""

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
            return Tally.decode(self._tables["meta"].get(META_TALLY))
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
        parked = self._number(META_PARKED)
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
        encoded = self._tables["traces"].get(trace_key(namespace, trace_id))
        return None if encoded is None else TraceRecord.FromString(encoded)

    def trace_times(self) -> Iterator[tuple[str, str, int]]:
        """Namespace and ID of every trace, with when a line last changed it; in no order of time."""
        for key, record in self._tables["traces"].scan():
            namespace, _, trace_id = key.partition(b"\0")
            modified = TraceRecord.FromString(record).modified_time
            yield namespace.decode(), trace_id.decode(), modified.ToMicroseconds()

    def traces_after(self, namespace: str, trace_id: str) -> Iterator[tuple[str, str, TraceRecord]]:
        """Namespace, ID and record of the traces after one, in the order of namespaces and IDs."""
        for key, record in self._tables["traces"].scan(trace_key(namespace, trace_id) + b"\0"):
            found_namespace, _, found_id = key.partition(b"\0")
            yield found_namespace.decode(), found_id.decode(), TraceRecord.FromString(record)

    def traces(self, namespace: str) -> Iterator[tuple[str, TraceRecord]]:
        """The traces of a namespace, by ID."""
        prefix = trace_key(namespace, "")
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
