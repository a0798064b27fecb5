"""The file of the deletions since a snapshot: what the snapshot still holds and must not give back.

    36 bytes      magic, ID of the snapshot, length of the records, CRC-32 of these
    records       one after the other: length of the key, revision of the deletion, key, CRC-32 of these

Append-only: records are made durable first, and then the length that counts them. So a record that was torn
does not count. One that counts and cannot be read is damage: then nobody can say what was deleted, and the
snapshot is not to be used. A file that is cut anywhere is found out too.
"""

import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Self

from rag_service.snapshot.errors import SnapshotDamagedError

SNAPSHOT_ID_BYTES: Final = 16

_MAGIC: Final = b"ERRATA\x1ad"
_HEADER: Final = struct.Struct(f"<8s{SNAPSHOT_ID_BYTES}sQ")
_CHECKSUM: Final = struct.Struct("<I")
_RECORD: Final = struct.Struct("<IQ")
_RECORDS_START: Final = _HEADER.size + _CHECKSUM.size


class DeletionLog:
    """The deletions since one snapshot, open to be appended to. Used by one thread at a time."""

    def __init__(self, path: Path, snapshot_id: bytes, descriptor: int, length: int = 0) -> None:
        """Takes over an open file whose records have this length; see `create` and `open`."""
        self.path: Final = path
        self._snapshot_id = snapshot_id
        self._descriptor = descriptor
        self._length = length

    @classmethod
    def create(cls, path: Path, snapshot_id: bytes, deletions: Mapping[bytes, int]) -> Self:
        """Makes a file, or makes it anew; its bytes are durable when this returns, but not yet its name.

        Raises:
            OSError: it cannot be written.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        made = cls(path, snapshot_id, os.open(path, flags, 0o600))
        try:
            made.append(deletions)
        except BaseException:
            made.close()
            raise
        return made

    @classmethod
    def open(cls, path: Path, snapshot_id: bytes) -> tuple[Self, dict[bytes, int]]:
        """Opens the file of a snapshot; returns it, and revision by key of the deletions that it holds.

        Raises:
            SnapshotDamagedError: it is not there, is damaged, or belongs to another snapshot.
            OSError: it cannot be read and written.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise SnapshotDamagedError(path, "it is not there") from None
        try:
            records = _records(path, path.read_bytes(), snapshot_id)
            deletions = dict(_read_records(path, records))
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, snapshot_id, descriptor, len(records)), deletions

    def append(self, deletions: Mapping[bytes, int]) -> None:
        """Adds deletions, durably; one that fails may or may not have added them.

        Args:
            deletions: key to revision of the deletion.

        Raises:
            OSError: they cannot be written.
        """
        records = b"".join(_record(key, revision) for key, revision in deletions.items())
        if records:
            _write_at(self._descriptor, records, _RECORDS_START + self._length)
            os.fdatasync(self._descriptor)
        length = self._length + len(records)
        header = _HEADER.pack(_MAGIC, self._snapshot_id, length)
        _write_at(self._descriptor, header + _CHECKSUM.pack(zlib.crc32(header)), 0)
        os.fdatasync(self._descriptor)
        self._length = length

    def close(self) -> None:
        """Closes the file; nothing may follow."""
        os.close(self._descriptor)


def _record(key: bytes, revision: int) -> bytes:
    body = _RECORD.pack(len(key), revision) + key
    return body + _CHECKSUM.pack(zlib.crc32(body))


def _records(path: Path, content: bytes, snapshot_id: bytes) -> bytes:
    """The records that count."""
    if len(content) < _RECORDS_START:
        raise SnapshotDamagedError(path, "it ends too early")
    header = content[: _HEADER.size]
    (checksum,) = _CHECKSUM.unpack_from(content, _HEADER.size)
    magic, found_id, length = _HEADER.unpack(header)
    if magic != _MAGIC or zlib.crc32(header) != checksum:
        raise SnapshotDamagedError(path, "its beginning differs from its checksum")
    if found_id != snapshot_id:
        raise SnapshotDamagedError(path, "it belongs to another snapshot")
    if len(content) < _RECORDS_START + length:
        raise SnapshotDamagedError(path, "it ends too early")
    return content[_RECORDS_START : _RECORDS_START + length]


def _read_records(path: Path, records: bytes) -> Iterator[tuple[bytes, int]]:
    start = 0
    while start < len(records):
        if len(records) - start < _RECORD.size:
            raise SnapshotDamagedError(path, "a record ends too early")
        key_length, revision = _RECORD.unpack_from(records, start)
        end = start + _RECORD.size + key_length
        if end + _CHECKSUM.size > len(records):
            raise SnapshotDamagedError(path, "a record ends too early")
        if _CHECKSUM.unpack_from(records, end)[0] != zlib.crc32(records[start:end]):
            raise SnapshotDamagedError(path, "a record differs from its checksum")
        yield records[start + _RECORD.size : end], revision
        start = end + _CHECKSUM.size


def _write_at(descriptor: int, content: bytes, offset: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
