"""Our own dialect: one BlockEvent as proto JSON a line.

A JSON object that names a block, or the time of an event, and that has none of the members by which log
records are known. So lines of other logs that mention a block are left alone, and so are the Learner's own.
"""

import json
from typing import Final

from google.protobuf import json_format

from errata.v1.block_pb2 import BlockEvent
from learner_service.analyzer.records import LineRecord, MalformedLineError

_MARKS: Final = (b'"blockId"', b'"block_id"', b'"eventTime"', b'"event_time"')
_MEMBERS: Final = frozenset(mark.decode().strip('"') for mark in _MARKS)
_MEMBERS_OF_LOG_RECORDS: Final = frozenset(
    {"level", "severity", "logger", "message", "msg", "event", "function", "caller"}
)


def may_read(line: bytes) -> bool:
    """False when the line is certainly of another dialect. Decided on bytes: most lines are not ours."""
    return any(mark in line for mark in _MARKS)


def read(text: str, namespace: str) -> LineRecord | None:
    """The event of the line; None when the line is of another dialect.

    Args:
        text: the line.
        namespace: of the directory, for events that name none; empty when the directory was given none.

    Raises:
        MalformedLineError: it is not an event, or one of another namespace than that of the directory.
    """
    try:
        members = json.loads(text)
    except (ValueError, RecursionError):
        raise MalformedLineError("not valid JSON") from None
    if (
        not isinstance(members, dict)
        or not members.keys() & _MEMBERS
        or members.keys() & _MEMBERS_OF_LOG_RECORDS
    ):
        return None
    event = BlockEvent()
    try:
        json_format.ParseDict(members, event)
    except (json_format.ParseError, ValueError, TypeError, ArithmeticError, AttributeError):
        # The parser checks its input unevenly: for some values of a wrong type it raises other errors.
        raise MalformedLineError("not a BlockEvent in proto JSON") from None
    if namespace and event.namespace not in ("", namespace):
        raise MalformedLineError("an event of another namespace than the directory's")
    event.namespace = event.namespace or namespace
    return LineRecord(events=(event,))
