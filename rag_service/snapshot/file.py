"""The file of a snapshot: sections of bytes, and a header that describes them, whatever they hold.

    16 bytes      magic, CRC-32 of the header, length of the header
    sections      one after the other, in the order of the header
    header        an encoded SnapshotHeader; the file ends with it

Every byte is covered: by the checksum of the header or of a section, or by the lengths having to add up to
that of the file. So a file that was cut, grown or changed anywhere is found out before it is used.
"""

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from errata.snapshot.v1 import snapshot_pb2
from rag_service.snapshot.errors import SnapshotDamagedError, SnapshotForeignError

FORMAT_VERSION: Final = 1
"""Changes with the sections, with what stands in them, and with the rules that make facets of an example."""
UNSYNCED_BYTES_MAX: Final = 16 * 1024 * 1024
"""So much is written before the disk must have it: others who sync meanwhile do not wait for all of it."""

_MAGIC: Final = b"ERRATA\x1as"
_PREFIX: Final = struct.Struct("<8sII")
_READ_BYTES: Final = 4 * 1024 * 1024

Buffer = bytes | memoryview
Section = tuple[snapshot_pb2.SectionKind.ValueType, Iterable[Buffer]]


def write_file(
    path: Path, header: snapshot_pb2.SnapshotHeader, sections: Iterable[Section], step: Callable[[], None]
) -> int:
    """Writes a snapshot; when this returns, its bytes are durable, but not yet its name.

    Args:
        path: replaced when there. For the eyes of the owner alone: examples are what people ran.
        header: everything but `format_version` and `sections`, which are filled in.
        sections: the bytes of each, in pieces.
        step: called after each piece; what it raises ends the writing.

    Returns:
        The length of the file.

    Raises:
        OSError: it cannot be written.
    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(bytes(_PREFIX.size))
        header.format_version = FORMAT_VERSION
        unsynced_bytes = 0
        for kind, pieces in sections:
            size_bytes, checksum = 0, 0
            for piece in pieces:
                file.write(piece)
                size_bytes += len(piece)
                checksum = zlib.crc32(piece, checksum)
                unsynced_bytes += len(piece)
                if unsynced_bytes >= UNSYNCED_BYTES_MAX:
                    _sync(file)
                    unsynced_bytes = 0
                step()
            header.sections.add(kind=kind, size_bytes=size_bytes, checksum=checksum)
        encoded = header.SerializeToString()
        file.write(encoded)
        length = file.tell()
        file.seek(0)
        file.write(_PREFIX.pack(_MAGIC, zlib.crc32(encoded), len(encoded)))
        _sync(file)
    return length


class SnapshotFile:
    """A snapshot whose header is whole and of this version; its sections are checked as they are read.

    Read from beginning to end, each section once, in the order of the header.
    """

    def __init__(self, path: Path, file: io.BufferedReader, header: snapshot_pb2.SnapshotHeader) -> None:
        """Takes over an open file that stands at the first section; see `open`."""
        self.path: Final = path
        self.header: Final = header
        self._file = file
        self._sections = iter(header.sections)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens a snapshot.

        Raises:
            FileNotFoundError: there is none.
            SnapshotDamagedError: it is cut, or its header is damaged.
            SnapshotForeignError: it is of another version.
            OSError: it cannot be read.
        """
        file = path.open("rb")
        try:
            header = _read_header(path, file)
            file.seek(_PREFIX.size)
        except BaseException:
            file.close()
            raise
        return cls(path, file, header)

    def read(self, kind: snapshot_pb2.SectionKind.ValueType) -> bytes:
        """The bytes of the next section.

        Raises:
            SnapshotDamagedError: they are not what was written, or the section is of another kind.
        """
        section = self._next(kind)
        content = self._file.read(section.size_bytes)
        self._check(section, zlib.crc32(content))
        return content

    def read_into(self, kind: snapshot_pb2.SectionKind.ValueType, target: NDArray[Any]) -> None:
        """Fills an array in C order with the next section.

        Raises:
            SnapshotDamagedError: as `read`; or the section is not as long as the array.
        """
        section = self._next(kind)
        if section.size_bytes != target.nbytes:
            raise SnapshotDamagedError(self.path, "a section has another length than its rows need")
        checksum = 0
        view = target.reshape(-1).view(np.uint8).data
        for start in range(0, target.nbytes, _READ_BYTES):
            # Checked while it is in the CPU's cache.
            piece = view[start : start + _READ_BYTES]
            self._file.readinto(piece)
            checksum = zlib.crc32(piece, checksum)
        self._check(section, checksum)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_class: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def _next(self, kind: snapshot_pb2.SectionKind.ValueType) -> snapshot_pb2.Section:
        section = next(self._sections, None)
        if section is None or section.kind != kind:
            raise SnapshotDamagedError(self.path, "its sections are not those of its version")
        return section

    def _check(self, section: snapshot_pb2.Section, checksum: int) -> None:
        if checksum != section.checksum:
            name = snapshot_pb2.SectionKind.Name(section.kind)
            raise SnapshotDamagedError(self.path, f"{name} differs from its checksum")


def _read_header(path: Path, file: io.BufferedReader) -> snapshot_pb2.SnapshotHeader:
    length = os.fstat(file.fileno()).st_size
    prefix = file.read(_PREFIX.size)
    if len(prefix) < _PREFIX.size:
        raise SnapshotDamagedError(path, "it ends too early")
    magic, checksum, header_length = _PREFIX.unpack(prefix)
    if magic != _MAGIC or header_length > length - _PREFIX.size:
        raise SnapshotDamagedError(path, "it does not begin as a snapshot does")
    file.seek(length - header_length)
    encoded = file.read(header_length)
    if len(encoded) != header_length or zlib.crc32(encoded) != checksum:
        raise SnapshotDamagedError(path, "its header differs from its checksum")
    try:
        header = snapshot_pb2.SnapshotHeader.FromString(encoded)
    except DecodeError:
        raise SnapshotDamagedError(path, "its header cannot be read") from None
    if header.format_version != FORMAT_VERSION:
        raise SnapshotForeignError(
            f"{path} has format version {header.format_version}, this program reads {FORMAT_VERSION}"
        )
    if _PREFIX.size + sum(section.size_bytes for section in header.sections) + header_length != length:
        raise SnapshotDamagedError(path, "its sections do not fill it")
    return header


def _sync(file: io.BufferedWriter) -> None:
    file.flush()
    os.fdatasync(file.fileno())
