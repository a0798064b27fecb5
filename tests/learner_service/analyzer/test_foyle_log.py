"""What Foyle's server log says, and how the lines of a trace come together."""

import base64
import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from errata.store.v1.store_pb2 import BlockRecord, TraceRecord
from errata.v1.block_pb2 import (
    BLOCK_KIND_CODE,
    BLOCK_KIND_MARKUP,
    EXECUTION_STATUS_FAILED,
    EXECUTION_STATUS_SUCCEEDED,
    EXECUTION_STATUS_UNSPECIFIED,
    SUGGESTION_STATUS_ACCEPTED,
    SUGGESTION_STATUS_REJECTED,
    Block,
)
from learner_service.analyzer import LogDirectory
from learner_service.keys import BlockKey
from learner_service.store.store import Store
from tests.learner_service.analyzer.conftest import Following
from tests.learner_service.analyzer.lines import (
    AGENT,
    FOYLE_LOG,
    FOYLE_LOGS,
    TRACE_ID,
    append,
    executed,
    foyle,
    own,
    request,
    response,
    run_cell,
    suggestion,
)
from tests.learner_service.conftest import ManualClock

ASKED = "Use git to find the merge point with origin/main"
BEFORE, COMMAND, AFTER = (
    "9557680b-e08c-4d1d-b098-6dcd03e0e108",
    "23706965-8e3b-440d-ba1a-1e1cc035fbd4",
    "48d530be-254a-493f-8cf4-20627078f830",
)
EXECUTOR = "github.com/jlewi/foyle/app/pkg/executor.(*Executor).Execute"


async def test_the_real_log_gives_its_three_blocks(following: Following, logs: Path) -> None:
    shutil.copy(FOYLE_LOG, logs)
    await following.poll()
    assert following.block_keys() == {BlockKey("", block_id) for block_id in (BEFORE, COMMAND, AFTER)}
    for block_id in (BEFORE, COMMAND, AFTER):
        proposal = following.block(block_id).generated
        assert proposal.event_time.ToMicroseconds() == 1_713_319_616_654_191
        assert [block.contents for block in proposal.generated.doc.blocks] == [ASKED]
        assert proposal.generated.trace_id == TRACE_ID
        assert proposal.generated.block.id == block_id
    assert following.block(BEFORE).generated.generated.block.kind == BLOCK_KIND_MARKUP
    assert following.status()[FOYLE_LOG.name].malformed_line_count == 0
    assert following.status()[FOYLE_LOG.name].offset_bytes == FOYLE_LOG.stat().st_size


async def test_the_command_of_the_real_log_was_accepted_and_then_run_as_another(
    following: Following, logs: Path
) -> None:
    shutil.copy(FOYLE_LOG, logs)
    await following.poll()
    record = following.block(COMMAND)
    proposed = record.generated.generated.block
    assert (proposed.kind, proposed.language) == (BLOCK_KIND_CODE, "bash")
    assert proposed.contents == "git merge-base HEAD origin/main\n"
    assert record.suggestion.suggestion == SUGGESTION_STATUS_ACCEPTED
    assert record.suggestion.event_time.ToMicroseconds() == 1_724_993_751_696_226
    run = record.executed
    assert (run.executed.block.kind, run.executed.block.contents) == (BLOCK_KIND_CODE, "curl")
    assert [block.contents for block in run.executed.doc.blocks] == ["Fetch the latest logs using curl"]
    assert run.event_time.ToMicroseconds() == 1_724_993_755_738_091
    assert (run.executed.status, run.executed.HasField("exit_code")) == (EXECUTION_STATUS_UNSPECIFIED, False)
    assert not record.eval_mode


async def test_the_blocks_without_a_run_have_none(following: Following, logs: Path) -> None:
    shutil.copy(FOYLE_LOG, logs)
    await following.poll()
    for block_id in (BEFORE, AFTER):
        record = following.block(block_id)
        assert not record.HasField("executed")
        assert not record.HasField("suggestion")


