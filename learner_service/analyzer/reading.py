"""One step through one file: the next lines of it, understood, ready to be stored."""

import os
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, TypeAlias

from errata.store.v1.store_pb2 import LogFileRecord
from learner_service.analyzer.dialects import (
    IGNORED,
    MALFORMED,
    DialectName,
    LineRead,
    LineReader,
    Outcome,
)
from learner_service.analyzer.follower import Chunk, read_chunk
from learner_service.analyzer.following import LogFile
from learner_service.analyzer.identity import (
    TAIL_BYTES_MAX,
    Identity,
    new_identity,
    tail_checksum,
)
from learner_service.analyzer.json_object import is_object
from learner_service.analyzer.line_times import TAIL_BYTES, newest_time_s
from learner_service.analyzer.opening import opened, read_head
from learner_service.analyzer.records import LineRecord

EVENTS_MAX: Final = 1_000
"""Of one step: all of them are one transaction, which other writers wait for. As in RecordEventsRequest."""
STEP_BYTES: Final = 4 * 1024 * 1024
"""Read in one step as long as nothing is said: most of a server's log is not for us, and a commit costs."""

Kind: TypeAlias = tuple[DialectName, Outcome]


class Count(NamedTuple):
    """How much of a file was of one kind."""

    line_count: int
    byte_count: int


class Said(NamedTuple):
    """A line that says something."""

    record: LineRecord
    end_offset: int
    """Just after it."""
    malformed_before_count: int
    """Malformed lines between it and the last line that said something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What some lines of a file say, and where the file stands after them."""

    namespace: str
    path_text: str
    said: tuple[Said, ...]
    """Valid, and redacted unless that is off."""
    malformed_after_count: int
    """Malformed lines after the last line that says something."""
    before: LogFileRecord | None
    """The stored record that this follows on; None when the file has none."""
    before_key: bytes
    """Its key, or the key that it is going to have."""
    identity: Identity
    """The identity to store it under; the key may differ from the one before."""
    start: LogFileRecord
    """Where the file stands if nothing of this is stored: offset, and whether that is in a long line."""
    end_offset: int
    inside_long_line: bool
    tail_checksum: int
    now_us: int
    """The Learner's clock when the lines were read."""
    at_end: bool
    """True when there was nothing more to read."""
    behind_s: float | None
    """How much older the last line is than the newest of the file; None when they do not say."""
    counts: Mapping[Kind, Count]
    """Of all lines, also those of which parts are stored already."""

    def record_after(self, said_count: int, refused_count: int) -> LogFileRecord:
        """The record to store once some of the lines are stored.

        Args:
            said_count: how many of `said`, from the first; 0 when not even that is stored as a whole.
            refused_count: malformed lines that only came to light when they were stored.
        """
        ended = said_count == len(self.said)
        malformed_count = sum(each.malformed_before_count for each in self.said[:said_count])
        if ended:
            offset_bytes, inside_long_line = self.end_offset, self.inside_long_line
        elif said_count:
            offset_bytes, inside_long_line = self.said[said_count - 1].end_offset, False
        else:
            offset_bytes, inside_long_line = self.start.offset_bytes, self.start.inside_long_line
        record = LogFileRecord(
            path=self.path_text,
            offset_bytes=offset_bytes,
            malformed_line_count=(0 if self.before is None else self.before.malformed_line_count)
            + malformed_count
            + (self.malformed_after_count if ended else 0)
            + refused_count,
            identity_bytes=self.identity.head_bytes,
            identity_has_path=self.identity.has_path,
            inside_long_line=inside_long_line,
            # Of a place within the step nobody knows it; the rest follows at once.
            tail_checksum=self.tail_checksum if ended else 0,
        )
        record.read_time.FromMicroseconds(self.now_us)
        return record

    def after(self, said_count: int, record: LogFileRecord) -> "Step | None":
        """What is left of this when some of the lines are stored; None when that is nothing.

        Args:
            said_count: how many of `said`, from the first.
            record: as it was stored with them.
        """
        if said_count == len(self.said):
            return None
        return replace(
            self, said=self.said[said_count:], before=record, before_key=self.identity.key, start=record
        )


