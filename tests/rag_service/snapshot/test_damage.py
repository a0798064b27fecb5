"""A file that is not what was written is found out, wherever and however it was changed."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from errata.snapshot.v1 import snapshot_pb2
from rag_service.index import ExampleIndex
from rag_service.snapshot.deletions import DeletionLog
from rag_service.snapshot.errors import SnapshotDamagedError, SnapshotForeignError
from rag_service.snapshot.file import SnapshotFile
from tests.rag_service.index_samples import put, unit
from tests.rag_service.snapshot.samples import header_of, read, small_index, written

ID = bytes(range(16))
OTHER_ID = bytes(16)


@pytest.fixture(scope="module")
def index() -> ExampleIndex:
    made = small_index(4)
    made.apply(
        [
            put(1, "a", unit([1, 2, 3, 4]), labels={"team": "infra"}),
            put(2, "b", unit([1, -2, 3, -4]), namespace="team-a", languages=["sql"]),
            put(3, "c", b"no vector"),
        ]
    )
    return made


@pytest.fixture
def snapshot(index: ExampleIndex, tmp_path: Path) -> Path:
    return written(tmp_path / "snapshot", index)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A file of two deletions, recorded at two bookmarks."""
    made = DeletionLog.create(tmp_path / "deletions", ID, {b"\0a": 5})
    made.append({b"team-a\0b": 6})
    made.close()
    return made.path


def read_log(path: Path, snapshot_id: bytes = ID) -> dict[bytes, int]:
    opened, deletions = DeletionLog.open(path, snapshot_id)
    opened.close()
    return deletions


def with_byte(content: bytes, place: int, value: int) -> bytes:
    return content[:place] + bytes([value]) + content[place + 1 :]


def undetected(path: Path, look: Callable[[Path], object], damaged: dict[object, bytes]) -> list[object]:
    """Which of the damaged files nobody notices."""
    missed = []
    for name, content in damaged.items():
        path.write_bytes(content)
        try:
            look(path)
        except SnapshotDamagedError:
            continue
        missed.append(name)
    return missed


def test_a_change_of_any_byte_of_a_snapshot_is_found_out(snapshot: Path) -> None:
    content = snapshot.read_bytes()
    flipped: dict[object, bytes] = {
        place: with_byte(content, place, content[place] ^ 1 << place % 8) for place in range(len(content))
    }
    assert undetected(snapshot, read, flipped) == []


def test_a_snapshot_that_was_cut_anywhere_is_found_out(snapshot: Path) -> None:
    content = snapshot.read_bytes()
    cut: dict[object, bytes] = {length: content[:length] for length in range(len(content))}
    assert undetected(snapshot, read, cut) == []


def test_a_snapshot_that_has_grown_is_found_out(snapshot: Path) -> None:
    content = snapshot.read_bytes()
    grown: dict[object, bytes] = {more: content + bytes(more) for more in (1, 16, len(content))}
    grown["in front"] = b"\0" + content
    grown["twice"] = content + content
    assert undetected(snapshot, read, grown) == []


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=20))
def test_any_changes_of_a_snapshot_are_found_out(
    index: ExampleIndex, tmp_path: Path, changes: list[tuple[int, int]]
) -> None:
    path = written(tmp_path / "snapshot", index)
    content = changed = path.read_bytes()
    for place, value in changes:
        changed = with_byte(changed, place % len(content), value)
    path.write_bytes(changed)
    if changed == content:
        assert read(path).count == index.count
    else:
        with pytest.raises(SnapshotDamagedError):
            read(path)


def test_a_snapshot_of_another_version_is_foreign(index: ExampleIndex, snapshot: Path) -> None:
    header = header_of(index)
    with pytest.raises(SnapshotForeignError, match="version 2"):
        read(_with_header(snapshot, header, format_version=2))


def test_a_snapshot_without_the_sections_of_its_version_is_damaged(
    index: ExampleIndex, snapshot: Path
) -> None:
    with pytest.raises(SnapshotDamagedError, match="sections are not those"):
        read(_with_header(snapshot, header_of(index), format_version=1))
    header = header_of(index)
    header.sections.add(kind=snapshot_pb2.SECTION_KIND_KEYS)
    with pytest.raises(SnapshotDamagedError, match="sections are not those"):
        read(_with_header(snapshot, header, format_version=1))


def test_a_header_that_is_no_message_is_damage(snapshot: Path) -> None:
    snapshot.write_bytes(_file_of(b"\xff\xff"))
    with pytest.raises(SnapshotDamagedError, match="cannot be read"):
        SnapshotFile.open(snapshot)


def test_deletions_come_back_in_full(log: Path) -> None:
    assert read_log(log) == {b"\0a": 5, b"team-a\0b": 6}
    again, _ = DeletionLog.open(log, ID)
    again.append({b"\0c": 7})
    again.append({})
    again.close()
    assert read_log(log) == {b"\0a": 5, b"team-a\0b": 6, b"\0c": 7}


def test_no_deletions_are_not_the_same_as_no_file(log: Path) -> None:
    DeletionLog.create(log, ID, {}).close()
    assert read_log(log) == {}
    log.unlink()
    with pytest.raises(SnapshotDamagedError, match="not there"):
        read_log(log)


def test_deletions_since_another_snapshot_are_not_taken(log: Path) -> None:
    with pytest.raises(SnapshotDamagedError, match="another snapshot"):
        read_log(log, OTHER_ID)


def test_a_change_of_any_byte_of_the_deletions_is_found_out(log: Path) -> None:
    content = log.read_bytes()
    flipped: dict[object, bytes] = {
        (place, bit): with_byte(content, place, content[place] ^ 1 << bit)
        for place in range(len(content))
        for bit in range(8)
    }
    assert undetected(log, read_log, flipped) == []


def test_deletions_that_were_cut_anywhere_are_found_out(log: Path) -> None:
    content = log.read_bytes()
    cut: dict[object, bytes] = {length: content[:length] for length in range(len(content))}
    assert undetected(log, read_log, cut) == []


def test_a_record_that_was_torn_before_it_counted_is_passed_over(log: Path) -> None:
    counted = log.read_bytes()
    grown, _ = DeletionLog.open(log, ID)
    grown.append({b"\0torn": 7})
    grown.close()
    # Records are made durable before the beginning of the file counts them.
    torn = counted[:36] + log.read_bytes()[36:]
    for length in range(len(counted), len(torn) + 1):
        log.write_bytes(torn[:length])
        assert read_log(log) == {b"\0a": 5, b"team-a\0b": 6}
    again, _ = DeletionLog.open(log, ID)
    again.append({b"\0d": 8})
    again.close()
    assert read_log(log) == {b"\0a": 5, b"team-a\0b": 6, b"\0d": 8}


def _file_of(encoded: bytes) -> bytes:
    """A file without sections."""
    return struct.pack("<8sII", b"ERRATA\x1as", zlib.crc32(encoded), len(encoded)) + encoded


def _with_header(path: Path, header: snapshot_pb2.SnapshotHeader, *, format_version: int) -> Path:
    header.format_version = format_version
    path.write_bytes(_file_of(header.SerializeToString()))
    return path
