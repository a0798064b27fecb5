"""The steps of the directory that can fail, each at its worst."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from rag_service.snapshot.deletions import DeletionLog
from rag_service.snapshot.directory import SnapshotDirectory
from rag_service.snapshot.errors import DirectoryInUseError

FIRST, SECOND = b"1" * 16, b"2" * 16


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[SnapshotDirectory]:
    """With a first snapshot."""
    made = SnapshotDirectory(tmp_path / "kept")
    made.acquire()
    install(made, FIRST)
    yield made
    made.close()


def install(directory: SnapshotDirectory, snapshot_id: bytes) -> None:
    directory.temporary_path.write_bytes(snapshot_id)
    directory.install(snapshot_id, {b"\0during": 1})


def is_settled(directory: SnapshotDirectory) -> bool:
    return directory.settled


def found(directory: SnapshotDirectory) -> tuple[bytes, dict[bytes, int]]:
    """ID of the snapshot, and the deletions beside it."""
    path = directory.path
    snapshot_id = (path / "snapshot").read_bytes()
    log, deletions = DeletionLog.open(path / f"deletions.{snapshot_id.hex()}", snapshot_id)
    log.close()
    return snapshot_id, deletions


def test_a_new_snapshot_takes_the_place_of_the_old_one_and_its_deletions(
    directory: SnapshotDirectory,
) -> None:
    directory.record({b"\0a": 5})
    assert found(directory) == (FIRST, {b"\0during": 1, b"\0a": 5})
    install(directory, SECOND)
    assert found(directory) == (SECOND, {b"\0during": 1})
    names = {path.name for path in directory.path.iterdir()}
    assert names == {"lock", "snapshot", f"deletions.{SECOND.hex()}"}


def test_an_install_that_fails_before_the_name_is_given_leaves_the_old_one(
    directory: SnapshotDirectory,
) -> None:
    with pytest.raises(FileNotFoundError):
        directory.install(SECOND, {})
    blocked = directory.path / f"deletions.{SECOND.hex()}"
    blocked.unlink()
    blocked.mkdir()
    with pytest.raises(IsADirectoryError):
        install(directory, SECOND)
    directory.record({b"\0a": 5})
    assert found(directory) == (FIRST, {b"\0during": 1, b"\0a": 5})
    assert directory.has_snapshot


class UnsyncedDirectory(SnapshotDirectory):
    """On a disk that says, once, that it could not keep a name."""

    sync_count = 0

    def _sync(self) -> None:
        self.sync_count += 1
        if self.sync_count == 4:
            raise OSError("the disk lost a name")
        super()._sync()


def test_an_install_that_fails_after_the_name_is_given_leaves_none(tmp_path: Path) -> None:
    directory = UnsyncedDirectory(tmp_path)
    directory.acquire()
    install(directory, FIRST)
    with pytest.raises(OSError, match="lost a name"):
        install(directory, SECOND)
    assert not directory.has_snapshot
    assert {path.name for path in tmp_path.iterdir()} == {"lock"}
    install(directory, SECOND)
    assert found(directory) == (SECOND, {b"\0during": 1})
    directory.close()


def test_a_snapshot_that_cannot_be_removed_is_told_of_once_and_tried_again(tmp_path: Path) -> None:
    stubborn = tmp_path / "snapshot"
    stubborn.mkdir()
    directory = SnapshotDirectory(tmp_path)
    directory.acquire()
    with capture_logs() as logged:
        directory.record({b"\0a": 5})
        directory.record({})
        assert not is_settled(directory)
        stubborn.rmdir()
        directory.record({})
    assert is_settled(directory)
    assert [entry["log_level"] for entry in logged] == ["error"]
    directory.close()


def test_a_directory_that_could_not_be_had_at_first_is_cleared_before_a_deletion_counts(
    tmp_path: Path,
) -> None:
    in_the_way = tmp_path / "kept"
    in_the_way.touch()
    directory = SnapshotDirectory(in_the_way)
    with pytest.raises(FileExistsError):
        directory.acquire()
    assert directory.open_snapshot() is None
    with capture_logs():
        directory.record({b"\0a": 5})
    assert not is_settled(directory)
    in_the_way.unlink()
    in_the_way.mkdir()
    (in_the_way / "snapshot").write_bytes(b"of a process of another day")
    directory.record({b"\0b": 6})
    assert is_settled(directory)
    assert {path.name for path in in_the_way.iterdir()} == {"lock"}
    directory.close()


def test_a_directory_is_free_again_when_its_process_lets_go_of_it(directory: SnapshotDirectory) -> None:
    second = SnapshotDirectory(directory.path)
    with pytest.raises(DirectoryInUseError):
        second.acquire()
    directory.close()
    second.acquire()
    assert not second.settled
    second.close()