GENERATED = {
    "10b11f2d-7c8d-4d58-bedc-7e2dd51a85dc": (BLOCK_KIND_MARKUP, "To read the logs for the cluster"),
    "8594d742-39d7-473b-b4ad-901ff362fdb3": (
        BLOCK_KIND_CODE,
        "gcloud container clusters get-credentials dev",
    ),
    "f1662328-e884-418c-a084-95dfb1a3f7fc": (BLOCK_KIND_MARKUP, "This command will authenticate `kubectl`"),
    "4feb6219-d050-4630-8ceb-d08ec149b60d": (BLOCK_KIND_CODE, "kubectl logs <pod_name>"),
    "3893a0b6-8c84-49ca-a38c-fbf6d7adfcde": (BLOCK_KIND_MARKUP, "Replace `<pod_name>` with the name"),
    "fd276a6f-f379-4f9c-9779-0ed07819d0f5": (BLOCK_KIND_CODE, "kubectl get pods"),
    "d507ce35-af59-4f92-8dec-6c37d7b26647": (BLOCK_KIND_MARKUP, "Please execute the commands above"),
}


async def test_the_real_lines_of_one_generation_give_its_seven_blocks(
    following: Following, logs: Path
) -> None:
    shutil.copy(FOYLE_LOGS / "generate_trace_lines.jsonl", logs)
    await following.poll()
    assert following.block_keys() == {BlockKey("", block_id) for block_id in GENERATED}
    for block_id, (kind, beginning) in GENERATED.items():
        proposal = following.block(block_id).generated
        assert proposal.event_time.ToMicroseconds() == 1_713_303_855_226_055
        assert proposal.generated.trace_id == "2c4efb9372de3bb51d66d3f7e9c3a76a"
        assert proposal.generated.block.kind == kind
        assert proposal.generated.block.contents.strip().startswith(beginning)
        [asked] = proposal.generated.doc.blocks
        assert asked.contents.startswith("Use gcloud to read the logs for the cluster dev")
    assert [status.malformed_line_count for status in following.analyzer.status()] == [0]


async def test_the_real_lines_of_a_run_without_a_block_id_give_nothing(
    following: Following, logs: Path
) -> None:
    shutil.copy(FOYLE_LOGS / "execute_traces_lines.jsonl", logs)
    await following.poll()
    assert following.block_keys() == set()
    [status] = following.analyzer.status()
    assert (status.malformed_line_count, status.offset_bytes) == (0, status.size_bytes)


async def test_the_real_lines_of_a_run_give_it_once_the_block_has_an_id(
    following: Following, logs: Path
) -> None:
    lines = (FOYLE_LOGS / "execute_traces_lines.jsonl").read_bytes()
    append(logs / "a.json", lines.replace(b'"blockId":""', b'"blockId":"block-1"'))
    await following.poll()
    run = following.block("block-1").executed
    assert run.executed.block.contents == "gcloud logging read --project=foyle-dev\n"
    assert (run.executed.exit_code, run.event_time.ToMicroseconds()) == (0, 1_713_303_872_587_626)


def key_lines() -> list[bytes]:
    """The lines of the real log that say something: request, response, ACCEPTED, EXECUTE."""
    lines = FOYLE_LOG.read_bytes().splitlines(keepends=True)
    return [lines[71], lines[75], lines[76], lines[77]]


def as_of_namespace(record: BlockRecord, namespace: str) -> BlockRecord:
    """The record with times of the store taken out, and another namespace put in."""
    record.ClearField("modified_time")
    for name in ("generated", "executed", "suggestion"):
        if record.HasField(name):
            getattr(record, name).namespace = namespace
    return record


async def test_every_order_of_the_lines_gives_the_same_blocks(
    store: Store, clock: ManualClock, logs: Path
) -> None:
    orders = list(itertools.permutations(key_lines()))
    directories = [LogDirectory(f"order-{number}", logs / str(number)) for number in range(len(orders))]
    following = Following(store, tuple(directories), clock)
    for directory, order in zip(directories, orders, strict=True):
        directory.path.mkdir()
        append(directory.path / "foyle.json", *order)
    await following.poll()
    for block_id in (BEFORE, COMMAND, AFTER):
        records = [
            as_of_namespace(following.block(block_id, directory.namespace), "") for directory in directories
        ]
        assert all(record == records[0] for record in records)
        assert records[0].HasField("generated")


async def test_lines_come_together_over_polls_files_and_restarts(following: Following, logs: Path) -> None:
    asked, answered, accepted, ran = key_lines()
    append(logs / "b.json", answered)
    await following.poll()
    assert following.block_keys() == set()
    following = following.restarted()
    append(logs / "a.json", ran)
    await following.poll()
    assert following.block_keys() == {BlockKey("", COMMAND)}
    following = following.restarted()
    append(logs / "b.json", accepted, asked)
    await following.poll()
    assert following.block_keys() == {BlockKey("", block_id) for block_id in (BEFORE, COMMAND, AFTER)}
    assert following.block(COMMAND).executed.executed.block.contents == "curl"


