"""The dialect of RunMe's log: one JSON object a line, written by Go functions that name themselves.

A run is several lines with one `_id`; two of them matter, the request that it began with and that its command
finished. The cell that was run is its known ID; a run of a cell without one joins nothing.

Lines are read as Go reads JSON: members that are missing are zero, and of one named twice the last counts.
"""

import re
from typing import Final

from errata.v1.block_pb2 import BLOCK_KIND_CODE, Block, BlockEvent
from learner_service.analyzer.dialects.traced import marks_evaluation, read_trace_id
from learner_service.analyzer.json_object import JsonObject, parse_object
from learner_service.analyzer.records import LineRecord, MalformedLineError, RunEnd, TracePart

_FUNCTION_MARK: Final = b"(*runnerService).Execute"
MARKS: Final = (b"(*",)
_FUNCTION: Final = re.compile(
    r"github\.com/(?:stateful|runmedev)/runme/(?:v\d+/)?(?:internal|pkg)/runner\w*"
    r"\.\(\*runnerService\)\.Execute(?![A-Za-z0-9_])"
)
_BEGAN: Final = "received initial request"
_ENDED: Final = "command finished"
_MESSAGE_MARKS: Final = (_BEGAN.encode(), _ENDED.encode())

_TRACE_PREFIX: Final = "runme/"
"""Before the ID of a run where traces are kept: those of other programs are of another kind."""

_INT32_MAX: Final = (1 << 31) - 1


def may_read(line: bytes) -> bool:
    """False when the line is certainly of another dialect, or says nothing wanted. Decided on bytes."""
    return _FUNCTION_MARK in line and (any(map(line.__contains__, _MESSAGE_MARKS)) or marks_evaluation(line))


def read(text: str, namespace: str) -> LineRecord | None:
    """What the line says, which may be nothing; None when it is of another dialect.

    Args:
        text: the line.
        namespace: of the blocks.

    Raises:
        MalformedLineError: it is of this dialect, but cannot be understood.
    """
    line = parse_object(text)
    if not _FUNCTION.match(line.word("function")):
        return None
    run_id = read_trace_id(line.text("_id") or line.text("id"))
    message = line.text("msg") or line.text("message")
    began = _began(line, namespace) if message == _BEGAN else None
    ended = _ended(line) if message == _ENDED and run_id else None
    eval_mode = line.flag("eval_mode")
    if not run_id:
        if began is None:
            return LineRecord()
        began.eval_mode = eval_mode
        return LineRecord(events=(began,))
    if began is None and ended is None and not eval_mode:
        return LineRecord()
    return LineRecord(
        events=() if began is None else (began,),
        trace=TracePart(
            trace_id=_TRACE_PREFIX + run_id,
            eval_mode=eval_mode,
            run=began,
            run_end=ended,
            block_ids=() if began is None else (began.block_id,),
        ),
    )


def _began(line: JsonObject, namespace: str) -> BlockEvent | None:
    """The run as it began; None when nobody can tell of which cell, or of what."""
    request = line.child("req", "request")
    if request is None:
        return None
    # Newer versions put the program below `config`, and its commands one level deeper.
    program = request.child("config") or request
    block_id = program.text("known_id") or line.text("knownID") or line.text("known_id")
    contents = _commands(program)
    if not block_id or not contents.strip():
        return None
    event = BlockEvent(block_id=block_id, namespace=namespace)
    event.event_time.FromMicroseconds(line.seconds_us("ts", "time"))
    event.executed.block.CopyFrom(
        Block(kind=BLOCK_KIND_CODE, id=block_id, language=program.text("language_id"), contents=contents)
    )
    return event


def _commands(program: JsonObject) -> str:
    """What was run: lines, or a script as a whole."""
    if program.is_list("commands"):
        lines = program.texts("commands")
    else:
        nested = program.child("commands")
        lines = [] if nested is None else nested.texts("items")
    return "\n".join(lines) or program.text("script")


def _ended(line: JsonObject) -> RunEnd:
    exit_code = line.integer("exit_code") or 0
    if abs(exit_code) > _INT32_MAX:
        raise MalformedLineError("an exit code that is too large")
    return RunEnd(line.seconds_us("ts", "time"), exit_code)
