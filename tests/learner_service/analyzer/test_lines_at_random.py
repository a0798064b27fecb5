"""Arbitrary bytes: no line stops the Analyzer, and no way of cutting a file changes what it says."""

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from errata.store.v1.store_pb2 import BlockRecord, TraceRecord
from learner_service.analyzer import LogDirectory
from learner_service.analyzer.dialects import LineReader
from learner_service.analyzer.follower import ReadAt, read_chunk
from learner_service.analyzer.traces import Trace
from learner_service.keys import BlockKey
from learner_service.store.store import Store
from tests.learner_service.analyzer.conftest import NOW_US, Following
from tests.learner_service.analyzer.lines import (
    FOYLE_LOG,
    FOYLE_LOGS,
    append,
    executed,
    own,
    request,
    response,
    run_cell,
    runme_end,
    runme_request,
    suggestion,
    taught,
)
from tests.learner_service.analyzer.traces_in_memory import MoreInMemory
from tests.learner_service.conftest import GIB, ManualClock

REAL = [
    *FOYLE_LOG.read_bytes().splitlines()[71:],
    *(FOYLE_LOGS / "execute_traces_lines.jsonl").read_bytes().splitlines(),
    *(FOYLE_LOGS / "runme_traces_lines.jsonl").read_bytes().splitlines()[6:9],
    own(executed("block-1")),
    own(taught("block-1", "list files")),
    request(),
    response("block-1"),
    run_cell("block-1"),
    suggestion("REJECTED", "block-1"),
    runme_request("block-1", "ls"),
    runme_end("block-1", 1),
]
TOKENS = st.sampled_from(
    [
        b"null",
        b"true",
        b"-1",
        b"1e9999",
        b'"\\ud800"',
        b"{}",
        b"[]",
        b"[[]]",
        b'"x"',
        b"\xff",
        b"\0",
        b'"',
        b",",
    ]
)


@st.composite
def damaged_lines(draw: st.DrawFn) -> bytes:
    """A real line with some of its bytes, often those between two colons or commas, made into others."""
    line = draw(st.sampled_from(REAL))
    cuts = [i for i, byte in enumerate(line) if byte in b':,{}[]"']
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.sampled_from(cuts)) + 1
        end = start + draw(st.integers(0, 30))
        line = line[:start] + draw(st.one_of(TOKENS, st.binary(max_size=4))) + line[end:]
    return line


@given(line=st.one_of(st.binary(max_size=200), damaged_lines()))
@settings(max_examples=1_000, deadline=None)
def test_a_line_is_understood_or_malformed_and_nothing_else(line: bytes) -> None:
    read = LineReader(namespace="team-a", now_us=NOW_US).read(line)
    assert (read.outcome == "used") == (read.record is not None)
    if read.record is not None and read.record.trace is not None:
        trace = Trace(TraceRecord(), MoreInMemory(), namespace="team-a", trace_id=read.record.trace.trace_id)
        trace.add(read.record.trace, now_us=NOW_US)


def reader(content: bytes) -> ReadAt:
    return lambda count, start: content[start : start + count]


def never(_: bytes) -> bool:
    return False


PARTS = re.compile(rb"([^\n\0]*)(\n|\0+(?=[^\0]))")


def whole_lines(content: bytes, line_bytes_max: int) -> list[bytes | None]:
    """The complete lines of a file; None for one that is too long, and for a run of zeros within the file."""
    lines: list[bytes | None] = []
    for text, end in PARTS.findall(content):
        if text or end == b"\n":
            lines.append(text if len(text) <= line_bytes_max else None)
        if end != b"\n":
            lines.append(None)
    return lines