async def test_a_trace_keeps_what_it_waits_with_and_then_only_ids_and_flags(
    following: Following, logs: Path
) -> None:
    append(logs / "a.json", response("block-1", "", "block-2"))
    await following.poll()
    waiting = following.trace(TRACE_ID)
    assert waiting is not None
    assert [block.id for block in waiting.response] == ["block-1", "block-2"]
    append(logs / "a.json", request(), request("again"), response("block-3"))
    await following.poll()
    joined = following.trace(TRACE_ID)
    assert joined is not None
    joined.ClearField("modified_time")
    assert joined == TraceRecord(generation_joined=True, block_ids=["block-1", "block-2"])
    assert following.block_keys() == {BlockKey("", "block-1"), BlockKey("", "block-2")}


async def test_traces_of_two_namespaces_are_two(store: Store, clock: ManualClock, logs: Path) -> None:
    following = Following(store, (LogDirectory("a", logs / "a"), LogDirectory("b", logs / "b")), clock)
    for directory, line in zip(following.directories, (request(), response("block-1")), strict=True):
        directory.path.mkdir()
        append(directory.path / "foyle.json", line)
    await following.poll()
    assert following.block_keys() == set()


@pytest.mark.parametrize("trace_id", ["", "0" * 32, "00000000-0000-0000-0000-000000000000"])
async def test_lines_without_a_trace_join_nothing(following: Following, logs: Path, trace_id: str) -> None:
    append(logs / "a.json", request(trace_id=trace_id), response("block-1", trace_id=trace_id))
    await following.poll()
    assert following.block_keys() == set()
    assert following.trace(trace_id or "0") is None
    assert following.status()["a.json"].malformed_line_count == 0


async def test_any_line_of_a_trace_marks_its_blocks_as_an_evaluation_in_every_order(
    store: Store, clock: ManualClock, logs: Path
) -> None:
    elsewhere = foyle(f"{AGENT}.completeWithRetries", evalMode=True)
    lines = [request(), response("block-1"), run_cell("block-2"), elsewhere]
    orders = list(itertools.permutations(lines))
    directories = [LogDirectory(f"order-{number}", logs / str(number)) for number in range(len(orders))]
    following = Following(store, tuple(directories), clock)
    for directory, order in zip(directories, orders, strict=True):
        directory.path.mkdir()
        for number, line in enumerate(order):
            append(directory.path / f"{number}.json", line)
    await following.poll()
    for block_id in ("block-1", "block-2"):
        records = [
            as_of_namespace(following.block(block_id, directory.namespace), "") for directory in directories
        ]
        assert records[0].eval_mode
        assert all(record == records[0] for record in records)


async def test_a_line_without_a_trace_marks_its_own_block_as_an_evaluation(
    following: Following, logs: Path
) -> None:
    append(
        logs / "a.json", run_cell("block-1", trace_id="", eval_mode=True), run_cell("block-2", evalMode=False)
    )
    await following.poll()
    assert following.block("block-1").eval_mode
    assert not following.block("block-2").eval_mode


async def test_closures_are_part_of_their_function_and_other_functions_are_not(
    following: Following, logs: Path
) -> None:
    def in_function(line: bytes, name: str) -> bytes:
        return line.replace(b".Generate", name.encode())

    append(
        logs / "a.json",
        in_function(request(), ".Generate.func1"),
        in_function(response("block-1"), ".Generate.func2.1"),
        in_function(request(trace_id="b1"), ".GenerateCells"),
        in_function(response("block-2", trace_id="b1"), ".GenerateCells"),
        in_function(request(trace_id="b2"), ".StreamGenerate"),
        in_function(response("block-3", trace_id="b2"), ".StreamGenerate"),
        run_cell("block-4").replace(b".LogEvents", b".LogEvents.func1"),
    )
    await following.poll()
    assert following.block_keys() == {BlockKey("", "block-1"), BlockKey("", "block-4")}


async def test_members_in_snake_case_say_the_same(following: Following, logs: Path) -> None:
    snake = {
        b"traceId": b"trace_id",
        b"selectedId": b"selected_id",
        b"executeStatus": b"execute_status",
        b"languageId": b"language_id",
    }
    line = run_cell("block-1").replace(b'"value"', b'"languageId": "sh", "value"')
    line = line.replace(b'"type"', b'"executeStatus": "FAILED", "type"')
    for camel_name, snake_name in snake.items():
        line = line.replace(camel_name, snake_name)
    append(logs / "a.json", line)
    await following.poll()
    run = following.block("block-1").executed.executed
    assert (run.status, run.block.language) == (EXECUTION_STATUS_FAILED, "sh")


