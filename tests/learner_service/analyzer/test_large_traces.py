"""Traces with very many lines, and lines that lead to very much: linear time, bounded space."""

from pathlib import Path
from time import process_time

import pytest

from errata.store.v1.store_pb2 import TraceRecord
from errata.v1.block_pb2 import Block, Doc
from learner_service.analyzer.records import Proposal, TracePart
from learner_service.analyzer.storing import TRANSACTION_BYTES_MAX
from learner_service.analyzer.traces import BLOCK_IDS_MAX, MARKS_MAX, NOTED_LATE_US_MAX, Trace
from learner_service.keys import BlockKey
from tests.learner_service.analyzer.conftest import NOW_US, Following
from tests.learner_service.analyzer.lines import AGENT, TRACE_ID, append, foyle, request, response, suggestion
from tests.learner_service.analyzer.traces_in_memory import MoreInMemory

LINE_COUNT = 100_000


def seconds_for(line_count: int) -> tuple[float, TraceRecord]:
    """Adds lines to one trace, each of which names another block."""
    more = MoreInMemory()
    trace = Trace(TraceRecord(), more, namespace="", trace_id=TRACE_ID)
    begin_s = process_time()
    for number in range(line_count):
        trace.add(TracePart(trace_id=TRACE_ID, block_ids=(f"block-{number}",)), now_us=NOW_US)
    assert len(trace.record.block_ids) + len(more.block_ids) == line_count
    return process_time() - begin_s, trace.record


