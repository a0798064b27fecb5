"""What can be changed in one transaction of the store, in the terms of the Learner.

The tables are keyed as the comments in `tables.py` say.
Nothing here knows the engine below; `store.py` hands in the tables of a transaction and commits it.

Invariants, which `integrity.py` checks on the whole store:
    the head revision never goes down, and every revision is given to one change;
    `log` holds one row a key, at its newest revision, and `examples` inverts `log`;
    a tombstone stands for each deleted row of `log`, and for nothing else;
    count and digest of a namespace are those of its live rows;
    `blocks_by_time` inverts the modification times of `blocks`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice, takewhile
from typing import Final

from errata.store.v1.store_pb2 import BlockRecord, LogFileRecord, PendingRecord, TraceRecord
from errata.v1.example_pb2 import Example
from errata.v1.learner_pb2 import ExampleUpdate
from learner_service.backfill.rows import BackfillWriter
from learner_service.keys import BlockKey
from learner_service.store.read_transaction import ReadTransaction
from learner_service.store.rows import LogRow, Tally
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
    trace_blocks_prefix,
    trace_key,
)
from learner_service.u64 import U64_BYTES, decode_u64, encode_u64

EPOCHS_KEPT_MAX: Final = 1_000
"""Older epochs are dropped: a token of one is then of an unknown epoch, and is lost."""


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
        self._tables["meta"].put(META_CLOCK, encode_u64(now))
        return now

    # --- The store as a whole.

    def create(self, store_id: bytes) -> None:
        """Makes an empty store: names it and starts counting."""
        meta = self._tables["meta"]
        meta.put(META_STORE_ID, store_id)
        for name in (META_HEAD, META_COMPACT, META_CLOCK, META_PARKED):
            meta.put(name, encode_u64(0))

    def set_embedder_fingerprint(self, fingerprint: str) -> None:
        """States the embedder of every stored vector; ends a change that was under way."""
        self._tables["meta"].put(META_FINGERPRINT, fingerprint.encode())
        self._tables["meta"].delete(META_TARGET_FINGERPRINT)

    def set_target_fingerprint(self, fingerprint: str) -> None:
        """States that vectors of another embedder are among those of the one in use from here on."""
        self._tables["meta"].put(META_TARGET_FINGERPRINT, fingerprint.encode())

    def set_policy_hash(self, policy_hash: bytes) -> None:
        """States the policy that the examples are derived by."""
        self._tables["meta"].put(META_POLICY, policy_hash)

    def set_redaction_hash(self, redaction_hash: bytes) -> None:
        """States the rules that all stored text has gone through, and that nothing more is under way."""
        self._tables["meta"].put(META_REDACTION, redaction_hash)
        self.set_redaction_cursor(b"")

    def set_redaction_cursor(self, cursor: bytes) -> None:
        """Notes how far stored text has gone through other rules."""
        self._tables["meta"].put(META_REDACTION_CURSOR, cursor)

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
            self._tables["meta"].put(META_COMPACT, dropped[-1])
        return len(dropped)

    # --- Logs that are followed.

    def put_trace(self, namespace: str, trace_id: str, record: TraceRecord) -> None:
        """Stores what is known of a trace."""
        self._tables["traces"].put(trace_key(namespace, trace_id), record.SerializeToString())

    def delete_trace(self, namespace: str, trace_id: str) -> None:
        """Drops what is known of a trace, but the blocks that `take_trace_blocks` gives."""
        self._tables["traces"].delete(trace_key(namespace, trace_id))

    def add_trace_block(self, namespace: str, trace_id: str, block_id: str) -> None:
        """Notes a block that a trace names, beside those in its record; once is enough."""
        key = trace_blocks_prefix(namespace, trace_id) + block_id.encode()
        if self._tables["trace_blocks"].get(key) is None:
            self._tables["trace_blocks"].put(key, b"")

    def take_trace_blocks(self, namespace: str, trace_id: str, count_max: int) -> list[str]:
        """Takes blocks that were noted beside those in the record; fewer than asked for when that is all."""
        prefix = trace_blocks_prefix(namespace, trace_id)
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
            count = self._number(META_PARKED) + (1 if parked_now else -1)
            self._tables["meta"].put(META_PARKED, encode_u64(count))

    def _next_revision(self) -> int:
        revision = self.head_revision + 1
        self._tables["meta"].put(META_HEAD, encode_u64(revision))
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
        self._tables["meta"].put(META_TALLY, change(self.tally()).encode())


def _first(rows: Iterable[tuple[bytes, bytes]], count: int) -> Iterator[tuple[bytes, bytes]]:
    for _, row in zip(range(count), rows, strict=False):
        yield row