async def test_a_run_says_how_it_ended_if_the_editor_knows(following: Following, logs: Path) -> None:
    line = run_cell("block-1").replace(b'"type"', b'"executeStatus": "SUCCEEDED", "type"')
    append(logs / "a.json", line)
    await following.poll()
    assert following.block("block-1").executed.executed.status == EXECUTION_STATUS_SUCCEEDED


@pytest.mark.parametrize("member", ["id", "runme.dev/id"])
async def test_the_selected_cell_is_told_by_its_id_and_not_by_its_index(
    following: Following, logs: Path, member: str
) -> None:
    cells: list[dict[str, Any]] = [
        {"kind": "CELL_KIND_MARKUP", "value": "one"},
        {"kind": "CELL_KIND_CODE", "value": "two", "metadata": {member: "block-2", "_ghostCell": False}},
        {"kind": "CELL_KIND_CODE", "value": "three", "metadata": {member: "block-3"}},
    ]
    event = {"type": "EXECUTE", "cells": cells, "selectedId": "block-2", "selectedIndex": 2}
    append(logs / "a.json", foyle(f"{AGENT}.LogEvents", event=event))
    await following.poll()
    run = following.block("block-2").executed.executed
    assert run.block == Block(
        id="block-2",
        kind=BLOCK_KIND_CODE,
        contents="two",
        metadata={member: "block-2", "_ghostCell": "false"},
    )
    assert [block.contents for block in run.doc.blocks] == ["one"]


async def test_the_outputs_of_a_cell_are_kept_where_they_are_text(following: Following, logs: Path) -> None:
    items = [
        {"mime": "text/plain", "data": base64.b64encode(b"total 0").decode()},
        {"mime": "image/png", "data": base64.b64encode(b"\x89PNG\xff").decode()},
        {"mime": "text/plain", "data": "not base64!"},
    ]
    line = json.loads(run_cell("block-1"))
    line["event"]["cells"][1]["outputs"] = [{"items": items}]
    append(logs / "a.json", json.dumps(line).encode() + b"\n")
    await following.poll()
    [output] = following.block("block-1").executed.executed.block.outputs
    assert [item.text_data for item in output.items] == ["total 0", "", ""]


async def test_a_run_that_shows_only_its_cell_does_not_claim_to_know_the_document(
    following: Following, logs: Path
) -> None:
    line = json.loads(run_cell("block-1"))
    del line["event"]["cells"][0]
    append(logs / "a.json", json.dumps(line).encode() + b"\n")
    await following.poll()
    assert not following.block("block-1").executed.executed.HasField("doc")


async def test_a_run_without_its_cell_is_malformed_and_one_without_an_id_is_nothing(
    following: Following, logs: Path
) -> None:
    without_cell = run_cell("block-1").replace(b'"id": "block-1"', b'"id": "another"')
    without_id = run_cell("").replace(b'"id": ""', b'"id": "another"')
    append(logs / "a.json", without_cell, without_id)
    await following.poll()
    assert following.block_keys() == set()
    assert following.status()["a.json"].malformed_line_count == 1


async def test_a_suggestion_may_be_rejected_and_may_name_its_blocks_by_its_cells(
    following: Following, logs: Path
) -> None:
    cells = [{"value": "ls", "metadata": {"id": f"block-{number}"}} for number in (2, 3)]
    by_cells = foyle(f"{AGENT}.LogEvents", event={"type": "REJECTED", "cells": cells})
    append(logs / "a.json", suggestion("REJECTED", "block-1"), by_cells, suggestion("OPENED", "block-4"))
    await following.poll()
    assert len(following.block_keys()) == 3
    for number in (1, 2, 3):
        assert following.block(f"block-{number}").suggestion.suggestion == SUGGESTION_STATUS_REJECTED


@pytest.mark.parametrize(
    ("selected_index", "contents"),
    [(0, ["one"]), (1, ["one", "two"]), (10, ["one", "two"]), (None, ["one", "two"])],
)
async def test_the_document_ends_at_the_cursor_where_that_is_in_it(
    following: Following, logs: Path, selected_index: int | None, contents: list[str]
) -> None:
    asked: dict[str, Any] = {"doc": {"blocks": [{"contents": "one"}, {"contents": "two"}]}}
    if selected_index is not None:
        asked["selectedIndex"] = selected_index
    append(logs / "a.json", foyle(f"{AGENT}.Generate", request=asked), response("block-1"))
    await following.poll()
    doc = following.block("block-1").generated.generated.doc
    assert [block.contents for block in doc.blocks] == contents


