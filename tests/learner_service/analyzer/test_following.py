"""Files grow, appear, are renamed, replaced and cut short; the Analyzer stops and starts."""

import asyncio
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from errata.v1.block_pb2 import BlockEvent
from learner_service.analyzer import LogDirectory
from learner_service.analyzer.follower import LINE_BYTES_MAX
from learner_service.analyzer.reading import EVENTS_MAX, STEP_BYTES
from learner_service.errors import StoreFullError
from learner_service.keys import BlockKey
from learner_service.store.store import Store
from tests.learner_service.analyzer.conftest import Following
from tests.learner_service.analyzer.lines import append, executed, own, taught
from tests.learner_service.conftest import ManualClock

WAIT_S_MAX = 30
"""Before a test that waits for something fails: nothing here takes a tenth of it."""


async def test_a_file_that_is_there_is_read(following: Following, logs: Path) -> None:
    append(logs / "a.jsonl", own(executed("block-1")), own(executed("block-2")))
    await following.poll()
    assert following.block_keys() == {BlockKey("", "block-1"), BlockKey("", "block-2")}
    size_bytes = (logs / "a.jsonl").stat().st_size
    status = following.status()["a.jsonl"]
    assert (status.offset_bytes, status.size_bytes, status.malformed_line_count) == (
        size_bytes,
        size_bytes,
        0,
    )


async def test_what_a_file_grows_by_is_read_and_nothing_twice(following: Following, logs: Path) -> None:
    append(logs / "a.jsonl", own(executed("block-1")))
    await following.poll()
    append(logs / "a.jsonl", own(executed("block-2")))
    await following.poll()
    await following.poll()
    assert following.recorded_ids == ["block-1", "block-2"]


async def test_a_file_that_appears_later_is_read(following: Following, logs: Path) -> None:
    await following.poll()
    append(logs / "b.jsonl", own(executed("block-1")))
    (logs / "below").mkdir()
    append(logs / "below" / "c.log", own(executed("block-2")))
    await following.poll()
    assert following.recorded_ids == ["block-1", "block-2"]


async def test_hidden_temporary_and_compressed_files_are_passed_over(
    following: Following, logs: Path
) -> None:
    for name in (".hidden.jsonl", "a.jsonl.tmp", "a.jsonl.gz", "a.jsonl~"):
        append(logs / name, own(executed("block-1")))
    await following.poll()
    assert following.recorded == []
    (logs / ".hidden.jsonl").rename(logs / "a.jsonl")
    await following.poll()
    assert following.recorded_ids == ["block-1"]


