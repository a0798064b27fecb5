"""What stands at a path changes: rotation, truncation, replacement, links; and what crashes leave behind."""

import os
import shutil
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from learner_service.analyzer import LogDirectory
from learner_service.analyzer.follower import CHUNK_BYTES, LINE_BYTES_MAX
from learner_service.analyzer.identity import HEAD_BYTES_MAX
from learner_service.keys import BlockKey
from learner_service.store.store import Store
from tests.learner_service.analyzer.conftest import Following
from tests.learner_service.analyzer.lines import append, executed, own, taught
from tests.learner_service.conftest import ManualClock

HEADER = b'{"message": "' + b"x" * HEAD_BYTES_MAX + b'"}\n'
"""As long as what a file is recognised by."""


def lines(*numbers: int) -> bytes:
    return b"".join(own(executed(f"block-{number}")) for number in numbers)


def ids(*numbers: int) -> list[str]:
    return [f"block-{number}" for number in numbers]


async def test_a_log_is_rotated_by_renaming_again_and_again(following: Following, logs: Path) -> None:
    for generation in range(5):
        for number in range(generation, 0, -1):
            (logs / f"a.log.{number - 1 or ''}".rstrip(".")).rename(logs / f"a.log.{number}")
        append(logs / "a.log", lines(generation * 10))
        await following.poll()
        append(logs / "a.log", lines(generation * 10 + 1))
        if generation % 2:
            following_before, following = following, following.restarted()
            following.recorded = following_before.recorded
    await following.poll()
    expected = [generation * 10 + number for generation in range(5) for number in (0, 1)]
    assert sorted(following.recorded_ids) == sorted(ids(*expected))
    assert {status.malformed_line_count for status in following.analyzer.status()} == {0}


async def test_a_log_is_copied_and_cut_short_and_what_came_between_is_read_from_the_copy(
    following: Following, logs: Path
) -> None:
    append(logs / "a.log", lines(1, 2))
    await following.poll()
    append(logs / "a.log", lines(3))
    shutil.copy(logs / "a.log", logs / "a.log.1")
    os.truncate(logs / "a.log", 0)
    append(logs / "a.log", lines(4))
    await following.poll()
    assert sorted(following.recorded_ids) == ids(1, 2, 3, 4)
    append(logs / "a.log", lines(5))
    await following.restarted().poll()
    assert following.block_keys() == {BlockKey("", each) for each in ids(1, 2, 3, 4, 5)}


async def test_a_program_that_writes_on_where_it_was_after_its_log_was_cut_short_leaves_a_hole(
    following: Following, logs: Path
) -> None:
    append(logs / "a.log", HEADER, lines(1))
    await following.poll()
    with (logs / "a.log").open("r+b") as file:
        # Larger than a line may be: the line after it must not be passed over with it.
        file.seek(LINE_BYTES_MAX + 3 * CHUNK_BYTES)
        os.truncate(logs / "a.log", 0)
        file.write(lines(2, 3))
    await following.poll()
    assert following.recorded_ids == ids(1, 2, 3)
    status = following.status()["a.log"]
    assert (status.malformed_line_count, status.offset_bytes) == (1, (logs / "a.log").stat().st_size)


async def test_zeros_after_a_crash_end_the_line_before_them_and_count_as_a_line(
    following: Following, logs: Path
) -> None:
    torn = own(executed("block-9"))[:30]
    append(logs / "a.log", lines(1), torn, bytes(5000))
    await following.poll()
    # The zeros wait: a program may have made them to write into.
    assert following.recorded_ids == ids(1)
    assert following.status()["a.log"].offset_bytes == len(lines(1))
    append(logs / "a.log", lines(2), bytes(3), b"\n", lines(3))
    await following.poll()
    assert following.recorded_ids == ids(1, 2, 3)
    assert following.status()["a.log"].malformed_line_count == 3


async def test_a_log_whose_room_was_made_beforehand_is_read_as_it_fills(
    following: Following, logs: Path
) -> None:
    (logs / "a.log").write_bytes(bytes(3 * CHUNK_BYTES))
    offset = 0
    for number in range(1, 4):
        with (logs / "a.log").open("r+b") as file:
            file.seek(offset)
            offset += file.write(lines(number))
        await following.poll()
        assert following.recorded_ids == ids(*range(1, number + 1))
    assert following.status()["a.log"].malformed_line_count == 0


@pytest.mark.parametrize("missed", ["nothing", "that it was gone", "everything"])
async def test_a_file_is_deleted_and_made_anew(following: Following, logs: Path, missed: str) -> None:
    append(logs / "a.log", lines(1, 2))
    await following.poll()
    (logs / "a.log").unlink()
    if missed == "nothing":
        await following.poll()
        assert following.analyzer.status() == ()
    append(logs / "a.log", lines(3))
    following = following.restarted() if missed == "everything" else following
    await following.poll()
    assert following.recorded_ids[-1] == "block-3"
    assert following.status()["a.log"].offset_bytes == len(lines(3))


async def test_a_file_replaced_by_a_longer_one_that_begins_alike_is_read_from_its_start(
    following: Following, logs: Path
) -> None:
    append(logs / "a.log", HEADER, lines(1, 2))
    await following.poll()
    (logs / "a.log").write_bytes(HEADER + lines(3, 4, 5, 6))
    await following.poll()
    assert following.recorded_ids == ids(1, 2, 3, 4, 5, 6)


