"""Lines of logs, as the programs that are followed write them."""

import json
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from errata.v1.block_pb2 import BLOCK_KIND_CODE, BLOCK_KIND_MARKUP, Block, BlockEvent

FOYLE_LOGS = Path(__file__).parents[3] / "data" / "foyle"
FOYLE_LOG = FOYLE_LOGS / "foyle.logs.2024-04-16T19-06-47.json"

AGENT = "github.com/jlewi/foyle/app/pkg/agent.(*Agent)"
TRACE_ID = "8038339848652bc1b97789cd9aa98341"
RUNNER = "github.com/stateful/runme/v3/internal/runner.(*runnerService)"
RUN_ID = "01HYRKRJETPVQA84VQR9AR6J30"


def executed(
    block_id: str, contents: str = "ls", *, time_s: int = 1_700_000_000, namespace: str = ""
) -> BlockEvent:
    event = BlockEvent(block_id=block_id, namespace=namespace)
    event.event_time.FromSeconds(time_s)
    event.executed.block.CopyFrom(Block(kind=BLOCK_KIND_CODE, contents=contents))
    return event


def taught(block_id: str, question: str) -> BlockEvent:
    event = BlockEvent(block_id=block_id)
    event.event_time.FromSeconds(1_700_000_000)
    event.taught.query.blocks.add(kind=BLOCK_KIND_MARKUP, contents=question)
    event.taught.answer.add(kind=BLOCK_KIND_CODE, contents="ls")
    return event


def own(event: BlockEvent, *, snake_case: bool = False) -> bytes:
    """A line of our own dialect."""
    text = json_format.MessageToJson(event, indent=None, preserving_proto_field_name=snake_case)
    return text.encode() + b"\n"


def foyle(
    function: str, *, time: object = 1_700_000_000.5, trace_id: str = TRACE_ID, **members: Any
) -> bytes:
    """A line of Foyle's server log."""
    line = {"severity": "info", "time": time, "function": function, "message": "a message"}
    if trace_id:
        line["traceId"] = trace_id
    return json.dumps(line | members).encode() + b"\n"


def request(question: str = "list files", **members: Any) -> bytes:
    blocks = [{"kind": "MARKUP", "contents": question}]
    return foyle(f"{AGENT}.Generate", request={"doc": {"blocks": blocks}}, **members)


def response(*block_ids: str, contents: str = "dir", **members: Any) -> bytes:
    blocks = [{"kind": "CODE", "contents": contents, "id": block_id} for block_id in block_ids]
    return foyle(f"{AGENT}.Generate", response={"blocks": blocks}, **members)


def run_cell(block_id: str, contents: str = "ls", *, before: str = "list files", **members: Any) -> bytes:
    """What an editor reports when a person runs a cell."""
    cells = [
        {"kind": "CELL_KIND_MARKUP", "value": before},
        {"kind": "CELL_KIND_CODE", "value": contents, "metadata": {"id": block_id}},
    ]
    event = {"type": "EXECUTE", "cells": cells, "selectedId": block_id, "selectedIndex": 10}
    return foyle(f"{AGENT}.LogEvents", event=event, **members)


def suggestion(kind: str, block_id: str, **members: Any) -> bytes:
    event = {"type": kind, "selectedId": block_id, "selectedIndex": 10}
    return foyle(f"{AGENT}.LogEvents", event=event, **members)


def runme(message: str, *, ts: object = 1_700_000_000.5, run_id: str = RUN_ID, **members: Any) -> bytes:
    """A line of RunMe's log."""
    line = {"level": "info", "ts": ts, "function": f"{RUNNER}.Execute", "msg": message}
    if run_id:
        line["_id"] = run_id
    return json.dumps(line | members).encode() + b"\n"


def runme_request(block_id: str, *commands: str, **members: Any) -> bytes:
    asked = {"commands": [*commands], "knownId": block_id, "languageId": "sh", "envs": ["TERM="]}
    return runme("received initial request", req=asked, knownID=block_id, **members)


def runme_end(block_id: str, exit_code: int, **members: Any) -> bytes:
    return runme("command finished", knownID=block_id, exitCode=exit_code, **members)


def append(path: Path, *lines: bytes) -> None:
    with path.open("ab") as file:
        for line in lines:
            file.write(line)