def test_a_trace_of_many_lines_takes_time_in_proportion_to_them_and_a_record_of_bounded_size() -> None:
    seconds_for(1_000)
    tenth_s, record = seconds_for(LINE_COUNT // 10)
    whole_s, larger_record = seconds_for(LINE_COUNT)
    # Ten times, were it linear; a hundred times, were it not.
    assert whole_s < 40 * tenth_s
    assert larger_record == record
    assert len(record.block_ids) == BLOCK_IDS_MAX


async def test_a_log_of_one_trace_with_many_lines_is_read(following: Following, logs: Path) -> None:
    count = LINE_COUNT // 10
    append(logs / "a.json", *(suggestion("ACCEPTED", f"block-{number % 3_000}") for number in range(count)))
    await following.poll()
    assert len(following.block_keys()) == 3_000
    trace = following.trace(TRACE_ID)
    assert trace is not None
    assert (len(trace.block_ids), trace.ByteSize() < 50_000) == (BLOCK_IDS_MAX, True)


@pytest.mark.parametrize("flag_stands", ["first", "last"])
async def test_blocks_beyond_those_in_its_record_are_marked_whenever_a_trace_turns_out_to_be_an_evaluation(
    following: Following, logs: Path, flag_stands: str
) -> None:
    count = BLOCK_IDS_MAX + 2 * MARKS_MAX + 50
    flag = foyle(f"{AGENT}.completeWithRetries", evalMode=True)
    named = [suggestion("ACCEPTED", f"block-{number}") for number in range(count)]
    append(logs / "a.json", *([flag, *named] if flag_stands == "first" else [*named, flag]), b"broken\n")
    await following.poll()
    assert unmarked(following, count) == []
    status = following.status()["a.json"]
    assert (status.offset_bytes, status.malformed_line_count) == (status.size_bytes, 1)
    assert trace_blocks_left(following) == []
    assert following.store.check() == []


@pytest.mark.parametrize("died_after", [1, 2, 3, 4])
async def test_a_line_that_marks_more_than_a_transaction_takes_is_made_up_for_after_a_crash(
    following: Following, logs: Path, died_after: int
) -> None:
    count = BLOCK_IDS_MAX + 2 * MARKS_MAX + 50
    append(logs / "a.json", *(suggestion("ACCEPTED", f"block-{number}") for number in range(count)))
    await following.poll()
    assert len(unmarked(following, count)) == count
    # First of its file, so that the file stands at its start until the last block is marked.
    append(
        logs / "b.json", foyle(f"{AGENT}.completeWithRetries", evalMode=True), suggestion("REJECTED", "last")
    )
    following.fault, following.fault_after = RuntimeError("the process dies here"), died_after - 1
    if died_after < 4:
        with pytest.raises(RuntimeError):
            await following.poll()
        assert unmarked(following, count)
    restarted = following.restarted()
    await restarted.poll()
    assert unmarked(restarted, count) == []
    assert restarted.block("last").eval_mode
    assert restarted.status()["b.json"].offset_bytes == (logs / "b.json").stat().st_size


async def test_the_marks_of_a_trace_never_reach_one_whose_id_begins_alike(
    following: Following, logs: Path
) -> None:
    count = BLOCK_IDS_MAX + 10
    for trace_id in ("ab", "abc"):
        append(
            logs / "a.json",
            *(suggestion("ACCEPTED", f"{trace_id}-{number}", trace_id=trace_id) for number in range(count)),
        )
    append(logs / "a.json", foyle(f"{AGENT}.completeWithRetries", evalMode=True, trace_id="ab"))
    await following.poll()
    assert all(following.block(f"ab-{number}").eval_mode for number in range(count))
    assert not any(following.block(f"abc-{number}").eval_mode for number in range(count))


def unmarked(following: Following, count: int) -> list[int]:
    return [number for number in range(count) if not following.block(f"block-{number}").eval_mode]


def trace_blocks_left(following: Following) -> list[str]:
    return following.store.submit(lambda transaction: transaction.take_trace_blocks("", TRACE_ID, 1)).result()


def test_the_time_of_the_last_line_is_noted_to_the_hour() -> None:
    part = TracePart(trace_id=TRACE_ID, block_ids=("block-1",))
    record = TraceRecord()
    Trace(record, MoreInMemory(), namespace="", trace_id=TRACE_ID).add(part, now_us=NOW_US)
    for later_us, noted in ((NOTED_LATE_US_MAX, False), (NOTED_LATE_US_MAX + 1, True)):
        trace = Trace(
            TraceRecord.FromString(record.SerializeToString()),
            MoreInMemory(),
            namespace="",
            trace_id=TRACE_ID,
        )
        trace.add(part, now_us=NOW_US + later_us)
        assert trace.changed == noted


async def test_what_a_transaction_cannot_take_follows_in_the_next(following: Following, logs: Path) -> None:
    # Each answer is short, but of each block there is an event with a copy of a large document.
    document, answer_count, block_count = "x" * 400_000, 6, 20
    append(logs / "a.json", *(request(document, trace_id=f"t{number}") for number in range(answer_count)))
    await following.poll()
    write_count = len(following.lags)
    append(
        logs / "b.json",
        *(
            response(*(f"block-{number}-{each}" for each in range(block_count)), trace_id=f"t{number}")
            for number in range(answer_count)
        ),
        b"broken\n",
    )
    await following.poll()
    assert len(following.block_keys()) == answer_count * block_count
    assert len(following.lags) - write_count > answer_count * block_count * len(document) / (
        TRANSACTION_BYTES_MAX + block_count * len(document)
    )
    status = following.status()["b.json"]
    assert (status.offset_bytes, status.malformed_line_count) == (status.size_bytes, 1)


async def test_a_restart_between_such_transactions_goes_on_where_the_last_one_ended(
    following: Following, logs: Path
) -> None:
    document, block_count = "x" * 400_000, 50
    for number in range(4):
        append(logs / "a.json", request(document, trace_id=f"t{number}"))
    await following.poll()
    blocks = [[f"block-{number}-{each}" for each in range(block_count)] for number in range(4)]
    append(logs / "b.json", *(response(*ids, trace_id=f"t{number}") for number, ids in enumerate(blocks)))
    # Dies in the second transaction of the file.
    following.fault_after = 1
    following.fault = RuntimeError("the process dies here")
    with pytest.raises(RuntimeError):
        await following.poll()
    restarted = following.restarted()
    with restarted.store.read() as transaction:
        offsets = [
            record.offset_bytes for _, record in transaction.log_files() if record.path.endswith("b.json")
        ]
    assert 0 < offsets[0] < (logs / "b.json").stat().st_size
    await restarted.poll()
    assert following.block_keys() == {BlockKey("", block_id) for ids in blocks for block_id in ids}
    assert not {event.block_id for event in restarted.recorded} & {*blocks[0]}


def test_a_proposal_is_not_changed_by_being_joined() -> None:
    block = Block(id="block-1", contents="ls")
    part = TracePart(
        trace_id="t", request=Doc(blocks=[Block(contents="x")]), proposal=Proposal(NOW_US, (block,))
    )
    first = Trace(TraceRecord(), MoreInMemory(), namespace="", trace_id="t").add(part, now_us=NOW_US)
    second = Trace(TraceRecord(), MoreInMemory(), namespace="", trace_id="t").add(part, now_us=NOW_US)
    # A transaction may run twice.
    assert first.events == second.events
    assert len(first.events) == 1