async def test_a_file_rewritten_in_place_with_as_many_bytes_is_read_from_its_start(
    following: Following, logs: Path
) -> None:
    append(logs / "a.log", HEADER, lines(1, 2))
    await following.poll()
    restarted = following.restarted()
    (logs / "a.log").write_bytes(HEADER + lines(3, 4))
    await restarted.poll()
    assert restarted.recorded_ids == ids(3, 4)


async def test_a_file_that_is_only_touched_is_not_read_again(following: Following, logs: Path) -> None:
    append(logs / "a.log", HEADER, lines(1))
    await following.poll()
    (logs / "a.log").touch()
    await following.poll()
    assert following.recorded_ids == ids(1)


async def test_an_emptied_file_stands_at_its_start(following: Following, logs: Path) -> None:
    append(logs / "a.log", lines(1))
    append(logs / "empty.log", b"")
    await following.poll()
    os.truncate(logs / "a.log", 0)
    await following.poll()
    for status in following.status().values():
        assert (status.offset_bytes, status.size_bytes) == (0, 0)


async def test_a_file_whose_name_sorts_before_those_that_were_read_is_read(
    following: Following, logs: Path
) -> None:
    append(logs / "m.log", lines(1))
    await following.poll()
    append(logs / "a.log", lines(2))
    (logs / "A").mkdir()
    append(logs / "A" / "0.log", lines(3))
    await following.poll()
    assert sorted(following.recorded_ids) == ids(1, 2, 3)


async def test_a_log_that_moves_to_another_namespace_is_learned_there_too(
    store: Store, clock: ManualClock, logs: Path
) -> None:
    below = {name: logs / name for name in ("team-a", "team-b")}
    for path in below.values():
        path.mkdir()
    following = Following(store, tuple(LogDirectory(*each) for each in below.items()), clock)
    append(below["team-a"] / "a.log", lines(1))
    await following.poll()
    (below["team-a"] / "a.log").rename(below["team-b"] / "a.log")
    await following.poll()
    assert following.block_keys() == {BlockKey("team-a", "block-1"), BlockKey("team-b", "block-1")}


async def test_links_lead_to_logs_elsewhere_and_each_is_read_once(
    following: Following, logs: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    append(elsewhere / "a.log", lines(1))
    (logs / "of-a-file.log").symlink_to(elsewhere / "a.log")
    (logs / "of-a-directory").symlink_to(elsewhere)
    (elsewhere / "round").symlink_to(logs)
    await following.poll()
    append(elsewhere / "a.log", lines(2))
    await following.poll()
    assert following.recorded_ids == ids(1, 2)
    assert len(following.analyzer.status()) == 1


async def test_a_link_that_is_turned_to_another_file_leads_to_that(
    following: Following, logs: Path, tmp_path: Path
) -> None:
    for number in (1, 2):
        append(tmp_path / f"{number}.log", lines(number))
    (logs / "current").symlink_to(tmp_path / "1.log")
    await following.poll()
    (logs / "current").unlink()
    (logs / "current").symlink_to(tmp_path / "2.log")
    await following.poll()
    assert following.recorded_ids == ids(1, 2)


async def test_a_file_that_could_not_be_read_is_read_once_it_can(following: Following, logs: Path) -> None:
    # Reading this one fails for everybody, root included.
    (logs / "a.log").symlink_to("/proc/self/mem")
    with capture_logs() as logged:
        await following.poll()
        await following.poll()
        (logs / "a.log").unlink()
        append(logs / "a.log", lines(1))
        await following.poll()
    assert following.recorded_ids == ids(1)
    assert len(logged) <= 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_a_file_that_nobody_may_read_is_read_once_somebody_may(
    following: Following, logs: Path
) -> None:
    append(logs / "a.log", lines(1))
    (logs / "a.log").chmod(0)
    with capture_logs() as logged:
        await following.poll()
    assert [line["path"] for line in logged] == [str(logs / "a.log")]
    (logs / "a.log").chmod(0o600)
    await following.poll()
    assert following.recorded_ids == ids(1)


async def test_a_pipe_at_the_path_of_a_log_holds_up_nothing(following: Following, logs: Path) -> None:
    append(logs / "a.log", lines(1))
    await following.poll()
    (logs / "a.log").unlink()
    os.mkfifo(logs / "a.log")
    append(logs / "b.log", lines(2))
    await following.poll()
    assert following.recorded_ids == ids(1, 2)


async def test_a_line_of_a_hundred_megabytes_is_passed_over(following: Following, logs: Path) -> None:
    begin, end = own(taught("block-9", "@")).split(b"@")
    with (logs / "a.log").open("wb") as file:
        file.write(lines(1) + begin)
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(end + lines(2))
    await following.poll()
    assert following.recorded_ids == ids(1, 2)
    assert following.status()["a.log"].malformed_line_count == 1


async def test_ten_thousand_files_are_followed(store: Store, clock: ManualClock, logs: Path) -> None:
    count = 10_000
    following = Following(store, (LogDirectory("", logs),), clock, files_remembered_max=count)
    for number in range(count):
        folder = logs / str(number % 100)
        folder.mkdir(exist_ok=True)
        append(folder / f"{number}.log", lines(number))
    await following.poll()
    assert len(following.block_keys()) == count
    assert all(status.offset_bytes == status.size_bytes for status in following.analyzer.status())
    restarted = following.restarted()
    append(logs / "7" / "1007.log", lines(count))
    await restarted.poll()
    assert restarted.recorded_ids == ids(count)
