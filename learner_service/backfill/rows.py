"""Backfills as rows of the store: what each has to do, what of it is done, and counts that never lie.

The range of a backfill holds the blocks that last changed in [start, until), in its namespaces. A block of
the range is done once a result is stored for it, whoever asked for that, or once it changes and so leaves the
range. Nothing is marked beforehand: what is to be done is what `blocks_by_time` says.

Rows, in the table `backfills`, with an ID never holding the bytes 0 and 1:
    ID -> BackfillRecord
    ID ‖ 0 ‖ modified time -> nothing, for each block above the cursor that is done

Invariants of a running backfill, which `store/integrity.py` checks:
    every block of the range below the cursor is done;
    a row of a done block stands for a block of the range above the cursor;
    matched = done + the blocks of the range that are not done: in any state, the first follows from the rest.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from errata.store.v1.store_pb2 import BackfillRecord
from errata.v1.learner_pb2 import BackfillRequest
from learner_service.keys import BlockKey
from learner_service.store.tables import Table
from learner_service.u64 import decode_u64, encode_u64

PASSED_ROWS_MAX: Final = 1_000
"""Rows that the cursor passes in one transaction. Those left over are passed by the next."""

_RUNNING: Final = b"backfills_running"
_SEPARATOR: Final = b","
_TIME_US_MAX: Final = (1 << 63) - 1


class Reconciled(NamedTuple):
    """A result that is stored in this transaction."""

    key: BlockKey
    modified_us: int
    """The version of the block that was reconciled, which it still has."""
    changed: bool
    """Whether its example changed."""
    failed: bool
    """Whether it failed for good."""


@dataclass(frozen=True, slots=True)
class Range:
    """The blocks that a backfill is about."""

    start_us: int
    until_us: int
    """Not part of it."""
    namespaces: frozenset[bytes]
    """Encoded; every namespace when empty."""

    @classmethod
    def of(cls, request: BackfillRequest, until_us: int) -> Self:
        """The range that a valid request asks for when the clock stands at `until_us`."""
        return cls(
            start_us=_start_us(request),
            until_us=until_us,
            namespaces=frozenset(name.encode() for name in request.namespaces),
        )

    def holds(self, modified_us: int, encoded_key: bytes) -> bool:
        """Whether a block that last changed then is part of it."""
        return self.start_us <= modified_us < self.until_us and self.has_namespace_of(encoded_key)

    def has_namespace_of(self, encoded_key: bytes) -> bool:
        """Whether a block is of one of the namespaces."""
        return not self.namespaces or encoded_key[: encoded_key.index(0)] in self.namespaces


class Found(NamedTuple):
    """Blocks that are not done, found from some time on."""

    keys: list[BlockKey]
    next_us: int | None
    """Where to look on; None at the end of the range."""


class BackfillReader:
    """The backfills in one state of the store."""

    def __init__(self, tables: "Mapping[str, Table]") -> None:
        self._meta = tables["meta"]
        self._rows = tables["backfills"]
        self._by_time = tables["blocks_by_time"]

    def running_ids(self) -> list[str]:
        """The backfills that have not ended, the one that began first in front."""
        encoded = self._meta.get(_RUNNING)
        return [] if not encoded else [name.decode() for name in encoded.split(_SEPARATOR)]

    def get(self, backfill_id: str) -> BackfillRecord | None:
        """A backfill, running or ended."""
        encoded = self._rows.get(backfill_id.encode())
        return None if encoded is None else BackfillRecord.FromString(encoded)

    def all(self) -> Iterator[tuple[str, BackfillRecord]]:
        """Every backfill that is kept, by ID."""
        start = b""
        while (row := next(self._rows.scan(start), None)) is not None:
            yield row[0].decode(), BackfillRecord.FromString(row[1])
            # Above the rows of its done blocks, and below every other ID.
            start = row[0] + b"\1"

    def match_count(self, wanted: Range) -> int:
        """How many blocks a range holds. Reads a row for each block of its time."""
        return sum(1 for _ in self._rows_of(wanted, wanted.start_us))

    def left_count(self, backfill_id: str) -> int:
        """How many blocks of a backfill are not done. Reads a row for each block of the time that is left."""
        record = self._known(backfill_id)
        rows = self._rows_of(range_of(record), cursor_us(record))
        return sum(1 for modified_us, _ in rows if not self._is_done(backfill_id, modified_us))

    def undone(self, backfill_id: str, from_us: int, *, count_max: int, rows_max: int) -> Found:
        """The first blocks of a backfill that are not done, by time.

        Args:
            backfill_id: of one that is known.
            from_us: looks no lower, and never below the cursor.
            count_max: blocks to find.
            rows_max: rows to look at.
        """
        record = self._known(backfill_id)
        wanted = range_of(record)
        found: list[BlockKey] = []
        next_us = max(from_us, cursor_us(record))
        for scanned, (time_key, key) in enumerate(self._by_time.scan(encode_u64(next_us))):
            modified_us = decode_u64(time_key)
            if modified_us >= wanted.until_us:
                return Found(found, None)
            if scanned == rows_max or len(found) == count_max:
                return Found(found, modified_us)
            if wanted.has_namespace_of(key) and not self._is_done(backfill_id, modified_us):
                found.append(BlockKey.decode(key))
        return Found(found, None)

    def done_times(self, backfill_id: str) -> Iterator[int]:
        """When the blocks changed that are done and stand above the cursor."""
        prefix = backfill_id.encode() + b"\0"
        for key, _ in self._rows.scan(prefix):
            if not key.startswith(prefix):
                return
            yield decode_u64(key[len(prefix) :])

    def _rows_of(self, wanted: Range, from_us: int) -> Iterator[tuple[int, bytes]]:
        for time_key, key in self._by_time.scan(encode_u64(from_us)):
            modified_us = decode_u64(time_key)
            if modified_us >= wanted.until_us:
                return
            if wanted.has_namespace_of(key):
                yield modified_us, key

    def _is_done(self, backfill_id: str, modified_us: int) -> bool:
        """Whether a block of the range above the cursor is done."""
        return self._rows.get(_done_row(backfill_id, modified_us)) is not None

    def _known(self, backfill_id: str) -> BackfillRecord:
        record = self.get(backfill_id)
        if record is None:
            raise KeyError(backfill_id)
        return record


class BackfillWriter(BackfillReader):
    """The backfills in a transaction that changes them."""

    def __init__(self, tables: "Mapping[str, Table]", tick_us: Callable[[], int]) -> None:
        super().__init__(tables)
        # Later than any change before, and earlier than any after.
        self._tick_us = tick_us

    def begin(self, backfill_id: str, request: BackfillRequest) -> None:
        """Begins a backfill of what a valid request asks for. One of the same name is dropped.

        Its blocks are counted later: see `set_matched`. A result that is stored until then counts as well.
        """
        self.drop(backfill_id)
        now_us = self._tick_us()
        record = BackfillRecord(request=request)
        del record.request.namespaces[:]
        record.request.namespaces.extend(sorted(set(request.namespaces)))
        record.until_time.FromMicroseconds(now_us)
        record.progress.start_time.FromMicroseconds(now_us)
        record.cursor = encode_u64(min(_start_us(request), now_us))
        self._set_running([*self.running_ids(), backfill_id])
        self._advance(backfill_id, record, ())
        self._put(backfill_id, record)

    def set_matched(self, backfill_id: str, count: int) -> None:
        """Notes how many blocks match: in any one state of the store those done and those that are not."""
        record = self.get(backfill_id)
        if record is not None and not record.counted:
            record.progress.matched_block_count = count
            record.counted = True
            self._put(backfill_id, record)

    def count(self, results: Collection[Reconciled]) -> None:
        """Counts results for every running backfill whose range holds their blocks, each block once."""
        for backfill_id in self.running_ids() if results else ():
            record = self._known(backfill_id)
            wanted, cursor = range_of(record), cursor_us(record)
            done_us: set[int] = set()
            for result in results:
                modified_us = result.modified_us
                if (
                    modified_us < cursor
                    or modified_us in done_us
                    or not wanted.holds(modified_us, result.key.encode())
                    or self._is_done(backfill_id, modified_us)
                ):
                    continue
                done_us.add(modified_us)
                record.progress.changed_block_count += result.changed
                record.progress.failed_block_count += result.failed
            if done_us:
                record.progress.done_block_count += len(done_us)
                self._advance(backfill_id, record, done_us)
                self._put(backfill_id, record)

    def block_leaves(self, encoded_key: bytes, modified_us: int) -> None:
        """Counts a block that changes now as done, for every running backfill whose range held it."""
        for backfill_id in self.running_ids():
            record = self._known(backfill_id)
            if modified_us < cursor_us(record) or not range_of(record).holds(modified_us, encoded_key):
                continue
            # The row of a block that was done goes with the block.
            if not self._rows.delete(_done_row(backfill_id, modified_us)):
                record.progress.done_block_count += 1
                self._put(backfill_id, record)

    def advance(self, backfill_id: str) -> None:
        """Moves the cursor past what is done; at the end of the range the backfill has ended."""
        record = self._known(backfill_id)
        if not has_ended(record):
            self._advance(backfill_id, record, ())
            self._put(backfill_id, record)

    def drop(self, backfill_id: str) -> None:
        """Drops what is known of a backfill; one that runs is given up."""
        for modified_us in list(self.done_times(backfill_id)):
            self._rows.delete(_done_row(backfill_id, modified_us))
        self._rows.delete(backfill_id.encode())
        self._set_running([each for each in self.running_ids() if each != backfill_id])

    def _advance(self, backfill_id: str, record: BackfillRecord, done_us: Collection[int]) -> None:
        """Moves the cursor to the first block that is not done, and notes what is done above it.

        Args:
            backfill_id: of the record.
            record: is changed, and put by the caller.
            done_us: when the blocks changed that are done since, none of which has a row.
        """
        wanted = range_of(record)
        new_cursor_us = wanted.until_us
        for scanned, (time_key, key) in enumerate(self._by_time.scan(record.cursor)):
            modified_us = decode_u64(time_key)
            if modified_us >= wanted.until_us:
                break
            if scanned == PASSED_ROWS_MAX or not (
                not wanted.has_namespace_of(key)
                or modified_us in done_us
                or self._rows.delete(_done_row(backfill_id, modified_us))
            ):
                new_cursor_us = modified_us
                break
        record.cursor = encode_u64(new_cursor_us)
        for modified_us in done_us:
            if modified_us >= new_cursor_us:
                self._rows.put(_done_row(backfill_id, modified_us), b"")
        if new_cursor_us == wanted.until_us:
            self._end(backfill_id, record)

    def _end(self, backfill_id: str, record: BackfillRecord) -> None:
        record.progress.end_time.FromMicroseconds(self._tick_us())
        if not record.counted:
            # Nothing is left, so what is done is what matched.
            record.progress.matched_block_count = record.progress.done_block_count
            record.counted = True
        self._set_running([each for each in self.running_ids() if each != backfill_id])

    def _put(self, backfill_id: str, record: BackfillRecord) -> None:
        self._rows.put(backfill_id.encode(), record.SerializeToString())

    def _set_running(self, backfill_ids: Iterable[str]) -> None:
        self._meta.put(_RUNNING, _SEPARATOR.join(each.encode() for each in backfill_ids))


def range_of(record: BackfillRecord) -> Range:
    """The blocks that a backfill is about."""
    return Range.of(record.request, record.until_time.ToMicroseconds())


def cursor_us(record: BackfillRecord) -> int:
    """Every block of the range that changed before this time is done."""
    return decode_u64(record.cursor)


def has_ended(record: BackfillRecord) -> bool:
    """Whether nothing is left to do."""
    return record.progress.HasField("end_time")


def _start_us(request: BackfillRequest) -> int:
    """The first microsecond at or after the start of a request; blocks change at whole microseconds."""
    start = request.start_time
    start_us = start.seconds * 1_000_000 - (-start.nanos // 1_000)
    return min(max(start_us, 0), _TIME_US_MAX)


def _done_row(backfill_id: str, modified_us: int) -> bytes:
    return backfill_id.encode() + b"\0" + encode_u64(modified_us)
