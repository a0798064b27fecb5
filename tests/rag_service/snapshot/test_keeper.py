"""When snapshots are written, and when they are not."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from rag_service.snapshot.errors import DirectoryInUseError
from rag_service.snapshot.keeper import LAST_BOOKMARK_S_MAX
from tests.rag_service.manual_clock import until
from tests.rag_service.snapshot.keeping import Keeping, keeping, saved_header, saved_revision

DELAY_S = 5.0
RETRY_S = 60.0


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Keeping]:
    """A service at its first bookmark, of one example, with its first snapshot."""
    async with keeping(tmp_path / "kept") as started:
        started.open()
        await started.learn("a")
        await started.saved(1)
        yield started


async def test_the_first_snapshot_is_written_at_the_first_bookmark(tmp_path: Path) -> None:
    async with keeping(tmp_path / "kept", namespaces=("b", "a")) as it:
        it.open()
        await it.settle()
        assert saved_header(it.path) is None
        await it.learn("a")
        await it.saved(1)
        header = saved_header(it.path)
        assert header is not None
        assert header.bookmark.token == it.store.resume_token
        assert list(header.namespaces) == ["a", "b"]
        assert (header.embedder, header.embedder_fingerprint, header.dimension) == ("toy", "toy/8", 8)
        assert [epoch.nonce for epoch in header.epochs] == [101]


async def test_a_change_is_saved_five_seconds_later_with_all_that_came_until_then(it: Keeping) -> None:
    await it.learn("b")
    it.clock.advance(DELAY_S - 0.5)
    await it.learn("c")
    await it.settle()
    assert it.writer.submitted_count == 1
    it.clock.advance(0.5)
    await it.saved(3)
    assert it.writer.submitted_count == 2


async def test_nothing_is_written_where_nothing_has_changed(it: Keeping) -> None:
    for _ in range(30):
        it.clock.advance(100)
        await it.bookmark()
        await it.settle()
    assert it.writer.submitted_count == 1


async def test_the_token_alone_is_saved_within_the_hour(it: Keeping) -> None:
    it.store.head = 9
    await it.bookmark()
    it.clock.advance(3_599)
    await it.bookmark()
    await it.settle()
    assert saved_revision(it.path) == 1
    it.clock.advance(1)
    await it.saved(9)


async def test_where_writing_takes_long_it_is_done_less_often(it: Keeping) -> None:
    it.writer.takes_s = 4.0
    await it.learn("b")
    it.clock.advance(DELAY_S)
    await it.saved(2)
    await it.learn("c")
    it.clock.advance(35.5)
    await it.settle()
    assert saved_revision(it.path) == 2
    it.clock.advance(0.5)
    await it.saved(3)


async def test_what_changes_during_the_writing_is_saved_five_seconds_after_the_change(it: Keeping) -> None:
    await it.learn("b")
    it.writer.gate = Future()
    it.clock.advance(DELAY_S)
    await until(lambda: it.writer.submitted_count == 2)
    it.clock.advance(1)
    await it.learn("c")
    it.writer.gate.set_result(None)
    it.writer.gate = None
    await it.saved(2)
    it.clock.advance(DELAY_S - 0.5)
    await it.settle()
    assert saved_revision(it.path) == 2
    # Writing took a second, and no more than a tenth of the time is to be spent with it.
    it.clock.advance(9)
    await it.saved(3)


async def test_a_state_between_two_bookmarks_is_not_saved(it: Keeping) -> None:
    await it.learn("b")
    it.mirror.receive([it.store.put("c", "how to sort")])
    it.clock.advance(DELAY_S)
    await it.settle()
    assert saved_revision(it.path) == 1
    await it.bookmark()
    await it.saved(3)


async def test_a_state_that_comes_to_a_bookmark_for_a_moment_only_is_saved(it: Keeping) -> None:
    await it.learn("b")
    it.mirror.receive([it.store.put("c", "how to sort")])
    it.clock.advance(DELAY_S)
    await it.settle()
    await it.bookmark()
    it.mirror.receive([it.store.put("d", "how to cut")])
    await it.saved(3)


async def test_a_state_that_is_about_to_be_replaced_is_not_saved(it: Keeping) -> None:
    await it.learn("b")
    it.mirror.reset()
    it.clock.advance(100)
    await it.settle()
    assert saved_revision(it.path) == 1
    await it.resync()
    await it.saved(2)


async def test_a_failure_is_told_once_and_tried_again_while_the_service_goes_on(it: Keeping) -> None:
    (it.path / "snapshot.tmp").mkdir()
    with capture_logs() as logged:
        await it.learn("b")
        it.clock.advance(DELAY_S)
        await until(lambda: logged)
        it.clock.advance(RETRY_S - 1)
        await it.learn("c")
        await it.settle()
        (it.path / "snapshot.tmp").rmdir()
        it.clock.advance(1)
        await it.saved(3)
    warnings = [entry for entry in logged if entry["log_level"] == "warning"]
    assert len(warnings) == 1
    assert "directory" in warnings[0]["problem"]
    assert it.ids == {"a", "b", "c"}


async def test_a_bug_in_writing_ends_nothing_but_the_writing(it: Keeping) -> None:
    assert it.mirror.live is not None
    it.mirror.live.index._rows.keys[0] = None  # type: ignore[call-overload]  # what a bug might leave
    with capture_logs() as logged:
        await it.learn("b")
        it.clock.advance(DELAY_S)
        await until(lambda: logged)
    assert [entry["log_level"] for entry in logged] == ["error"]
    assert saved_revision(it.path) == 1
    await it.learn("c")


async def test_the_rows_of_a_state_that_could_not_be_written_are_let_go(it: Keeping) -> None:
    (it.path / "snapshot.tmp").mkdir()
    with capture_logs() as logged:
        await it.learn("b")
        it.clock.advance(DELAY_S)
        await until(lambda: logged)
    assert it.mirror.live is not None
    assert it.mirror.live.index._publication._running == {}


async def test_at_the_end_what_is_new_is_saved(it: Keeping) -> None:
    await it.learn("b")
    await it.keeper.finish(within_s=5)
    assert saved_revision(it.path) == 2
    await it.learn("c")
    it.clock.advance(1_000)
    await it.settle()
    assert saved_revision(it.path) == 2


async def test_at_the_end_nothing_is_written_where_nothing_is_new(it: Keeping) -> None:
    it.store.head = 9
    await it.bookmark()
    await it.keeper.finish(within_s=5)
    assert it.writer.submitted_count == 1


async def test_at_the_end_a_bookmark_is_waited_for(it: Keeping) -> None:
    await it.learn("b")
    it.mirror.receive([it.store.put("c", "how to sort")])
    finishing = asyncio.create_task(it.keeper.finish(within_s=5))
    await it.settle()
    assert not finishing.done()
    await it.bookmark()
    await finishing
    assert saved_revision(it.path) == 3


async def test_at_the_end_a_bookmark_is_not_waited_for_in_vain(it: Keeping) -> None:
    await it.learn("b")
    it.mirror.receive([it.store.put("c", "how to sort")])
    # One is due, and waits for a bookmark already.
    it.clock.advance(DELAY_S)
    await it.settle()
    with capture_logs() as logged:
        await it.keeper.finish(within_s=LAST_BOOKMARK_S_MAX + 2)
    assert logged == []
    assert saved_revision(it.path) == 1
    assert it.mirror.live is not None
    assert it.mirror.live.index._publication._running == {}


async def test_at_the_end_what_is_being_written_is_followed_by_what_is_new_since(it: Keeping) -> None:
    await it.learn("b")
    it.writer.gate = Future()
    it.clock.advance(DELAY_S)
    await until(lambda: it.writer.submitted_count == 2)
    await it.learn("c")
    finishing = asyncio.create_task(it.keeper.finish(within_s=5))
    await it.settle()
    it.writer.gate.set_result(None)
    await finishing
    assert saved_revision(it.path) == 3


async def test_at_the_end_a_snapshot_that_is_not_complete_in_time_is_given_up(it: Keeping) -> None:
    await it.learn("b")
    it.writer.gate = Future()
    await it.keeper.finish(within_s=0.05)
    it.writer.gate.set_result(None)
    it.writer.shutdown()
    assert not (it.path / "snapshot.tmp").exists()
    assert saved_revision(it.path) == 1
    assert it.mirror.live is not None
    assert it.mirror.live.index._publication._running == {}


async def test_at_the_end_a_snapshot_that_will_take_too_long_is_not_begun(it: Keeping) -> None:
    it.writer.takes_s = 6.0
    await it.learn("b")
    it.clock.advance(DELAY_S)
    await it.saved(2)
    await it.learn("c")
    await it.keeper.finish(within_s=5)
    assert it.writer.submitted_count == 2


async def test_a_service_without_a_state_ends_without_a_snapshot(tmp_path: Path) -> None:
    async with keeping(tmp_path / "kept") as it:
        await it.keeper.finish(within_s=5)
    assert saved_header(tmp_path / "kept") is None


async def test_a_second_service_is_refused_the_directory(it: Keeping) -> None:
    with pytest.raises(DirectoryInUseError, match=r"used by another RAG service"):
        async with keeping(it.path):
            pass