@given(
    content=st.lists(
        st.sampled_from([b"a", b"bc", b"\n", b"d" * 9, b"\r\n", b"\xff", b"\0", b"\0" * 30]), max_size=60
    ).map(b"".join),
    looks=st.lists(st.integers(0, 200), max_size=8).map(sorted),
    chunk_bytes=st.integers(1, 20),
    line_bytes_max=st.integers(1, 15),
)
@settings(max_examples=300, deadline=None)
def test_however_a_file_grows_its_lines_are_read_once_and_whole(
    content: bytes, looks: list[int], chunk_bytes: int, line_bytes_max: int
) -> None:
    lines: list[bytes | None] = []
    offset, inside_long_line = 0, False
    for size_bytes in [*looks, len(content)]:
        written = content[:size_bytes]
        while True:
            chunk = read_chunk(
                reader(written),
                offset,
                inside_long_line=inside_long_line,
                is_whole=never,
                chunk_bytes=chunk_bytes,
                line_bytes_max=line_bytes_max,
            )
            lines += [content for content, _ in chunk.lines]
            ends = [end for _, end in chunk.lines]
            assert ends == sorted(ends)
            assert chunk.at_end or chunk.end_offset > offset
            if chunk.end_offset == offset:
                break
            offset, inside_long_line = chunk.end_offset, chunk.inside_long_line
    expected = whole_lines(content, line_bytes_max)
    if inside_long_line:
        # Counted when it was found to be too long, before its end is there.
        expected.append(None)
    assert lines == expected


@given(line=st.binary(max_size=64).filter(lambda line: not {0, 10} & {*line}), rest=st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_the_offset_of_each_line_is_just_after_its_newline(line: bytes, rest: int) -> None:
    content = (line + b"\n") * 3 + b"x" * rest
    chunk = read_chunk(reader(content), 0, inside_long_line=False, is_whole=never)
    assert [end for _, end in chunk.lines] == [(len(line) + 1) * number for number in (1, 2, 3)]
    assert chunk.end_offset == 3 * (len(line) + 1)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Lines real, damaged and arbitrary, with ends of all kinds; and perhaps no end at all."""
    content = b""
    for _ in range(draw(st.integers(0, 8))):
        content += draw(st.one_of(st.sampled_from(REAL), damaged_lines(), st.binary(max_size=40)))
        content += draw(st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\0\0", b"", b"\n\xef\xbb\xbf"]))
    return content


@contextmanager
def following_an_empty_file() -> Iterator[tuple[Following, Path]]:
    """An Analyzer on a store of its own: fixtures do not begin anew with each example."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Store.open(Path(folder, "store"), clock_us=lambda: NOW_US, bytes_max=GIB) as store,
    ):
        log = Path(folder, "logs", "a.log")
        log.parent.mkdir()
        log.touch()
        yield Following(store, (LogDirectory("", log.parent),), ManualClock(NOW_US)), log


@given(content=files(), cut=st.integers(0, 2_000), restarts=st.booleans())
@settings(max_examples=60, deadline=None)
async def test_no_file_stops_the_analyzer_and_every_complete_line_of_it_is_read(
    content: bytes, cut: int, *, restarts: bool
) -> None:
    with following_an_empty_file() as (first, log):
        following = first
        for part in (content[:cut], content[cut:]):
            append(log, part)
            await following.poll()
            following = following.restarted() if restarts else following
        await following.poll()
        assert following.store.check() == []
        [status] = following.analyzer.status()
        # What is not read is the start of a line, or zeros that may yet be written into.
        assert b"\n" not in content[status.offset_bytes :].rstrip(b"\0")
        assert status.malformed_line_count <= 2 * len(PARTS.findall(content)) + 1


async def blocks_after(parts: Sequence[bytes]) -> dict[BlockKey, BlockRecord]:
    with following_an_empty_file() as (following, log):
        for part in parts:
            append(log, part)
            await following.poll()
        records = {key: following.block(key.id, key.namespace) for key in following.block_keys()}
    for record in records.values():
        record.ClearField("modified_time")
    return records


def ends_a_line_early(content: bytes, cut: int) -> bool:
    """Whether a look at this moment may take for a whole line what somebody then goes on writing after."""
    return content[:cut].rstrip().endswith(b"}") and content[cut : cut + 1] not in (b"\n", b"\r", b"")


@given(content=files(), cuts=st.lists(st.integers(0, 2_000), max_size=3).map(sorted))
@settings(max_examples=40, deadline=None)
async def test_however_a_file_is_cut_into_looks_it_says_the_same(content: bytes, cuts: list[int]) -> None:
    looks = [0, *(cut for cut in cuts if not ends_a_line_early(content, cut)), len(content)]
    parts = [content[start:end] for start, end in pairwise(looks)]
    assert await blocks_after(parts) == await blocks_after([content])
