"""What RunMe's log says."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from errata.v1.block_pb2 import BLOCK_KIND_CODE, Block
from learner_service.analyzer import LogDirectory
from learner_service.keys import BlockKey
from learner_service.store.store import Store
from tests.learner_service.analyzer.conftest import Following
from tests.learner_service.analyzer.lines import (
    FOYLE_LOGS,
    RUN_ID,
    RUNNER,
    append,
    runme,
    runme_end,
    runme_request,
)
from tests.learner_service.conftest import ManualClock

REAL = FOYLE_LOGS / "runme_traces_lines.jsonl"
CELL = "01HF7B0KJM3HHFDVSX9YFTZ8PE"


async def test_the_real_log_gives_the_one_cell_that_was_run(following: Following, logs: Path) -> None:
    shutil.copy(REAL, logs)
    await following.poll()
    assert following.block_keys() == {BlockKey("", CELL)}
    record = following.block(CELL)
    assert not record.HasField("generated")
    run = record.executed
    assert run.event_time.ToMicroseconds() == 1_716_665_469_476_278
    assert run.executed.block == Block(
        id=CELL, kind=BLOCK_KIND_CODE, language="sh", contents='echo "Hello World!"\n'
    )
    assert (run.executed.HasField("exit_code"), run.executed.exit_code) == (True, 0)
    assert not run.executed.HasField("doc")
    [status] = following.analyzer.status()
    assert (status.malformed_line_count, status.offset_bytes) == (0, REAL.stat().st_size)


@pytest.mark.parametrize("order", [1, -1])
async def test_a_run_ends_with_its_exit_code(following: Following, logs: Path, order: int) -> None:
    append(
        logs / "a.json",
        *[runme_request("block-1", "false", ts=1_700_000_000), runme_end("block-1", 1, ts=1_700_000_002)][
            ::order
        ],
    )
    await following.poll()
    run = following.block("block-1").executed
    assert (run.executed.exit_code, run.event_time.ToSeconds()) == (1, 1_700_000_002)
    trace = following.trace(f"runme/{RUN_ID}")
    assert trace is not None
    assert (trace.run_joined, trace.HasField("run"), list(trace.block_ids)) == (True, False, ["block-1"])


async def test_a_run_counts_before_it_ends(following: Following, logs: Path) -> None:
    append(logs / "a.json", runme_request("block-1", "sleep 100"))
    await following.poll()
    assert not following.block("block-1").executed.executed.HasField("exit_code")


async def test_runs_of_one_cell_keep_their_own_exit_codes(following: Following, logs: Path) -> None:
    append(
        logs / "a.json",
        runme_request("block-1", "first", run_id="a1", ts=1_700_000_000),
        runme_request("block-1", "second", run_id="a2", ts=1_700_000_001),
        runme_end("block-1", 0, run_id="a2", ts=1_700_000_002),
        runme_end("block-1", 7, run_id="a1", ts=1_700_000_003),
    )
    await following.poll()
    record = following.block("block-1")
    last, succeeded = record.executed.executed, record.succeeded.executed
    assert (last.block.contents, last.exit_code) == ("first", 7)
    assert (succeeded.block.contents, succeeded.exit_code) == ("second", 0)


def names_the_cell(where: str) -> bytes:
    line = json.loads(runme_request("block-1", "ls"))
    del line["knownID"], line["req"]["knownId"]
    holder: dict[str, Any] = line["req"] if where.startswith("req.") else line
    holder[where.removeprefix("req.")] = "block-1"
    return json.dumps(line).encode() + b"\n"


@pytest.mark.parametrize("where", ["req.knownId", "req.known_id", "knownID", "knownId", "known_id"])
async def test_the_cell_is_named_in_any_of_these_places(following: Following, logs: Path, where: str) -> None:
    append(logs / "a.json", names_the_cell(where))
    await following.poll()
    assert following.block_keys() == {BlockKey("", "block-1")}


async def test_a_run_of_a_cell_without_an_id_joins_nothing(following: Following, logs: Path) -> None:
    append(logs / "a.json", runme_request("", "ls"), runme_end("", 0))
    await following.poll()
    assert following.block_keys() == set()
    assert following.status()["a.json"].malformed_line_count == 0


@pytest.mark.parametrize("run_id", ["", "0" * 26])
async def test_a_run_without_an_id_of_its_own_is_recorded_without_its_end(
    following: Following, logs: Path, run_id: str
) -> None:
    append(
        logs / "a.json", runme_request("block-1", "ls", run_id=run_id), runme_end("block-1", 3, run_id=run_id)
    )
    await following.poll()
    assert not following.block("block-1").executed.executed.HasField("exit_code")


async def test_newer_versions_put_the_program_deeper(following: Following, logs: Path) -> None:
    program = {"knownId": "block-1", "languageId": "bash", "commands": {"items": ["cd /tmp", "ls"]}}
    script = {"knownId": "block-2", "script": "make"}
    function = "github.com/runmedev/runme/v3/internal/runnerv2service.(*runnerService).Execute.func1"
    for number, config in enumerate((program, script)):
        line = runme("received initial request", run_id="", id=f"r{number}", req={"config": config})
        append(logs / "a.json", line.replace(f"{RUNNER}.Execute".encode(), function.encode()))
    await following.poll()
    contents = [following.block(f"block-{number}").executed.executed.block.contents for number in (1, 2)]
    assert contents == ["cd /tmp\nls", "make"]
    assert following.trace("runme/r0") is not None


@pytest.mark.parametrize(
    ("function", "is_read"),
    [
        (f"{RUNNER}.Execute", True),
        (f"{RUNNER}.Execute.func5", True),
        ("github.com/stateful/runme/internal/runner.(*runnerService).Execute", True),
        (f"{RUNNER}.ExecuteAll", False),
        (f"{RUNNER}.ResolveProgram", False),
        (f"example.com/{RUNNER}.Execute", False),
    ],
)
async def test_the_function_is_told_by_its_prefix(
    following: Following,
    logs: Path,
    function: str,
    is_read: bool,  # noqa: FBT001 - a column of the table
) -> None:
    line = runme_request("block-1", "ls").replace(f"{RUNNER}.Execute".encode(), function.encode())
    append(logs / "a.json", line)
    await following.poll()
    assert bool(following.block_keys()) == is_read


async def test_any_line_of_a_run_marks_its_cell_as_an_evaluation(following: Following, logs: Path) -> None:
    append(logs / "a.json", runme_request("block-1", "ls"), runme("command was finalized", evalMode=True))
    append(logs / "a.json", runme_request("block-2", "ls", run_id="", evalMode=True))
    await following.poll()
    assert following.block("block-1").eval_mode
    assert following.block("block-2").eval_mode


async def test_runs_of_two_namespaces_never_join(store: Store, clock: ManualClock, logs: Path) -> None:
    following = Following(store, (LogDirectory("a", logs / "a"), LogDirectory("b", logs / "b")), clock)
    for directory, line in zip(
        following.directories, (runme_request("block-1", "ls"), runme_end("block-1", 1)), strict=True
    ):
        directory.path.mkdir()
        append(directory.path / "runme.json", line)
    await following.poll()
    assert following.block_keys() == {BlockKey("a", "block-1")}
    assert not following.block("block-1", "a").executed.executed.HasField("exit_code")


async def test_lines_that_break_the_rules_are_counted(following: Following, logs: Path) -> None:
    lines = [
        runme_request("block-1", "ls", ts="now"),
        runme_request("block-1", "ls", ts=None),
        runme_request("b" * 256, "ls"),
        runme_request("block-1", "ls", run_id="r" * 129),
        runme_request("block-1", "ls", run_id="\ud800"),
        runme("received initial request", req="ls"),
        runme("received initial request", req={"commands": ["ls", 7], "knownId": "block-1"}),
        runme_end("block-1", 1 << 40),
        runme("command finished", exitCode="one"),
        runme_request("block-1", "ls")[:-10] + b"}\n",
    ]
    append(logs / "a.json", *lines)
    await following.poll()
    assert following.block_keys() == set()
    assert following.status()["a.json"].malformed_line_count == len(lines)


async def test_an_exit_code_that_is_left_out_is_zero(following: Following, logs: Path) -> None:
    append(logs / "a.json", runme_request("block-1", "ls"), runme("command finished", knownID="block-1"))
    await following.poll()
    run = following.block("block-1").executed.executed
    assert (run.HasField("exit_code"), run.exit_code) == (True, 0)