async def test_the_last_line_waits_until_it_is_complete(following: Following, logs: Path) -> None:
    line = own(executed("block-1"))
    append(logs / "a.jsonl", own(executed("block-0")), line[:20])
    await following.poll()
    assert following.recorded_ids == ["block-0"]
    append(logs / "a.jsonl", line[20:-2])
    await following.poll()
    assert following.recorded_ids == ["block-0"]
    assert following.status()["a.jsonl"].malformed_line_count == 0
    append(logs / "a.jsonl", line[-2:])
    await following.poll()
    assert following.recorded_ids == ["block-0", "block-1"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
async def test_a_last_line_that_is_a_whole_object_needs_no_newline(
    following: Following, logs: Path, end: bytes
) -> None:
    append(logs / "a.jsonl", own(executed("block-0")), own(executed("block-1"))[:-1])
    await following.poll()
    assert following.recorded_ids == ["block-0", "block-1"]
    append(logs / "a.jsonl", end, own(executed("block-2")))
    await following.poll()
    assert following.recorded_ids == ["block-0", "block-1", "block-2"]
    assert following.status()["a.jsonl"].malformed_line_count == 0


async def test_line_ends_of_windows_blank_lines_and_a_byte_order_mark_are_taken(
    following: Following, logs: Path
) -> None:
    lines = (own(executed("block-1")), b"\n", own(executed("block-2")))
    append(logs / "a.jsonl", b"\xef\xbb\xbf", *(line.replace(b"\n", b"\r\n") for line in lines))
    await following.poll()
    assert following.recorded_ids == ["block-1", "block-2"]
    assert following.status()["a.jsonl"].malformed_line_count == 0


async def test_malformed_lines_are_counted_and_passed_over(following: Following, logs: Path) -> None:
    malformed = [
        b"not JSON at all\n",
        b'{"blockId": "cut sho\n',
        b'{"blockId": "block-9", "eventTime": "2024-01-01T00:00:00Z"}\n',
        b'{"blockId": "block-9", "eventTime": "yesterday", "suggestion": 1}\n',
        b'{"blockId": "\xff\xfe", "eventTime": "2024-01-01T00:00:00Z", "suggestion": 1}\n',
        b'{"blockId": "\\ud800", "eventTime": "2024-01-01T00:00:00Z", "suggestion": 1}\n',
        b'{"blockId": "block-9", "eventTime": "2999-01-01T00:00:00Z", "suggestion": 1}\n',
        b'{"eventTime": "2024-01-01T00:00:00Z", "suggestion": 1}\n',
        b'["blockId"]\n',
        b"\0\0\0\n",
        b'{"blockId": ' + b"[" * 100_000 + b"}\n",
    ]
    for line in malformed:
        append(logs / "a.jsonl", line, own(executed("block-1")))
    await following.poll()
    assert following.block_keys() == {BlockKey("", "block-1")}
    assert len(following.recorded) == len(malformed)
    assert following.status()["a.jsonl"].malformed_line_count == len(malformed)


async def test_lines_that_are_too_long_are_counted_and_passed_over(following: Following, logs: Path) -> None:
    long = own(taught("block-9", "x" * (3 * LINE_BYTES_MAX)))
    append(
        logs / "a.jsonl", own(executed("block-1")), long, own(executed("block-2")), long[: 2 * LINE_BYTES_MAX]
    )
    await following.poll()
    assert following.recorded_ids == ["block-1", "block-2"]
    assert following.status()["a.jsonl"].malformed_line_count == 2
    restarted = following.restarted()
    append(logs / "a.jsonl", long[2 * LINE_BYTES_MAX :], own(executed("block-3")))
    await restarted.poll()
    assert restarted.recorded_ids == ["block-3"]
    assert restarted.status()["a.jsonl"].malformed_line_count == 2


async def test_many_events_are_many_transactions(following: Following, logs: Path) -> None:
    count = 2 * EVENTS_MAX + 1
    append(logs / "a.jsonl", *(own(executed(f"block-{number}")) for number in range(count)))
    await following.poll()
    assert len(following.recorded) == count
    assert max(len(keys) for keys in following.notified) <= EVENTS_MAX
    assert len(following.block_keys()) == count


async def test_a_restart_goes_on_where_it_stopped(following: Following, logs: Path) -> None:
    append(logs / "a.jsonl", own(executed("block-1")), b"broken\n")
    await following.poll()
    restarted = following.restarted()
    await restarted.poll()
    assert restarted.recorded == []
    assert restarted.status() == following.status()
    append(logs / "a.jsonl", own(executed("block-2")), b"broken\n")
    await restarted.poll()
    assert restarted.recorded_ids == ["block-2"]
    assert restarted.status()["a.jsonl"].malformed_line_count == 2


async def test_a_transaction_that_fails_moves_nothing_and_is_made_up_for(
    following: Following, logs: Path
) -> None:
    append(logs / "a.jsonl", own(executed("block-1")), b"broken\n")
    following.fault = RuntimeError("the process dies here")
    with pytest.raises(RuntimeError):
        await following.poll()
    assert following.block_keys() == set()
    assert following.log_files() == {}
    restarted = following.restarted()
    await restarted.poll()
    assert restarted.recorded_ids == ["block-1"]
    assert restarted.status()["a.jsonl"].malformed_line_count == 1


async def test_a_pass_that_is_cancelled_in_a_write_neither_loses_nor_counts_twice(
    following: Following, logs: Path
) -> None:
    append(logs / "a.jsonl", own(executed("block-1")), b"broken\n")
    release = threading.Event()
    held_up = following.store.submit(lambda _: release.wait())
    passing = asyncio.create_task(following.poll())
    begun = asyncio.create_task(following.write_begun.wait())
    try:
        async with asyncio.timeout(WAIT_S_MAX):
            # A pass that ends before it writes has failed, and `begun` would never come.
            await asyncio.wait([passing, begun], return_when=asyncio.FIRST_COMPLETED)
            passing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await passing
            assert begun.done()
    finally:
        # Whatever came before: the store cannot be closed while its writer is held up.
        release.set()
        begun.cancel()
    async with asyncio.timeout(WAIT_S_MAX):
        await asyncio.wrap_future(held_up)
        await following.poll()
    assert following.block_keys() == {BlockKey("", "block-1")}
    assert following.status()["a.jsonl"].malformed_line_count == 1


async def test_the_identity_of_a_file_grows_with_it(following: Following, logs: Path) -> None:
    append(logs / "a.jsonl", own(executed("block-1")))
    await following.poll()
    first = following.log_files()["a.jsonl"]
    assert first.identity_bytes == (logs / "a.jsonl").stat().st_size < 1024
    append(logs / "a.jsonl", *(own(executed(f"block-{number}")) for number in range(20)))
    await following.poll()
    assert following.log_files()["a.jsonl"].identity_bytes == 1024
    restarted = following.restarted()
    await restarted.poll()
    assert restarted.recorded == []


async def test_a_renamed_file_goes_on_where_it_was(following: Following, logs: Path) -> None:
    append(logs / "a.log", own(executed("block-1")))
    await following.poll()
    (logs / "a.log").rename(logs / "a.log.1")
    append(logs / "a.log", own(executed("block-2")))
    append(logs / "a.log.1", own(executed("block-3")))
    await following.poll()
    assert following.recorded_ids == ["block-1", "block-2", "block-3"]
    assert {name: status.malformed_line_count for name, status in following.status().items()} == {
        "a.log": 0,
        "a.log.1": 0,
    }


async def test_a_file_renamed_while_nobody_looked_goes_on_where_it_was(
    following: Following, logs: Path
) -> None:
    append(logs / "a.log", own(executed("block-1")))
    await following.poll()
    (logs / "a.log").rename(logs / "a.log.1")
    append(logs / "a.log", own(executed("block-2")))
    restarted = following.restarted()
    await restarted.poll()
    assert restarted.recorded_ids == ["block-2"]


async def test_a_file_that_was_replaced_is_read_from_its_start(following: Following, logs: Path) -> None:
    append(logs / "a.log", own(executed("block-1")), own(executed("block-2")))
    await following.poll()
    (logs / "new.tmp").write_bytes(own(executed("block-3")) * 9)
    (logs / "new.tmp").replace(logs / "a.log")
    await following.poll()
    assert following.recorded_ids == ["block-1", "block-2", *(["block-3"] * 9)]


@pytest.mark.parametrize("written", ["block-1", "block-3"])
async def test_a_file_that_was_cut_short_is_read_from_its_start(
    following: Following, logs: Path, written: str
) -> None:
    append(logs / "a.log", own(executed("block-1")), own(executed("block-2")))
    await following.poll()
    (logs / "a.log").write_bytes(own(executed(written)))
    await following.poll()
    append(logs / "a.log", own(executed("block-4")))
    await following.poll()
    assert following.recorded_ids == ["block-1", "block-2", written, "block-4"]


async def test_two_files_that_begin_alike_are_both_read_whole(following: Following, logs: Path) -> None:
    same = b"".join(own(executed(f"block-{number}")) for number in range(10))
    append(logs / "a.log", same, own(executed("block-a")))
    await following.poll()
    append(logs / "0.log", same, own(executed("block-b")))
    await following.poll()
    assert following.recorded_ids.count("block-5") == 2
    assert {"block-a", "block-b"} <= set(following.recorded_ids)
    restarted = following.restarted()
    append(logs / "0.log", own(executed("block-c")))
    append(logs / "a.log", own(executed("block-d")))
    await restarted.poll()
    assert restarted.recorded_ids == ["block-c", "block-d"]


async def test_a_copy_made_while_nobody_looked_is_read_whole(following: Following, logs: Path) -> None:
    same = b"".join(own(executed(f"block-{number}")) for number in range(10))
    append(logs / "a.log", same)
    await following.poll()
    append(logs / "0.log", same[:1100], b"\n", own(executed("block-b")))
    restarted = following.restarted()
    await restarted.poll()
    assert restarted.recorded_ids[-1] == "block-b"
    assert restarted.recorded_ids[0] == "block-0"


async def test_a_link_to_a_followed_file_is_the_same_file(following: Following, logs: Path) -> None:
    append(logs / "b.log", own(executed("block-1")))
    (logs / "a-link.log").symlink_to(logs / "b.log")
    (logs / "nowhere.log").symlink_to(logs / "missing.log")
    await following.poll()
    assert following.recorded_ids == ["block-1"]


async def test_blocks_get_the_namespace_of_the_nearest_directory(
    store: Store, clock: ManualClock, logs: Path
) -> None:
    below = logs / "team-b"
    below.mkdir()
    following = Following(store, (LogDirectory("team-a", logs), LogDirectory("team-b", below)), clock)
    append(logs / "a.log", own(executed("block-1")))
    append(below / "b.log", own(executed("block-1")))
    await following.poll()
    assert following.block_keys() == {BlockKey("team-a", "block-1"), BlockKey("team-b", "block-1")}


async def test_an_event_of_another_namespace_than_its_directory_is_malformed(
    store: Store, clock: ManualClock, logs: Path
) -> None:
    following = Following(store, (LogDirectory("team-a", logs),), clock)
    append(
        logs / "a.log",
        own(executed("block-1", namespace="team-a")),
        own(executed("block-2", namespace="team-b")),
    )
    await following.poll()
    assert following.block_keys() == {BlockKey("team-a", "block-1")}
    assert following.status()["a.log"].malformed_line_count == 1


async def test_in_a_directory_without_a_namespace_events_name_their_own(
    following: Following, logs: Path
) -> None:
    append(logs / "a.log", own(executed("block-1", namespace="team-b")), own(executed("block-1")))
    await following.poll()
    assert following.block_keys() == {BlockKey("team-b", "block-1"), BlockKey("", "block-1")}


async def test_a_directory_that_does_not_exist_is_waited_for_with_one_warning(
    store: Store, clock: ManualClock, tmp_path: Path
) -> None:
    following = Following(store, (LogDirectory("", tmp_path / "later"),), clock)
    with capture_logs() as logged:
        await following.poll()
        await following.poll()
    assert [line["path"] for line in logged] == [str(tmp_path / "later")]
    (tmp_path / "later").mkdir()
    append(tmp_path / "later" / "a.log", own(executed("block-1")))
    await following.poll()
    assert following.recorded_ids == ["block-1"]


async def test_a_file_that_cannot_be_read_holds_up_no_other(following: Following, logs: Path) -> None:
    append(logs / "b.log", own(executed("block-1")))
    (logs / "a.log").symlink_to("/proc/self/mem")
    with capture_logs() as logged:
        await following.poll()
        await following.poll()
    assert following.recorded_ids == ["block-1"]
    assert len(logged) <= 1


async def test_changed_blocks_are_told_of_when_they_are_durable(following: Following, logs: Path) -> None:
    append(logs / "a.log", own(executed("block-1")))
    await following.poll()
    append(logs / "a.log", own(executed("block-1")), own(executed("block-2")))
    await following.poll()
    append(logs / "a.log", own(executed("block-1")))
    await following.poll()
    assert following.notified == [{BlockKey("", "block-1")}, {BlockKey("", "block-2")}]


async def test_records_of_files_that_are_gone_are_forgotten_when_there_are_too_many(
    store: Store, logs: Path, clock: ManualClock
) -> None:
    following = Following(store, (LogDirectory("", logs),), clock, files_remembered_max=2)
    for name in ("a", "b", "c"):
        append(logs / name, own(executed(f"block-{name}")))
        await following.poll()
        (logs / name).unlink()
        clock.now_us += 1
    await following.poll()
    assert set(following.log_files()) == {"b", "c"}


async def recorded(following: Following, count: int) -> None:
    """Returns when so many events were recorded."""
    async with asyncio.timeout(WAIT_S_MAX):
        while len(following.recorded) < count:
            following.told.clear()
            await following.told.wait()


async def test_it_runs_until_it_is_cancelled_and_wakes_when_a_file_grows(
    store: Store, clock: ManualClock, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    following = Following(store, (LogDirectory("", logs),), clock, look_interval_s=0.2)
    running = asyncio.create_task(following.analyzer.run())
    logs.mkdir()
    append(logs / "a.log", own(executed("block-1")))
    await recorded(following, 1)
    append(logs / "a.log", own(executed("block-2")))
    await recorded(following, 2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_the_system_wakes_it_long_before_it_would_look_again(following: Following, logs: Path) -> None:
    running = asyncio.create_task(following.analyzer.run())
    append(logs / "a.log", own(executed("block-1")))
    await recorded(following, 1)
    # The first look may have been before the watch began; from now on it is on.
    for number in range(2, 5):
        append(logs / "a.log", own(executed(f"block-{number}")))
        await recorded(following, number)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_full_store_is_waited_out(following: Following, logs: Path) -> None:
    append(logs / "a.log", own(executed("block-1")))
    following.fault = StoreFullError("no room")
    running = asyncio.create_task(following.analyzer.run())
    await recorded(following, 1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert following.recorded_ids == ["block-1"]


async def test_without_directories_it_waits_for_ever(store: Store, clock: ManualClock) -> None:
    following = Following(store, (), clock)
    running = asyncio.create_task(following.analyzer.run())
    done, _ = await asyncio.wait([running], timeout=0.01)
    assert not done
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_log_is_read_while_a_long_one_is_not_finished(following: Following, logs: Path) -> None:
    filler = b'{"message": "' + b"x" * 1000 + b'"}\n'
    append(logs / "a.log", *([filler] * (2 * STEP_BYTES // 1000)), own(executed("block-a")))
    append(logs / "b.log", own(executed("block-b")))
    await following.poll()
    assert following.recorded_ids == ["block-b", "block-a"]


def test_an_event_is_a_line_in_either_spelling() -> None:
    event: BlockEvent = executed("block-1")
    assert own(event) != own(event, snake_case=True)
