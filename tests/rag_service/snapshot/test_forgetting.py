"""What is deleted stays deleted: from the bookmark on that says so, whenever the process is killed.

A process that is killed leaves its directory as it is at that moment: the next one finds a copy of it here.
"""

import errno
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from errata.v1 import rag_pb2
from rag_service.snapshot.directory import SnapshotDirectory
from tests.rag_service.following import Builder
from tests.rag_service.manual_clock import until
from tests.rag_service.scripted_learner import ToyStore
from tests.rag_service.snapshot.keeping import Keeping, keeping, saved_header, saved_revision

DELAY_S = 5.0


@asynccontextmanager
async def saved_three(
    path: Path, directory_type: type[SnapshotDirectory] = SnapshotDirectory
) -> AsyncIterator[Keeping]:
    """A service whose snapshot has three examples."""
    async with keeping(path, directory_type=directory_type) as started:
        started.open()
        await started.bookmark(*[started.store.put(name, f"question {name}") for name in "abc"])
        await started.saved(3)
        yield started


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Keeping]:
    async with saved_three(tmp_path / "kept") as started:
        yield started


async def served_after_a_kill(it: Keeping, name: str = "killed") -> set[str]:
    """What the next process serves, with the Learner away, if this one is killed now."""
    async with keeping(it.copied(it.path.with_name(name))) as after:
        return after.ids


async def test_a_forgotten_example_is_gone_after_a_kill_right_after_its_bookmark(it: Keeping) -> None:
    await it.forget("a")
    assert await served_after_a_kill(it, "first") == {"b", "c"}
    await it.forget("c")
    assert await served_after_a_kill(it, "second") == {"b"}
    assert saved_revision(it.path) == 3


class ForgetfulDirectory(SnapshotDirectory):
    """A flaw: writes no deletions."""

    def record(self, deletions: Mapping[bytes, int]) -> None:
        pass


async def test_a_service_that_writes_no_deletions_is_found_out(tmp_path: Path) -> None:
    async with saved_three(tmp_path / "kept", ForgetfulDirectory) as it:
        await it.forget("a")
        assert "a" in await served_after_a_kill(it)


async def test_what_has_come_without_its_bookmark_is_not_deleted_yet(it: Keeping) -> None:
    it.mirror.receive([it.store.delete("a")])
    assert await served_after_a_kill(it) == {"a", "b", "c"}


async def test_what_is_resumed_after_a_kill_agrees_with_the_learner(it: Keeping) -> None:
    gone, changed = it.store.delete("a"), it.store.put("b", "another question")
    await it.bookmark(gone, changed)
    async with keeping(it.copied(it.path.with_name("killed")), it.store) as after:
        assert after.ids == {"b", "c"}
        assert after.mirror.resume_token == b"store-1@3"
        after.open()
        # `bookmark` asserts that the digests agree.
        await after.bookmark(gone, changed)
        assert after.ids == {"b", "c"}
        assert after.mirror.resync_count == 0


async def test_a_deletion_and_a_new_example_of_the_same_name_in_one_batch(it: Keeping) -> None:
    gone, back = it.store.delete("a"), it.store.put("a", "another question")
    await it.bookmark(gone, back)
    async with keeping(it.copied(it.path.with_name("killed")), it.store) as after:
        assert after.ids == {"b", "c"}
        after.open()
        # The log of the Learner has one row a key: the deletion is not sent any more.
        await after.bookmark(back)
        assert after.ids == {"a", "b", "c"}


async def test_deletions_of_several_processes_add_up(it: Keeping) -> None:
    gone = it.store.delete("a")
    await it.bookmark(gone)
    async with keeping(it.copied(it.path.with_name("second")), it.store) as second:
        second.open()
        await second.bookmark(gone)
        await second.forget("b")
        assert await served_after_a_kill(second, "third") == {"c"}


async def test_a_deletion_while_a_snapshot_is_written_concerns_both(it: Keeping) -> None:
    await it.learn("d")
    it.writer.gate = Future()
    it.clock.advance(DELAY_S)
    await until(lambda: it.writer.submitted_count == 2)
    await it.forget("a")
    assert await served_after_a_kill(it, "before") == {"b", "c"}
    it.writer.gate.set_result(None)
    await it.saved(4)
    assert await served_after_a_kill(it, "after") == {"b", "c", "d"}
    await it.forget("d")
    assert await served_after_a_kill(it, "later") == {"b", "c"}