def read_step(file: LogFile, taken: Container[bytes], now_us: int, *, redaction: bool = True) -> Step | None:
    """Reads the next lines of a file.

    Args:
        file: to be read on from its offset, or from its start when what was read before is no longer there.
        taken: keys under which records of files are stored.
        now_us: the Learner's clock.
        redaction: False leaves secrets in.

    Returns:
        None when the file has nothing complete to read, or is not the file any more that it was.

    Raises:
        OSError: it cannot be read.
    """
    with opened(file.path) as handle:
        head = read_head(handle)
        path = file.path_text
        if not head or (file.identity is not None and not file.identity.matches(head, file.namespace, path)):
            return None
        if file.record.tail_checksum and file.record.tail_checksum != _tail_checksum(
            handle, file.record.offset_bytes
        ):
            file.start_again()
        read = _Reading(file, now_us, redaction=redaction)
        read.go_on(handle)
        if read.end_offset == file.offset_bytes:
            return None
        if file.identity is None:
            identity = new_identity(head, file.namespace, path, taken)
        else:
            identity = file.identity.extended(head, file.namespace, path, taken)
        return Step(
            namespace=file.namespace,
            path_text=path,
            said=tuple(read.said),
            malformed_after_count=read.malformed_count,
            before=None if file.identity is None else file.record,
            before_key=identity.key if file.identity is None else file.identity.key,
            identity=identity,
            start=LogFileRecord(offset_bytes=file.offset_bytes, inside_long_line=file.inside_long_line),
            end_offset=read.end_offset,
            inside_long_line=read.inside_long_line,
            tail_checksum=_tail_checksum(handle, read.end_offset),
            now_us=now_us,
            at_end=read.at_end,
            behind_s=0.0 if read.at_end else _behind_s(handle, read.end_offset),
            counts=read.counts(),
        )


class _Reading:
    """Reads lines one after the other, and knows where the file stands after them."""

    def __init__(self, file: LogFile, now_us: int, *, redaction: bool) -> None:
        self.start_offset = self.end_offset = file.offset_bytes
        self.inside_long_line = file.inside_long_line
        self.at_end = False
        self.said: list[Said] = []
        self.malformed_count = 0
        self._reader = LineReader(namespace=file.namespace, now_us=now_us, redaction=redaction)
        self._event_count = 0
        self._counts: dict[Kind, list[int]] = {}

    def go_on(self, handle: int) -> None:
        """Reads until something was said and its chunk is over, or enough was read."""
        while not self.said and self.end_offset - self.start_offset < STEP_BYTES:
            chunk = read_chunk(
                lambda count, offset: os.pread(handle, count, offset),
                self.end_offset,
                inside_long_line=self.inside_long_line,
                is_whole=is_object,
            )
            self.at_end = self._take(chunk) and chunk.at_end
            if self.at_end:
                return

    def counts(self) -> dict[Kind, Count]:
        """How much was of which kind."""
        return {kind: Count(*counted) for kind, counted in self._counts.items()}

    def _take(self, chunk: Chunk) -> bool:
        """Understands the lines of a chunk; False when it took only as many as fill a step."""
        ignored_count = ignored_bytes = 0
        read_line = self._reader.read
        offset = self.end_offset
        for content, end_offset in chunk.lines:
            size_bytes, offset = end_offset - offset, end_offset
            read = MALFORMED if content is None else read_line(content)
            if read is IGNORED:
                ignored_count += 1
                ignored_bytes += size_bytes
                continue
            self._count(read, 1, size_bytes)
            if read.outcome == "malformed":
                self.malformed_count += 1
            elif read.record is not None:
                self.said.append(Said(read.record, end_offset, self.malformed_count))
                self.malformed_count = 0
                self._event_count += _event_count_max(read.record)
                if self._event_count >= EVENTS_MAX:
                    self._count(IGNORED, ignored_count, ignored_bytes)
                    self.end_offset, self.inside_long_line = end_offset, False
                    return False
        self._count(IGNORED, ignored_count, ignored_bytes)
        # The rest of a line that is too long is no line of its own.
        self._count(MALFORMED, 0, chunk.end_offset - offset)
        self.end_offset, self.inside_long_line = chunk.end_offset, chunk.inside_long_line
        return True

    def _count(self, read: LineRead, line_count: int, byte_count: int) -> None:
        if line_count or byte_count:
            counted = self._counts.setdefault((read.dialect, read.outcome), [0, 0])
            counted[0] += line_count
            counted[1] += byte_count


def _event_count_max(record: LineRecord) -> int:
    """Events that a line can lead to, together with what is known of its trace."""
    if record.trace is None:
        return len(record.events)
    proposed = record.trace.proposal
    return len(record.events) + 1 + (len(proposed.blocks) if proposed is not None else 0)


def _tail_checksum(handle: int, offset: int) -> int:
    start = max(0, offset - TAIL_BYTES_MAX)
    return tail_checksum(os.pread(handle, offset - start, start))


def _behind_s(handle: int, offset: int) -> float | None:
    """How much older the line before an offset is than the last one of the file."""
    size_bytes = os.fstat(handle).st_size
    times_s = [
        newest_time_s(os.pread(handle, end - start, start))
        for end in (offset, size_bytes)
        for start in (max(0, end - TAIL_BYTES),)
    ]
    if times_s[0] is None or times_s[1] is None:
        return None
    return max(0.0, times_s[1] - times_s[0])
