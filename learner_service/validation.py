"""What an event must be before it is recorded: the rules that block.proto documents, field by field.

Whatever passes can be folded, stored and learned from; whatever does not is refused with the path of the
field that breaks its rule, such as `events[3].executed.block`.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from errata.serving.fields import (
    InvalidFieldError,
    TooLargeError,
    check_block_id,
    check_labels,
    check_namespace,
    timestamp_us,
)
from errata.text import query_from_doc
from errata.v1.block_pb2 import (
    SUGGESTION_STATUS_UNSPECIFIED,
    Block,
    BlockEvent,
    BlockExecuted,
    BlockGenerated,
    BlockKind,
    ExampleTaught,
    ExecutionStatus,
    SuggestionStatus,
)

EVENTS_MAX: Final = 1000
"""Events of one request: all of them are one transaction, which others wait for."""
EVENT_BYTES_MAX: Final = 1024 * 1024
"""Serialised size of one event: a record holds several."""
TRACE_ID_BYTES_MAX: Final = 128
"""Trace IDs in use have 32 characters, or 36; the store uses them in keys."""
CLOCK_SKEW_S_MAX: Final = 24 * 60 * 60
"""How far ahead the clock of a sender may be: an event of a far future would win for ever."""

_BLOCK_KINDS: Final = frozenset(BlockKind.values())
_EXECUTION_STATUSES: Final = frozenset(ExecutionStatus.values())
_SUGGESTION_STATUSES: Final = frozenset(SuggestionStatus.values())
_MICROSECONDS_PER_SECOND: Final = 1_000_000


def check_request_events(events: Sequence[BlockEvent], now_us: int) -> None:
    """Checks all events of a request; none at all is fine.

    Args:
        events: of the field `events`.
        now_us: the Learner's clock, microseconds since 1970.

    Raises:
        InvalidFieldError: an event breaks a rule.
        TooLargeError: there are too many events, or one holds too much.
    """
    if len(events) > EVENTS_MAX:
        raise TooLargeError("events", EVENTS_MAX, "events", len(events))
    for index, event in enumerate(events):
        check_event(f"events[{index}]", event, now_us=now_us)


def check_event(field: str, event: BlockEvent, *, now_us: int) -> None:
    """Checks one event.

    Args:
        field: path of the event, for the error.
        event: as it was received.
        now_us: the Learner's clock, microseconds since 1970.

    Raises:
        InvalidFieldError: the event breaks a rule.
        TooLargeError: the event, or a part of it, is too large.
    """
    size_bytes = event.ByteSize()
    if size_bytes > EVENT_BYTES_MAX:
        raise TooLargeError(field, EVENT_BYTES_MAX, "bytes", size_bytes)
    check_block_id(f"{field}.block_id", event.block_id)
    check_namespace(f"{field}.namespace", event.namespace)
    _check_event_time(f"{field}.event_time", event, now_us)
    check_labels(f"{field}.labels", event.labels)
    match event.WhichOneof("event"):
        case "generated":
            _check_generated(f"{field}.generated", event.generated)
        case "executed":
            _check_executed(f"{field}.executed", event.executed)
        case "suggestion":
            _check_suggestion(f"{field}.suggestion", event.suggestion)
        case "taught":
            _check_taught(f"{field}.taught", event.taught)
        case None:
            raise InvalidFieldError(
                f"{field}.event", "required: one of generated, executed, suggestion, taught"
            )


def _check_event_time(field: str, event: BlockEvent, now_us: int) -> None:
    if not event.HasField("event_time"):
        raise InvalidFieldError(field, "required; when did it happen?")
    event_us = timestamp_us(field, event.event_time)
    if event_us < 0:
        # The zero time of some languages lies in the year 1: a sender that forgot to set it.
        raise InvalidFieldError(field, "before 1970; was it ever set?")
    if event_us > now_us + CLOCK_SKEW_S_MAX * _MICROSECONDS_PER_SECOND:
        raise InvalidFieldError(field, "more than 24 h ahead of the Learner's clock; is the sender's right?")


def _check_generated(field: str, generated: BlockGenerated) -> None:
    if not generated.HasField("block"):
        raise InvalidFieldError(f"{field}.block", "required")
    _check_block_kind(f"{field}.block", generated.block)
    _check_block_kinds(f"{field}.doc.blocks", generated.doc.blocks)
    size_bytes = len(generated.trace_id.encode())
    if size_bytes > TRACE_ID_BYTES_MAX:
        raise TooLargeError(f"{field}.trace_id", TRACE_ID_BYTES_MAX, "bytes", size_bytes)


def _check_executed(field: str, executed: BlockExecuted) -> None:
    if not executed.HasField("block"):
        raise InvalidFieldError(f"{field}.block", "required")
    _check_block_kind(f"{field}.block", executed.block)
    _check_block_kinds(f"{field}.doc.blocks", executed.doc.blocks)
    if executed.status not in _EXECUTION_STATUSES:
        raise InvalidFieldError(f"{field}.status", f"unknown ExecutionStatus {executed.status}")


def _check_suggestion(field: str, suggestion: SuggestionStatus.ValueType) -> None:
    if suggestion == SUGGESTION_STATUS_UNSPECIFIED:
        raise InvalidFieldError(field, "must not be unspecified")
    if suggestion not in _SUGGESTION_STATUSES:
        raise InvalidFieldError(field, f"unknown SuggestionStatus {suggestion}")


def _check_taught(field: str, taught: ExampleTaught) -> None:
    if not taught.HasField("query"):
        raise InvalidFieldError(f"{field}.query", "required")
    _check_block_kinds(f"{field}.query.blocks", taught.query.blocks)
    _check_block_kinds(f"{field}.answer", taught.answer)
    if not query_from_doc(taught.query).text:
        raise InvalidFieldError(f"{field}.query", "must not be blank: there would be no question to learn")
    if not any(block.contents.strip() for block in taught.answer):
        raise InvalidFieldError(f"{field}.answer", "needs at least one block that is not blank")


def _check_block_kinds(field: str, blocks: Iterable[Block]) -> None:
    for index, block in enumerate(blocks):
        # An event may hold hundreds of thousands of tiny blocks: a path is built only for the one at fault.
        if block.kind not in _BLOCK_KINDS:
            _check_block_kind(f"{field}[{index}]", block)


def _check_block_kind(field: str, block: Block) -> None:
    if block.kind not in _BLOCK_KINDS:
        raise InvalidFieldError(f"{field}.kind", f"unknown BlockKind {block.kind}")
