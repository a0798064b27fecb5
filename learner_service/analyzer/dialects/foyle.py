"""The dialect of Foyle's server log: one JSON object a line, written by Go functions that name themselves.

A generation is two lines of one trace, a request and a response. What an editor reports, that a suggestion
was accepted or rejected and that a cell was run, is one line each; that a session started or ended says
nothing of a block. Older servers ran blocks themselves and wrote two lines for it, start and end.

Lines are read as Go reads JSON: members that are missing are zero, and of one named twice the last counts.
"""

import re
from typing import Final

from errata.v1.block_pb2 import (
    EXECUTION_STATUS_FAILED,
    EXECUTION_STATUS_SUCCEEDED,
    EXECUTION_STATUS_UNSPECIFIED,
    SUGGESTION_STATUS_ACCEPTED,
    SUGGESTION_STATUS_REJECTED,
    Block,
    BlockEvent,
    Doc,
)
from learner_service.analyzer.dialects import notebook
from learner_service.analyzer.dialects.traced import marks_evaluation, read_trace_id
from learner_service.analyzer.json_object import JsonObject, parse_object
from learner_service.analyzer.records import LineRecord, MalformedLineError, Proposal, RunEnd, TracePart

_ROOT: Final = "github.com/jlewi/foyle/"
_GENERATE: Final = f"{_ROOT}app/pkg/agent.(*Agent).Generate"
_LOG_EVENTS: Final = f"{_ROOT}app/pkg/agent.(*Agent).LogEvents"
_EXECUTE: Final = f"{_ROOT}app/pkg/executor.(*Executor).Execute"

MARKS: Final = (b"(*", b'"ev')
_FUNCTION_MARKS: Final = tuple(name.encode() for name in (_GENERATE, _LOG_EVENTS, _EXECUTE))

_SUGGESTIONS: Final = {"ACCEPTED": SUGGESTION_STATUS_ACCEPTED, "REJECTED": SUGGESTION_STATUS_REJECTED}
_STATUSES: Final = {"SUCCEEDED": EXECUTION_STATUS_SUCCEEDED, "FAILED": EXECUTION_STATUS_FAILED}
_EXIT_CODE: Final = re.compile(r"exitCode: (-?\d{1,9})")

DOC_BYTES_MAX: Final = 512 * 1024
"""A larger document loses its outputs, which no query contains: an event, at most 1 MiB, must hold it."""
PROPOSED_BLOCKS_MAX: Final = 100
"""Of one response: each becomes an event with a copy of the document. Real responses have fewer than ten."""


def may_read(line: bytes) -> bool:
    """False when the line is certainly of another dialect, or says nothing wanted. Decided on bytes."""
    if b"(*Agent)." in line or b"(*Executor)." in line:
        return any(map(line.__contains__, _FUNCTION_MARKS)) or marks_evaluation(line)
    return marks_evaluation(line) and _ROOT.encode() in line


def read(text: str, namespace: str) -> LineRecord | None:
    """What the line says, which may be nothing; None when it is of another dialect.

    Args:
        text: the line.
        namespace: of the blocks.

    Raises:
        MalformedLineError: it is of this dialect, but cannot be understood.
    """
    line = parse_object(text)
    function = line.word("function")
    if not function.startswith(_ROOT):
        return None
    if _is_within(function, _GENERATE):
        return _generation(line)
    if _is_within(function, _LOG_EVENTS):
        return _editor_event(line, namespace)
    if _is_within(function, _EXECUTE):
        return _run(line, namespace)
    return _trace_line(line)


def _is_within(function: str, name: str) -> bool:
    """True for the function and for the closures within it, `Generate.func1`; not for `GenerateCells`."""
    rest = function.removeprefix(name)
    return function.startswith(name) and not (rest[:1].isalnum() or rest[:1] == "_")


def _trace_line(line: JsonObject) -> LineRecord:
    """A line that says nothing but whether its trace is an evaluation."""
    trace_id = _trace_id(line)
    if not trace_id or not line.flag("eval_mode"):
        return LineRecord()
    return LineRecord(trace=TracePart(trace_id=trace_id, eval_mode=True))


def _generation(line: JsonObject) -> LineRecord:
    trace_id = _trace_id(line)
    if not trace_id:
        return LineRecord()
    request, response = line.child("request", "req"), line.child("response", "resp")
    if request is None and response is None:
        return _trace_line(line)
    return LineRecord(
        trace=TracePart(
            trace_id=trace_id,
            eval_mode=line.flag("eval_mode"),
            request=None if request is None else _request_doc(request),
            proposal=None if response is None else _proposal(line, response),
        )
    )


