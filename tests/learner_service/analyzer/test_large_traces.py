"""Traces with very many lines, and lines that lead to very much: linear time, bounded space."""

from pathlib import Path
from time import process_time

import pytest

from errata.store.v1.store_pb2 import TraceRecord
from errata.v1.block_pb2 import Block, Doc
from learner_service.analyzer.records import Proposal, TracePart
from learner_service.analyzer.storing import TRANSACTION_BYTES_MAX
from learner_service.analyzer.traces import BLOCK_IDS_MAX, NOTED_LATE_US_MAX, Trace
from learner_service.keys import BlockKey
from tests.learner_service.analyzer.conftest import NOW_US, Following
from tests.learner_service.analyzer.lines import AGENT, TRACE_ID, append, foyle, request, response, suggestion

LINE_COUNT = 100_000


def seconds_for(line_count: int) -> tuple[float, TraceRecord]:
    """Adds lines to one trace, each of which names another block."""
    trace = Trace(TraceRecord(), namespace="", trace_id=TRACE_ID)
    begin_s = process_time()
    for number in range(line_count):
        trace.add(TracePart(trace_id=TRACE_ID, block_ids=(f"block-{number}",)), now_us=NOW_US)
    return process_time() - begin_s, trace.record


def test_a_trace_of_many_lines_takes_time_in_proportion_to_them_and_bounded_space() -> None:
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


async def test_blocks_beyond_those_that_a_trace_remembers_are_marked_once_it_is_an_evaluation(
    following: Following, logs: Path
) -> None:
    append(logs / "a.json", foyle(f"{AGENT}.completeWithRetries", evalMode=True))
    append(
        logs / "a.json", *(suggestion("ACCEPTED", f"block-{number}") for number in range(BLOCK_IDS_MAX + 50))
    )
    await following.poll()
    assert following.block(f"block-{BLOCK_IDS_MAX + 49}").eval_mode


def test_the_time_of_the_last_line_is_noted_to_the_hour() -> None:
    part = TracePart(trace_id=TRACE_ID, block_ids=("block-1",))
    record = TraceRecord()
    Trace(record, namespace="", trace_id=TRACE_ID).add(part, now_us=NOW_US)
    for later_us, noted in ((NOTED_LATE_US_MAX, False), (NOTED_LATE_US_MAX + 1, True)):
        trace = Trace(TraceRecord.FromString(record.SerializeToString()), namespace="", trace_id=TRACE_ID)
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
    first = Trace(TraceRecord(), namespace="", trace_id="t").add(part, now_us=NOW_US)
    second = Trace(TraceRecord(), namespace="", trace_id="t").add(part, now_us=NOW_US)
    # A transaction may run twice.
    assert first.events == second.events
    assert len(first.events) == 1