async def test_a_document_that_is_too_large_loses_its_outputs(following: Following, logs: Path) -> None:
    output = {"items": [{"mime": "text/plain", "text_data": "x" * 600_000}]}
    asked = {"doc": {"blocks": [{"contents": "one", "outputs": [output, output]}]}}
    append(logs / "a.json", foyle(f"{AGENT}.Generate", request=asked), response("block-1"))
    await following.poll()
    assert [block.contents for block in following.block("block-1").generated.generated.doc.blocks] == ["one"]


def executor_lines(block_id: str) -> list[bytes]:
    block = {"kind": "CODE", "contents": "false\n", "id": ""}
    output = {"items": [{"mime": "text/plain", "text_data": "exitCode: 1"}]}
    return [
        foyle(EXECUTOR, time=1_700_000_000.25, blockId=block_id, request={"block": block}),
        foyle(EXECUTOR, time=1_700_000_001, response={"outputs": [output]}),
    ]


@pytest.mark.parametrize("order", [1, -1])
async def test_a_run_by_the_server_ends_with_its_exit_code(
    following: Following, logs: Path, order: int
) -> None:
    append(logs / "a.json", *executor_lines("block-1")[::order])
    await following.poll()
    record = following.block("block-1")
    assert record.executed.executed.exit_code == 1
    assert record.executed.event_time.ToMicroseconds() == 1_700_000_001_000_000
    assert record.executed.executed.block.contents == "false\n"
    trace = following.trace(TRACE_ID)
    assert trace is not None
    assert (trace.run_joined, trace.HasField("run"), list(trace.block_ids)) == (True, False, ["block-1"])


async def test_a_run_by_the_server_counts_before_it_ends(following: Following, logs: Path) -> None:
    append(logs / "a.json", executor_lines("block-1")[0])
    await following.poll()
    run = following.block("block-1").executed
    assert (run.executed.HasField("exit_code"), run.event_time.ToMicroseconds()) == (
        False,
        1_700_000_000_250_000,
    )


@pytest.mark.parametrize(
    ("time", "time_us"),
    [
        ("1713319616.6541498", 1_713_319_616_654_150),
        ("1713319616.654191", 1_713_319_616_654_191),
        ("1713319616", 1_713_319_616_000_000),
        ("1713319616.0000005", 1_713_319_616_000_000),
        ("1.713319616654191e9", 1_713_319_616_654_191),
        ("0.1", 100_000),
    ],
)
async def test_times_are_exact_to_the_microsecond(
    following: Following, logs: Path, time: str, time_us: int
) -> None:
    append(logs / "a.json", run_cell("block-1", time=0.125).replace(b"0.125", time.encode()))
    await following.poll()
    assert following.block("block-1").executed.event_time.ToMicroseconds() == time_us


async def test_requests_responses_and_times_go_by_short_names_too(following: Following, logs: Path) -> None:
    def shortened(line: bytes) -> bytes:
        for name, short in ((b'"request"', b'"req"'), (b'"response"', b'"resp"'), (b'"time"', b'"ts"')):
            line = line.replace(name, short)
        return line

    run = [shortened(line) for line in executor_lines("block-2")]
    append(logs / "a.json", shortened(request()), shortened(response("block-1", trace_id=TRACE_ID)))
    append(logs / "b.json", *(line.replace(TRACE_ID.encode(), b"b2") for line in run))
    await following.poll()
    proposal = following.block("block-1").generated
    assert [block.contents for block in proposal.generated.doc.blocks] == ["list files"]
    assert proposal.event_time.ToMicroseconds() == 1_700_000_000_500_000
    assert following.block("block-2").executed.executed.exit_code == 1


async def test_of_members_named_twice_the_last_counts(following: Following, logs: Path) -> None:
    line = run_cell("block-1", "ls", time=0.125)
    line = line.replace(b'"time"', b'"time": 7, "time"').replace(
        b'"value": "ls"', b'"value": "x", "value": "ls"'
    )
    append(logs / "a.json", line)
    await following.poll()
    run = following.block("block-1").executed
    assert (run.event_time.ToMicroseconds(), run.executed.block.contents) == (125_000, "ls")


