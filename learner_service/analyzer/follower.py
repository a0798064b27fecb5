"""Bytes and offsets: the complete lines of a growing file from an offset on, a bounded piece at a time.

A line is complete when its newline is there. The last line of a file may do without one, if its content shows
that nothing is missing; else it waits. A line longer than `LINE_BYTES_MAX` is passed over without ever being
held: the offset moves through it, and the caller remembers that it stands in one, for the newline may be far
away, or not written yet.

After a crash, or when a program goes on where it was in a file that was cut short under it, a file holds a
run of zeros. No line holds one, so a run ends the line before it, and counts as a line that is passed over. A
run at the end of the file waits: some programs write into zeros that they made beforehand.

Pure but for `read_at`, which reads the file.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, TypeAlias

CHUNK_BYTES: Final = 256 * 1024
"""Read at once. What a chunk says is one transaction, which other writers wait for."""
LINE_BYTES_MAX: Final = 4 * 1024 * 1024
"""Room for an event of 1 MiB, escaped, and for a request of Foyle's with the outputs of its cells."""
PASSED_OVER_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of a line that is too long, passed over before the offset is made durable."""

ReadAt = Callable[[int, int], bytes]
"""Reads some bytes at an offset: read_at(byte_count, offset). Fewer only at the end of the file."""

_PARTS: Final = re.compile(rb"[^\n\0]+|\n|\0+")


Line: TypeAlias = tuple[bytes | None, int]
"""One line of a file: what it holds, without its newline, and the offset just after it.

None for a line that is too long, or the start of one, whose offset is just after the last byte that was
passed over; and for a run of zeros. Plain tuples, as there may be millions.
"""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a file."""

    lines: tuple[Line, ...]
    end_offset: int
    """Where to go on. Equal to the start when there is nothing complete to read."""
    inside_long_line: bool
    """True when the rest of a line that is too long comes next."""
    at_end: bool
    """True when there was nothing more to read."""


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
        offset, found, at_end = _after_long_line(read_at, offset, chunk_bytes)
        if not found:
            return Chunk((), offset, inside_long_line=True, at_end=at_end)
    content = bytearray()
    while True:
        piece = read_at(chunk_bytes, offset + len(content))
        content += piece
        at_end = len(piece) < chunk_bytes
        if b"\n" in piece or b"\0" in piece or (at_end and len(content) <= line_bytes_max):
            break
        if len(content) > line_bytes_max:
            offset += len(content)
            return Chunk(((None, offset),), offset, inside_long_line=True, at_end=at_end)
    whole = bytes(content)
    last: bytes | None
    if b"\0" in whole:
        lines, end_offset, last = _cut_at_zeros(read_at, whole, offset, chunk_bytes)
        at_end = at_end or last is None
    else:
        *contents, last = whole.split(b"\n")
        ends = accumulate((len(each) + 1 for each in contents), initial=offset)
        next(ends)
        lines = list(zip(contents, ends, strict=True))
        end_offset = lines[-1][1] if lines else offset
    if len(whole) > line_bytes_max:
        lines = [(None if line is None or len(line) > line_bytes_max else line, end) for line, end in lines]
    if at_end and last and len(last) <= line_bytes_max and is_whole(last):
        end_offset += len(last)
        lines.append((last, end_offset))
    return Chunk(tuple(lines), end_offset, inside_long_line=False, at_end=at_end)


def _after_long_line(read_at: ReadAt, offset: int, chunk_bytes: int) -> tuple[int, bool, bool]:
    """Passes over bytes up to a newline, or to a zero.

    Returns:
        Where it is then, whether the end of the line was found, and whether that of the file was.
    """
    end = offset + PASSED_OVER_BYTES_MAX
    while offset < end:
        content = read_at(chunk_bytes, offset)
        newline, zero = content.find(b"\n"), content.find(b"\0")
        if newline >= 0 and not 0 <= zero < newline:
            return offset + newline + 1, True, False
        if zero >= 0:
            ends_here = _after_zeros(read_at, offset + zero, chunk_bytes) is not None
            return offset + zero, ends_here, not ends_here
        offset += len(content)
        if len(content) < chunk_bytes:
            return offset, False, True
    return offset, False, False


def _cut_at_zeros(
    read_at: ReadAt, whole: bytes, offset: int, chunk_bytes: int
) -> tuple[list[Line], int, bytes | None]:
    """Cuts bytes that hold zeros into lines.

    Returns:
        The lines, the offset after them, and what is left of a last line; None when zeros follow that up to
        the end of the file: it may go on where they are now.
    """
    lines: list[Line] = []
    end_offset, last = offset, b""
    for part in _PARTS.finditer(whole):
        if part[0].startswith(b"\0"):
            after_run: int | None = offset + part.end()
            if part.end() == len(whole):
                after_run = _after_zeros(read_at, offset + len(whole), chunk_bytes)
            if after_run is None:
                return lines, end_offset, None
            if last:
                lines.append((last, offset + part.start()))
            lines.append((None, after_run))
            end_offset, last = after_run, b""
        elif part[0] == b"\n":
            end_offset = offset + part.end()
            lines.append((last, end_offset))
            last = b""
        else:
            last = part[0]
    return lines, end_offset, last


def _after_zeros(read_at: ReadAt, offset: int, chunk_bytes: int) -> int | None:
    """The first byte from the offset on that is no zero; None when there is none yet."""
    while True:
        content = read_at(chunk_bytes, offset)
        rest = content.lstrip(b"\0")
        if rest:
            return offset + len(content) - len(rest)
        if len(content) < chunk_bytes:
            return None
        offset += len(content)
