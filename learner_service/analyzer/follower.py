"""Bytes and offsets: the complete lines of a growing file from an offset on, a bounded piece at a time.

A line is complete when its newline is there. The last line of a file may do without one, if its content shows
that nothing is missing; else it waits. A line longer than `LINE_BYTES_MAX` is
passed over without ever being held: the offset moves through it, and the caller remembers that it stands in
one, for the newline may be far away, or not written yet.

Pure but for `read_at`, which reads the file.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

CHUNK_BYTES: Final = 256 * 1024
"""Read at once. What a chunk says is one transaction, which other writers wait for."""
LINE_BYTES_MAX: Final = 4 * 1024 * 1024
"""Room for an event of 1 MiB, escaped, and for a request of Foyle's with the outputs of its cells."""
PASSED_OVER_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of a line that is too long, passed over before the offset is made durable."""

ReadAt = Callable[[int, int], bytes]
"""Reads some bytes at an offset: read_at(byte_count, offset). Fewer only at the end of the file."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file."""

    content: bytes | None
    """Without its newline. None for a line that is too long, or the start of one."""
    end_offset: int
    """Just after its newline, if it has one, or just after the last byte that was passed over."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a file."""

    lines: tuple[Line, ...]
    end_offset: int
    """Where to go on. Equal to the start when there is nothing complete to read."""
    inside_long_line: bool
    """True when the rest of a line that is too long comes next."""


def read_chunk(
    read_at: ReadAt,
    offset: int,
    *,
    inside_long_line: bool,
    is_whole: Callable[[bytes], bool],
    chunk_bytes: int = CHUNK_BYTES,
    line_bytes_max: int = LINE_BYTES_MAX,
) -> Chunk:
    """Returns the next lines of a file, as far as they are complete.

    Args:
        read_at: reads the file.
        offset: where to begin: after a newline, at 0, or within a line that is too long.
        inside_long_line: True in the last case, as the chunk before said.
        is_whole: says of the last line, which has no newline, whether nothing of it can be missing.
        chunk_bytes: read at once.
        line_bytes_max: a longer line is passed over.
    """
    if inside_long_line:
        offset, found = _after_long_line(read_at, offset, chunk_bytes)
        if not found:
            return Chunk((), offset, inside_long_line=True)
    content = bytearray()
    while True:
        piece = read_at(chunk_bytes, offset + len(content))
        content += piece
        at_end = len(piece) < chunk_bytes
        if b"\n" in piece or (at_end and len(content) <= line_bytes_max):
            break
        if len(content) > line_bytes_max:
            begun = Line(None, offset + len(content))
            return Chunk((begun,), begun.end_offset, inside_long_line=True)
    *contents, last = bytes(content).split(b"\n")
    lines = []
    for line in contents:
        offset += len(line) + 1
        lines.append(Line(line if len(line) <= line_bytes_max else None, offset))
    if at_end and last and len(last) <= line_bytes_max and is_whole(last):
        offset += len(last)
        lines.append(Line(last, offset))
    return Chunk(tuple(lines), offset, inside_long_line=False)


def _after_long_line(read_at: ReadAt, offset: int, chunk_bytes: int) -> tuple[int, bool]:
    """Passes over bytes up to a newline; returns where it is then, and whether the newline was found."""
    end = offset + PASSED_OVER_BYTES_MAX
    while offset < end:
        content = read_at(chunk_bytes, offset)
        newline = content.find(b"\n")
        if newline >= 0:
            return offset + newline + 1, True
        offset += len(content)
        if len(content) < chunk_bytes:
            break
    return offset, False
