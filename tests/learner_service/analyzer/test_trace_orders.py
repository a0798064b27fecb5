"""Whatever the order of the lines, and wherever reading is interrupted: the same blocks and examples."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from errata.store.v1.store_pb2 import BlockRecord
from errata.v1.example_pb2 import Example
from learner_service.analyzer import LogDirectory
from learner_service.keys import BlockKey
from learner_service.store.store import Store
from tests.learner_service.analyzer.conftest import NOW_US, Following
from tests.learner_service.analyzer.lines import (
    AGENT,
    FOYLE_LOG,
    append,
    foyle,
    request,
    response,
    run_cell,
    runme_end,
    runme_request,
    suggestion,
)
from tests.learner_service.conftest import GIB, ManualClock
from tests.learner_service.learning_parts import Parts

EXECUTOR = "github.com/jlewi/foyle/app/pkg/executor.(*Executor).Execute"

State = tuple[dict[BlockKey, BlockRecord], dict[BlockKey, Example]]


def of_the_real_log() -> list[bytes]:
    """Request, response, ACCEPTED and EXECUTE; the last two are of no trace."""
    lines = FOYLE_LOG.read_bytes().splitlines(keepends=True)
    return [lines[71], lines[75], lines[76], lines[77]]


def of_two_traces(exit_code: int) -> list[bytes]:
    """A generation, and the run of one of its blocks."""
    ran = {"kind": "CODE", "language": "bash", "contents": "ls -la\n"}
    output = {"items": [{"mime": "text/plain", "text_data": f"exitCode: {exit_code}"}]}
    return [
        request("list all files", time=1_700_000_000, trace_id="a1"),
        response("block-1", "block-2", contents="dir", time=1_700_000_001, trace_id="a1"),
        foyle(EXECUTOR, time=1_700_000_002, trace_id="b2", blockId="block-1", request={"block": ran}),
        foyle(EXECUTOR, time=1_700_000_003, trace_id="b2", response={"outputs": [output]}),
    ]


def of_foyle_and_runme() -> list[bytes]:
    """A generation, and a run of its block that RunMe logged."""
    return [
        request("list all files", time=1_700_000_000),
        response("block-1", time=1_700_000_001),
        runme_request("block-1", "ls", "pwd", ts=1_700_000_002),
        runme_end("block-1", 0, ts=1_700_000_003),
    ]


def of_an_evaluation() -> list[bytes]:
    """Only a line that says nothing else marks the trace."""
    return [
        request("list all files", time=1_700_000_000),
        response("block-1", time=1_700_000_001),
        foyle(f"{AGENT}.completeWithRetries", evalMode=True),
        run_cell("block-1", "ls -l", time=1_700_000_002, trace_id="c3"),
    ]


LOGS = {
    "the real log": of_the_real_log(),
    "two traces": of_two_traces(0),
    "a run that failed": of_two_traces(1),
    "Foyle and RunMe": of_foyle_and_runme(),
    "an evaluation": of_an_evaluation(),
}

SPLITS: tuple[tuple[int, ...], ...] = ((), (1,), (2,), (3,), (1, 2, 3))
"""After which lines the Learner is started again: never, at each boundary, at all of them."""


def parts_of(lines: Sequence[bytes], split: Sequence[int]) -> Iterator[Sequence[bytes]]:
    for start, end in itertools.pairwise((0, *split, len(lines))):
        yield lines[start:end]


async def state_after(directory: Path, lines: Sequence[bytes], split: Sequence[int]) -> State:
    """What a store holds that has read and learned from the lines, in lives of its own between the splits."""
    logs, clock = directory / "logs", ManualClock(NOW_US)
    logs.mkdir(parents=True)
    for part in parts_of(lines, split):
        with Store.open(directory / "store", clock_us=clock, bytes_max=GIB) as store:
            following = Following(store, (LogDirectory("", logs),), clock)
            append(logs / "a.json", *part)
            await following.poll()
            # Learned from at once: what comes later has to mend what was learned too early.
            parts = Parts(store, clock)
            await parts.reconcile(*following.block_keys())
            state = state_of(following, parts)
            assert store.check() == []
            assert [status.malformed_line_count for status in following.analyzer.status()] == [0]
        clock.now_us += 1
    return state


def state_of(following: Following, parts: Parts) -> State:
    records, examples = {}, {}
    for key in following.block_keys():
        records[key] = following.block(key.id)
        records[key].ClearField("modified_time")
        example = parts.example(key)
        if example is not None:
            example.ClearField("modified_time")
            examples[key] = example
    return records, examples


@pytest.mark.slow
@pytest.mark.parametrize("name", LOGS)
async def test_every_order_split_anywhere_over_restarts_gives_the_same_blocks_and_examples(
    name: str, tmp_path: Path
) -> None:
    lines = LOGS[name]
    with capture_logs() as logged:
        expected = await state_after(tmp_path / "expected", lines, ())
        for number, order in enumerate(itertools.permutations(lines)):
            for split in SPLITS:
                directory = tmp_path / f"{number}-{'-'.join(map(str, split))}"
                assert await state_after(directory, order, split) == expected, (number, split)
    assert [line for line in logged if line["log_level"] not in ("debug", "info")] == []


async def test_what_these_logs_say(tmp_path: Path) -> None:
    learned = {}
    for name, lines in LOGS.items():
        _, examples = await state_after(tmp_path / name, lines, ())
        learned[name] = {
            key.id: (example.query_text, example.answer[0].contents) for key, example in examples.items()
        }
    assert learned == {
        "the real log": {
            "23706965-8e3b-440d-ba1a-1e1cc035fbd4": ("Fetch the latest logs using curl", "curl")
        },
        "two traces": {"block-1": ("list all files", "ls -la\n")},
        "a run that failed": {},
        "Foyle and RunMe": {"block-1": ("list all files", "ls\npwd")},
        "an evaluation": {},
    }


async def test_a_verdict_and_a_run_that_come_before_everything_else_are_kept(
    following: Following, logs: Path
) -> None:
    append(logs / "a.json", suggestion("REJECTED", "block-1"), run_cell("block-1", "ls -l"))
    await following.poll()
    restarted = following.restarted()
    append(logs / "b.json", response("block-1"), request())
    await restarted.poll()
    record = following.block("block-1")
    assert record.HasField("suggestion")
    assert record.executed.executed.block.contents == "ls -l"
    assert record.generated.generated.block.contents == "dir"
