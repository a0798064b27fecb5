"""What wakes the Analyzer, and how it looks at what has changed and at nothing else."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest

from learner_service.analyzer import LogDirectory
from learner_service.analyzer.following import FollowedFiles
from learner_service.analyzer.waking import EVERYTHING, Changes, Waker
from learner_service.store.store import Store
from tests.learner_service.analyzer.conftest import NOW_US, Following
from tests.learner_service.analyzer.lines import append, executed, own
from tests.learner_service.conftest import ManualClock

WAIT_S_MAX = 10.0


async def told_of(waker: Waker, paths: Iterable[Path]) -> None:
    """Returns once the waker has told of each path by itself."""
    wanted = {str(path) for path in paths}
    async with asyncio.timeout(WAIT_S_MAX):
        while wanted:
            changes = await waker.wait(WAIT_S_MAX)
            wanted -= changes.paths


async def watching(waker: Waker) -> None:
    """Returns once the watch is on, which is told as a change of everything."""
    async with asyncio.timeout(WAIT_S_MAX):
        while not (await waker.wait(WAIT_S_MAX)).everything:
            pass


async def test_it_tells_which_files_changed(logs: Path) -> None:
    append(logs / "a.log", b"x")
    async with Waker([logs]) as waker:
        await watching(waker)
        append(logs / "a.log", b"x")
        await told_of(waker, [logs / "a.log"])
        (logs / "below").mkdir()
        await told_of(waker, [logs / "below"])
        append(logs / "below" / "b.log", b"x")
        await told_of(waker, [logs / "below" / "b.log"])
        (logs / "a.log").rename(logs / "a.log.1")
        await told_of(waker, [logs / "a.log", logs / "a.log.1"])
        assert not waker.take()


async def test_after_the_timeout_everything_may_have_changed(logs: Path) -> None:
    async with Waker([logs]) as waker:
        await watching(waker)
        assert await waker.wait(0.01) == EVERYTHING
        append(logs / ".hidden", b"x")
        append(logs / "data.mdb", b"x")
        assert await waker.wait(0.1) == EVERYTHING


async def test_a_directory_that_is_made_or_made_anew_is_watched_before_long(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    async with Waker([logs]) as waker:
        await watching(waker)
        for _ in range(2):
            logs.mkdir()
            async with asyncio.timeout(WAIT_S_MAX):
                while (
                    not (logs / "a.log").exists() or str(logs / "a.log") not in (await waker.wait(0.1)).paths
                ):
                    append(logs / "a.log", b"x")
            (logs / "a.log").unlink()
            logs.rmdir()


def test_changes_are_true_when_there_are_any() -> None:
    assert not Changes()
    assert Changes(frozenset({"a"}))
    assert EVERYTHING


def followed(logs: Path, *names: str) -> FollowedFiles:
    """Files that were all looked at and read."""
    for name in names:
        append(logs / name, own(executed(name)))
    files = FollowedFiles([LogDirectory("", logs)], lambda: NOW_US)
    assert len(files.survey()) == len(names)
    for file in files.files():
        file.is_read()
    return files


def test_a_file_that_has_grown_is_looked_at_alone(logs: Path) -> None:
    files = followed(logs, "a.log", "b.log")
    append(logs / "a.log", b"x\n")
    append(logs / "b.log", b"x\n")
    found = files.look_at([str(logs / "a.log")])
    assert found is not None
    assert [file.path for file in found] == [str(logs / "a.log")]
    assert [file.path for file in files.survey()] == [str(logs / "a.log"), str(logs / "b.log")]


def test_a_file_that_has_not_changed_has_nothing_to_be_read(logs: Path) -> None:
    files = followed(logs, "a.log")
    assert files.look_at([str(logs / "a.log")]) == []
    assert files.look_at([]) == []


@pytest.mark.parametrize("change", ["made", "deleted", "renamed", "replaced", "a directory"])
def test_of_any_other_change_only_a_survey_can_tell(logs: Path, change: str) -> None:
    files = followed(logs, "a.log")
    path = logs / "a.log"
    match change:
        case "made":
            path = logs / "b.log"
            append(path, b"x\n")
        case "deleted":
            path.unlink()
        case "renamed":
            path.rename(logs / "b.log")
        case "replaced":
            append(logs / "new.tmp", b"x\n")
            (logs / "new.tmp").replace(path)
        case _:
            path = logs / "below"
            path.mkdir()
    assert files.look_at([str(path)]) is None


async def test_files_that_grow_in_turn_are_read_without_looking_at_all_files(
    store: Store, clock: ManualClock, logs: Path
) -> None:
    following = Following(store, (LogDirectory("", logs),), clock, look_interval_s=3_600)
    for name in ("a.log", "b.log"):
        append(logs / name, own(executed(name)))
    running = asyncio.create_task(following.analyzer.run())
    async with asyncio.timeout(WAIT_S_MAX):
        for number in range(10):
            while len(following.recorded) < number + 2:
                following.told.clear()
                await following.told.wait()
            append(logs / f"{'ab'[number % 2]}.log", own(executed(f"block-{number}")))
        while len(following.recorded) < 12:
            following.told.clear()
            await following.told.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert sorted(following.recorded_ids[2:]) == [f"block-{number}" for number in range(10)]


def test_very_many_changes_are_told_as_one_of_everything() -> None:
    waker = Waker([])
    waker._tell(str(number) for number in range(10))
    assert len(waker.take().paths) == 10
    waker._tell(str(number) for number in range(10_000))
    assert waker.take() == EVERYTHING
    assert not waker.take()