def _request_doc(request: JsonObject) -> Doc:
    """The document up to the cell at the cursor. An index out of range is ignored: real logs have them."""
    whole = request.child("doc")
    doc = Doc() if whole is None else notebook.doc(whole)
    selected_index = request.integer("selected_index")
    if selected_index is not None and 0 <= selected_index < len(doc.blocks):
        del doc.blocks[selected_index + 1 :]
    return _bounded(doc)


def _proposal(line: JsonObject, response: JsonObject) -> Proposal:
    blocks = [notebook.block(each) for each in response.children("blocks")]
    if len(blocks) > PROPOSED_BLOCKS_MAX:
        raise MalformedLineError(f"a response of more than {PROPOSED_BLOCKS_MAX} blocks")
    return Proposal(line.seconds_us("time", "ts"), tuple(block for block in blocks if block.id))


def _editor_event(line: JsonObject, namespace: str) -> LineRecord:
    reported = line.child("event")
    if reported is None:
        return _trace_line(line)
    kind = reported.text("type") or line.text("event_type")
    selected_id = reported.text("selected_id") or line.text("selected_cell_id")
    events: list[BlockEvent] = []
    if kind == "EXECUTE" and selected_id:
        events = [_executed(line, reported, selected_id, namespace)]
    elif kind in _SUGGESTIONS:
        # Only without a selected cell do the cells say which blocks are meant; they may be left out.
        block_ids = (
            [selected_id] if selected_id else [notebook.cell_id(c) for c in reported.children("cells")]
        )
        for block_id in filter(None, block_ids):
            events.append(_event(line, block_id, namespace))
            events[-1].suggestion = _SUGGESTIONS[kind]
    return _with_trace(line, events)


def _executed(line: JsonObject, reported: JsonObject, selected_id: str, namespace: str) -> BlockEvent:
    """The run of the selected cell. Its index is not trusted: in real logs it is out of range."""
    cells = reported.children("cells")
    position = next((i for i, cell in enumerate(cells) if notebook.cell_id(cell) == selected_id), None)
    if position is None:
        raise MalformedLineError("a run without the cell that was run")
    event = _event(line, selected_id, namespace)
    event.executed.block.CopyFrom(notebook.cell_block(cells[position]))
    event.executed.status = _STATUSES.get(reported.word("execute_status"), EXECUTION_STATUS_UNSPECIFIED)
    # With no cell before it the sender shows the cell alone, and does not know the document.
    if position > 0:
        before = Doc(blocks=[notebook.cell_block(cell) for cell in cells[:position]])
        event.executed.doc.CopyFrom(_bounded(before))
    return event


def _run(line: JsonObject, namespace: str) -> LineRecord:
    """One of the two lines of a run by the server itself; it joins nothing when the block has no ID."""
    trace_id = _trace_id(line)
    request = line.child("request", "req")
    ran = None if request is None else request.child("block")
    if ran is not None:
        block = notebook.block(ran)
        block_id = line.text("block_id") or block.id
        if not block_id:
            return _trace_line(line)
        event = _event(line, block_id, namespace)
        event.executed.block.CopyFrom(block)
        return _with_trace(line, [event], run=event)
    response = line.child("response", "resp")
    if response is None or not trace_id:
        return _trace_line(line)
    end = RunEnd(line.seconds_us("time", "ts"), _exit_code(notebook.block(response)))
    return LineRecord(trace=TracePart(trace_id=trace_id, eval_mode=line.flag("eval_mode"), run_end=end))


def _exit_code(response: Block) -> int | None:
    """The exit code, which is the text of one of the outputs."""
    for output in response.outputs:
        for item in output.items:
            found = _EXIT_CODE.fullmatch(item.text_data.strip())
            if found:
                return int(found[1])
    return None


def _event(line: JsonObject, block_id: str, namespace: str) -> BlockEvent:
    event = BlockEvent(block_id=block_id, namespace=namespace)
    event.event_time.FromMicroseconds(line.seconds_us("time", "ts"))
    return event


def _with_trace(line: JsonObject, events: list[BlockEvent], run: BlockEvent | None = None) -> LineRecord:
    """The events, as part of their trace if the line names one."""
    trace_id, eval_mode = _trace_id(line), line.flag("eval_mode")
    if not trace_id:
        for event in events:
            event.eval_mode = eval_mode
        return LineRecord(events=tuple(events))
    if not events and not eval_mode:
        return LineRecord()
    part = TracePart(
        trace_id=trace_id,
        eval_mode=eval_mode,
        run=run,
        block_ids=tuple(dict.fromkeys(event.block_id for event in events)),
    )
    return LineRecord(events=tuple(events), trace=part)


def _trace_id(line: JsonObject) -> str:
    """The trace of the line; empty when it has none, which is also written as zeros."""
    return read_trace_id(line.text("trace_id"))


def _bounded(doc: Doc) -> Doc:
    if doc.ByteSize() > DOC_BYTES_MAX:
        notebook.without_outputs(doc.blocks)
    return doc
