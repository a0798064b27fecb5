"""One step through one file: the next lines of it, understood, ready to be stored."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from errata.store.v1.store_pb2 import LogFileRecord
from learner_service.analyzer.dialects import read_line
from learner_service.analyzer.follower import Chunk, read_chunk
from learner_service.analyzer.following import LogFile
from learner_service.analyzer.identity import HEAD_BYTES_MAX, Identity, new_identity
from learner_service.analyzer.json_object import is_object
from learner_service.analyzer.records import LineRecord, MalformedLineError

EVENTS_MAX: Final = 1_000
"""Of one step: all of them are one transaction, which other writers wait for. As in RecordEventsRequest."""
STEP_BYTES: Final = 4 * 1024 * 1024
"""Read in one step as long as nothing is said: most of a server's log is not for us, and a commit costs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What some lines of a file say, and where the file stands after them."""

    namespace: str
    records: tuple[LineRecord, ...]
    """Redacted and valid."""
    malformed_line_count: int
    before: LogFileRecord | None
    """The stored record that this follows on; None when the file has none."""
    before_key: bytes
    """Its key, or the key that it is going to have."""
    after: LogFileRecord
    """The record to store, but that `malformed_line_count` does not count these lines yet."""
    identity: Identity
    """The identity to store it under; the key may differ from the one before."""
    now_us: int
    """The Learner's clock when the lines were read."""


def read_step(file: LogFile, taken: Mapping[bytes, object], now_us: int) -> Step | None:
    """Reads the next lines of a file.

    Args:
        file: to be read on from its offset.
        taken: keys under which records of files are stored.
        now_us: the Learner's clock.

    Returns:
        None when the file has nothing complete to read, or is not the file any more that it was.

    Raises:
        OSError: it cannot be read.
    """
    with file.path.open("rb", buffering=0) as opened:
        handle = opened.fileno()
        head = os.pread(handle, HEAD_BYTES_MAX, 0)
        if not head or (file.identity is not None and not file.identity.matches(head, file.path_text)):
            return None
        said = _Said(file.offset_bytes, inside_long_line=file.inside_long_line)
        while not said.records and said.end_offset - file.offset_bytes < STEP_BYTES:
            chunk = read_chunk(
                lambda count, offset: os.pread(handle, count, offset),
                said.end_offset,
                inside_long_line=said.inside_long_line,
                is_whole=is_object,
            )
            if chunk.end_offset == said.end_offset:
                break
            said.add(chunk, file.namespace, now_us)
    if said.end_offset == file.offset_bytes:
        return None
    identity = _identity(file, head, taken)
    after = LogFileRecord(
        path=file.path_text,
        offset_bytes=said.end_offset,
        malformed_line_count=file.record.malformed_line_count,
        identity_bytes=identity.head_bytes,
        identity_has_path=identity.has_path,
        inside_long_line=said.inside_long_line,
    )
    after.read_time.FromMicroseconds(now_us)
    return Step(
        namespace=file.namespace,
        records=tuple(said.records),
        malformed_line_count=said.malformed_line_count,
        before=None if file.identity is None else file.record,
        before_key=identity.key if file.identity is None else file.identity.key,
        after=after,
        identity=identity,
        now_us=now_us,
    )


class _Said:
    """What lines said, one after the other, and where the file stands after them."""

    def __init__(self, end_offset: int, *, inside_long_line: bool) -> None:
        self.end_offset = end_offset
        self.inside_long_line = inside_long_line
        self.records: list[LineRecord] = []
        self.malformed_line_count = 0

    def add(self, chunk: Chunk, namespace: str, now_us: int) -> None:
        """Understands the lines of a chunk, all of them or as many as fill a step."""
        event_count = 0
        for line in chunk.lines:
            record = None
            try:
                if line.content is None:
                    self.malformed_line_count += 1
                else:
                    record = read_line(line.content, namespace=namespace, now_us=now_us)
            except MalformedLineError:
                self.malformed_line_count += 1
            if record is not None:
                self.records.append(record)
                event_count += len(record.events)
                if event_count >= EVENTS_MAX:
                    self.end_offset, self.inside_long_line = line.end_offset, False
                    return
        self.end_offset = chunk.end_offset
        self.inside_long_line = chunk.inside_long_line


def _identity(file: LogFile, head: bytes, taken: Mapping[bytes, object]) -> Identity:
    if file.identity is None:
        return new_identity(head, file.path_text, taken)
    return file.identity.extended(head, file.path_text, taken)
