"""Our own dialect: one BlockEvent as proto JSON a line.

A JSON object that names a block, or the time of an event, and that has none of the members by which log
records are known. So lines of other logs that mention a block are left alone, and so are the Learner's own.
"""

from collections.abc import Collection
from typing import Final

from errata.v1.block_pb2 import BlockEvent
from learner_service.analyzer.proto_json import MemberTwiceError, NotAMessageError, ProtoJson, parse_members
from learner_service.analyzer.records import LineRecord, MalformedLineError

MARKS: Final = (b'"block', b'"ev')
_MEMBER_MARKS: Final = (b'"blockId"', b'"block_id"', b'"eventTime"', b'"event_time"')
_MEMBERS: Final = frozenset(mark.decode().strip('"') for mark in _MEMBER_MARKS)
_MEMBERS_OF_LOG_RECORDS: Final = frozenset(
    {"level", "severity", "logger", "message", "msg", "event", "function", "caller"}
)

_EVENTS: Final = ProtoJson(BlockEvent)


def may_read(line: bytes) -> bool:
    """False when the line is certainly of another dialect. Decided on bytes: most lines are not ours."""
    return (b'"block' in line or b'"event' in line) and any(map(line.__contains__, _MEMBER_MARKS))


def read(text: str, namespace: str) -> LineRecord | None:
    """The event of the line; None when the line is of another dialect.

    Args:
        text: the line.
        namespace: of the directory, for events that name none; empty when the directory was given none.

    Raises:
        MalformedLineError: it is not an event, or one of another namespace than that of the directory.
    """
    try:
        members = parse_members(text)
        if not _is_ours(members):
            return None
        event = _EVENTS.read(members)
    except MemberTwiceError as error:
        if not _is_ours(error.members):
            return None
        raise MalformedLineError("a member is named twice") from None
    except NotAMessageError:
        raise MalformedLineError("not a BlockEvent in proto JSON") from None
    if namespace and event.namespace not in ("", namespace):
        raise MalformedLineError("an event of another namespace than the directory's")
    event.namespace = event.namespace or namespace
    return LineRecord(events=(event,))


def _is_ours(members: Collection[str]) -> bool:
    return not _MEMBERS.isdisjoint(members) and _MEMBERS_OF_LOG_RECORDS.isdisjoint(members)