async def test_a_deletion_that_a_snapshot_holds_is_not_written_beside_it_again(it: Keeping) -> None:
    await it.forget("a")
    it.clock.advance(DELAY_S)
    await it.saved(4)
    await it.bookmark()
    assert sizes_of_deletions(it.path) == [36]
    assert await served_after_a_kill(it) == {"b", "c"}


def sizes_of_deletions(path: Path) -> list[int]:
    return [each.stat().st_size for each in path.glob("deletions.*")]


async def test_what_a_resync_did_not_bring_again_is_deleted(it: Keeping) -> None:
    del it.store.rows[b"\0a"]
    await it.resync()
    assert it.ids == {"b", "c"}
    assert saved_revision(it.path) == 3
    assert await served_after_a_kill(it) == {"b", "c"}


async def test_a_resync_after_deletions_that_no_bookmark_followed(it: Keeping) -> None:
    it.mirror.receive([it.store.delete("a")])
    del it.store.rows[b"\0b"]
    await it.resync()
    assert await served_after_a_kill(it) == {"c"}


async def test_a_resync_while_a_snapshot_is_written_concerns_both(it: Keeping) -> None:
    await it.learn("d")
    it.writer.gate = Future()
    it.clock.advance(DELAY_S)
    await until(lambda: it.writer.submitted_count == 2)
    del it.store.rows[b"\0a"]
    await it.resync()
    assert await served_after_a_kill(it, "before") == {"b", "c"}
    it.writer.gate.set_result(None)
    await it.saved(4)
    assert await served_after_a_kill(it, "after") == {"b", "c", "d"}


async def test_what_a_restored_backup_brings_back_is_received_again(it: Keeping) -> None:
    backup = ToyStore(rows=dict(it.store.rows), head=3, epochs=[(101, 0), (102, 3)])
    await it.forget("a")
    async with keeping(it.copied(it.path.with_name("killed")), backup) as after:
        assert after.ids == {"b", "c"}
        # The Learner knows nothing of the deletion: the token is good, and the example is alive.
        after.open()
        assert not after.mirror.agrees_with(backup.bookmark().bookmark)
        # Which is how the subscriber goes on then.
        after.mirror.rebuild()
        after.open()
        await after.bookmark(*[update for _, update in backup.rows.values()])
        assert after.ids == {"a", "b", "c"}


async def test_where_deletions_cannot_be_written_the_snapshot_goes(it: Keeping) -> None:
    disk_is_full(it.directory)
    with capture_logs() as logged:
        await it.forget("a")
    assert [entry["event"] for entry in logged if entry["log_level"] == "warning"] == [
        "cannot write deletions, removing the snapshot"
    ]
    assert it.progress.applied_revision == 4
    await it.saved(4)
    assert await served_after_a_kill(it) == {"b", "c"}


def disk_is_full(directory: SnapshotDirectory) -> None:
    class FullLog:
        path = Path("deletions")

        def append(self, deletions: Mapping[bytes, int]) -> None:
            raise OSError(errno.ENOSPC, f"no room for {len(deletions)}")

        def close(self) -> None:
            pass

    directory._log = FullLog()  # type: ignore[assignment]  # the disk, not the log, is what is wrong


async def test_a_snapshot_that_was_not_used_is_gone_with_the_first_bookmark(it: Keeping) -> None:
    path = it.copied(it.path.with_name("second"))
    # It cannot build the embedder at its start, gets it with the Hello, and is killed before it has written.
    with capture_logs():
        async with keeping(path, it.store, builder=Builder(other=it.embedder)) as second:
            assert second.mirror.live is None
            assert saved_header(path) is not None
            it.store.delete("a")
            second.open()
            second.writer.gate = Future()
            await second.bookmark(*[update for _, update in it.store.rows.values()])
            async with keeping(second.copied(path.with_name("third"))) as third:
                assert third.mirror.live is None
                assert third.mirror.state == rag_pb2.INDEX_STATE_SYNCING
            second.writer.gate.set_result(None)
            await second.saved(4)
            assert await served_after_a_kill(second, "fourth") == {"b", "c"}