async def test_the_start_and_the_end_of_a_session_say_nothing_of_a_block(
    following: Following, logs: Path
) -> None:
    cells = [{"kind": "CELL_KIND_CODE", "value": "ls", "metadata": {"id": "block-1"}}]
    for kind in ("SESSION_START", "SESSION_END"):
        event = {"type": kind, "contextId": "c1", "selectedId": "block-1", "cells": cells}
        append(logs / "a.json", foyle(f"{AGENT}.LogEvents", event=event))
    await following.poll()
    assert following.block_keys() == set()
    assert following.status()["a.json"].malformed_line_count == 0


def malformed_lines() -> Iterator[bytes]:
    for time in (
        b"-1",
        b"1e400",
        b"1e999999999999",
        b"NaN",
        b'"now"',
        b"null",
        b"9" * 5000,
        b"9999999999999",
        b"[]",
    ):
        yield run_cell("block-1", time=0.125).replace(b"0.125", time)
    yield run_cell("block-1").replace(b'"cells": [', b'"cells": [7, ')
    yield run_cell("block-1").replace(b'"value": "ls"', b'"value": {}')
    yield run_cell("block-1").replace(b'"value": "ls"', b'"value": "\\ud800"')
    yield run_cell("b" * 256)
    yield run_cell("block\\u0000".replace("\\u0000", "\x00"))
    yield run_cell("block-1", trace_id="t" * 129)
    yield request(trace_id="t" * 129)
    yield request(trace_id="\ud800")
    yield response("block-1", trace_id="\udfff")
    yield response(*(f"block-{number}" for number in range(101)))
    yield request()[:-10] + b"\n"
    yield request()[:-10] + b"}\n"
    yield b"[" + request()[:-1] + b"]\n"
    yield foyle(f"{AGENT}.Generate", request="list files")
    yield foyle(f"{AGENT}.Generate", request={"doc": {"blocks": {"contents": "one"}}})


async def test_lines_of_the_dialect_that_break_its_rules_are_counted(
    following: Following, logs: Path
) -> None:
    lines = list(malformed_lines())
    append(logs / "a.json", *lines)
    await following.poll()
    assert following.block_keys() == set()
    assert following.status()["a.json"].malformed_line_count == len(lines)


async def test_a_proposal_that_cannot_be_recorded_is_counted_and_its_like_are_not_held_up(
    following: Following, logs: Path
) -> None:
    append(logs / "a.json", request(), response("block-1", "b" * 256))
    await following.poll()
    assert following.block_keys() == {BlockKey("", "block-1")}
    assert following.status()["a.json"].malformed_line_count == 1


def files_of(directory: Path) -> bytes:
    return b"".join(file.read_bytes() for file in directory.iterdir())


async def test_no_secret_reaches_the_store(following: Following, logs: Path, store_dir: Path) -> None:
    secret = "ghp_" + "0123456789abcdefghijABCDEFGHIJ012345"
    append(
        logs / "a.json",
        own(executed("block-1", f"export TOKEN={secret}")),
        run_cell("block-2", f"export TOKEN={secret}", before=f"use {secret}"),
        request(f"why does {secret} fail"),
        response("block-3", contents=f"echo {secret}", trace_id="ab"),
        executor_lines("block-4")[0].replace(b"false", secret.encode()),
    )
    await following.poll()
    assert len(following.block_keys()) == 3
    assert secret.encode() not in files_of(store_dir)


async def test_log_lines_of_the_learner_itself_never_feed_it(following: Following, logs: Path) -> None:
    append(
        logs / "learner.log",
        b'{"block_id": "block-1", "event": "reconcile failed", "level": "warning", "ts": "..."}\n',
        b'{"event": "call", "level": "info", "eventTime": "2024-01-01T00:00:00Z", "blockId": "block-1"}\n',
        b'{"level": "info", "evalMode": true, "traceId": "' + TRACE_ID.encode() + b'", "event": "x"}\n',
        b'{"message": "agent.(*Agent).Generate", "level": "info"}\n',
    )
    await following.poll()
    assert following.block_keys() == set()
    assert following.trace(TRACE_ID) is None
    assert following.status()["learner.log"].malformed_line_count == 0


async def test_nothing_is_logged_while_logs_are_read(
    following: Following, logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A line logged for each line read would be read in turn, where the Learner's own log is followed.
    shutil.copy(FOYLE_LOG, logs)
    append(logs / FOYLE_LOG.name, b"broken\n", *malformed_lines())
    await following.poll()
    assert capsys.readouterr() == ("", "")
