"""What breaks a documented rule of an event is refused, with the path of the field; all else is accepted."""

from collections.abc import Callable

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from errata.serving.fields import InvalidFieldError, TooLargeError
from errata.v1.block_pb2 import (
    BLOCK_KIND_CODE,
    BLOCK_KIND_MARKUP,
    EXECUTION_STATUS_FAILED,
    SUGGESTION_STATUS_ACCEPTED,
    SUGGESTION_STATUS_REJECTED,
    Block,
    BlockEvent,
    BlockExecuted,
    BlockGenerated,
    Doc,
    ExampleTaught,
)
from learner_service.validation import EVENT_BYTES_MAX, EVENTS_MAX, check_event, check_request_events

NOW_US = 1_700_000_000_000_000
NOW_S = NOW_US // 1_000_000
DAY_S = 24 * 60 * 60

Change = Callable[[BlockEvent], object]


def executed() -> BlockEvent:
    return BlockEvent(
        block_id="b", event_time=Timestamp(seconds=NOW_S), executed=BlockExecuted(block=Block(contents="ls"))
    )


def generated() -> BlockEvent:
    return BlockEvent(
        block_id="b",
        event_time=Timestamp(seconds=NOW_S),
        generated=BlockGenerated(block=Block(contents="ls")),
    )


def suggestion() -> BlockEvent:
    return BlockEvent(
        block_id="b", event_time=Timestamp(seconds=NOW_S), suggestion=SUGGESTION_STATUS_ACCEPTED
    )


def taught() -> BlockEvent:
    question = Block(kind=BLOCK_KIND_MARKUP, contents="List the files")
    return BlockEvent(
        block_id="b",
        event_time=Timestamp(seconds=NOW_S),
        taught=ExampleTaught(query=Doc(blocks=[question]), answer=[Block(contents="ls")]),
    )


def refused(event: BlockEvent) -> InvalidFieldError:
    with pytest.raises(InvalidFieldError) as caught:
        check_event("events[3]", event, now_us=NOW_US)
    return caught.value


def too_large(event: BlockEvent) -> TooLargeError:
    with pytest.raises(TooLargeError) as caught:
        check_event("events[3]", event, now_us=NOW_US)
    return caught.value


def set_kind(block: Block, number: int) -> None:
    """Sets an enum number that no sender of today knows, as it comes over the wire."""
    block.MergeFromString(bytes([0x08, number]))


def blank_question(event: BlockEvent) -> None:
    event.taught.query.blocks[0].contents = " \n"


@pytest.mark.parametrize(
    "event", [executed(), generated(), suggestion(), taught()], ids=lambda e: e.WhichOneof("event")
)
def test_a_minimal_event_of_each_kind_is_accepted(event: BlockEvent) -> None:
    check_event("events[0]", event, now_us=NOW_US)


@pytest.mark.parametrize(
    ("make", "change", "field"),
    [
        (executed, lambda e: e.ClearField("block_id"), "block_id"),
        (executed, lambda e: setattr(e, "block_id", "x" * 256), "block_id"),
        (executed, lambda e: setattr(e, "block_id", "a\nb"), "block_id"),
        (executed, lambda e: setattr(e, "namespace", "Upper"), "namespace"),
        (executed, lambda e: setattr(e, "namespace", "a" * 64), "namespace"),
        (executed, lambda e: e.ClearField("event_time"), "event_time"),
        (executed, lambda e: setattr(e.event_time, "nanos", -1), "event_time"),
        (executed, lambda e: setattr(e.event_time, "nanos", 1_000_000_000), "event_time"),
        (executed, lambda e: setattr(e.event_time, "seconds", -1), "event_time"),
        (executed, lambda e: setattr(e.event_time, "seconds", -62_135_596_800), "event_time"),
        (executed, lambda e: setattr(e.event_time, "seconds", NOW_S + DAY_S + 1), "event_time"),
        (executed, lambda e: setattr(e.event_time, "seconds", 2**62), "event_time"),
        (executed, lambda e: e.ClearField("event"), "event"),
        (executed, lambda e: e.executed.ClearField("block"), "executed.block"),
        (executed, lambda e: set_kind(e.executed.block, 9), "executed.block.kind"),
        (executed, lambda e: set_kind(e.executed.doc.blocks.add(), 9), "executed.doc.blocks[0].kind"),
        (executed, lambda e: e.executed.MergeFromString(b"\x18\x09"), "executed.status"),
        (generated, lambda e: e.generated.ClearField("block"), "generated.block"),
        (generated, lambda e: set_kind(e.generated.block, 9), "generated.block.kind"),
        (generated, lambda e: set_kind(e.generated.doc.blocks.add(), 9), "generated.doc.blocks[0].kind"),
        (suggestion, lambda e: setattr(e, "suggestion", 0), "suggestion"),
        (suggestion, lambda e: e.MergeFromString(b"\x40\x09"), "suggestion"),
        (taught, lambda e: e.taught.ClearField("query"), "taught.query"),
        (taught, lambda e: e.taught.query.ClearField("blocks"), "taught.query"),
        (taught, blank_question, "taught.query"),
        (taught, lambda e: set_kind(e.taught.query.blocks[0], 9), "taught.query.blocks[0].kind"),
        (taught, lambda e: e.taught.ClearField("answer"), "taught.answer"),
        (taught, lambda e: setattr(e.taught.answer[0], "contents", "\t\n"), "taught.answer"),
        (taught, lambda e: set_kind(e.taught.answer[0], 9), "taught.answer[0].kind"),
    ],
)
def test_a_field_that_breaks_its_rule_is_named_by_its_path(
    make: Callable[[], BlockEvent], change: Change, field: str
) -> None:
    event = make()
    change(event)
    assert refused(event).field == f"events[3].{field}"


def test_a_label_without_a_key_is_refused() -> None:
    event = executed()
    event.labels[""] = "x"
    assert refused(event).field.startswith("events[3].labels")


def test_a_label_value_over_its_bound_is_too_large() -> None:
    event = executed()
    event.labels["team"] = "x" * 256
    assert too_large(event).field.startswith("events[3].labels")


def test_a_trace_id_has_at_most_128_bytes() -> None:
    event = generated()
    event.generated.trace_id = "é" * 64
    check_event("events[0]", event, now_us=NOW_US)
    event.generated.trace_id += "x"
    error = too_large(event)
    assert (error.field, error.limit) == ("events[3].generated.trace_id", 128)


def test_an_event_has_at_most_1_mib() -> None:
    event = executed()
    event.executed.block.contents = "x" * (EVENT_BYTES_MAX - 100)
    event.executed.block.id = "x" * (EVENT_BYTES_MAX - event.ByteSize() - 2)
    assert event.ByteSize() == EVENT_BYTES_MAX
    check_event("events[0]", event, now_us=NOW_US)
    event.executed.block.id += "x"
    error = too_large(event)
    assert (error.field, error.limit, error.unit) == ("events[3]", 1024 * 1024, "bytes")


def test_a_sender_may_be_24_hours_ahead_and_any_time_behind() -> None:
    event = executed()
    event.event_time.seconds = NOW_S + DAY_S
    check_event("events[0]", event, now_us=NOW_US)
    event.event_time.seconds = 0
    check_event("events[0]", event, now_us=NOW_US)
    event.event_time.FromMicroseconds(NOW_US + DAY_S * 1_000_000 + 1)
    assert refused(event).field == "events[3].event_time"


def test_a_blank_block_is_accepted_where_a_block_is_required() -> None:
    event = generated()
    event.generated.block.Clear()
    event.generated.block.SetInParent()
    check_event("events[0]", event, now_us=NOW_US)


def test_every_known_enum_value_is_accepted() -> None:
    event = executed()
    event.executed.block.kind = BLOCK_KIND_CODE
    event.executed.status = EXECUTION_STATUS_FAILED
    check_event("events[0]", event, now_us=NOW_US)
    rejection = suggestion()
    rejection.suggestion = SUGGESTION_STATUS_REJECTED
    check_event("events[0]", rejection, now_us=NOW_US)


def test_one_answer_block_that_is_not_blank_is_enough() -> None:
    event = taught()
    event.taught.answer.insert(0, Block(contents=" "))
    check_event("events[0]", event, now_us=NOW_US)


def test_a_question_of_ghost_cells_alone_is_blank() -> None:
    event = taught()
    event.taught.query.blocks[0].metadata["_ghostCell"] = "true"
    assert refused(event).field == "events[3].taught.query"


def test_a_request_has_at_most_1000_events() -> None:
    check_request_events([executed()] * EVENTS_MAX, NOW_US)
    with pytest.raises(TooLargeError) as caught:
        check_request_events([executed()] * 1001, NOW_US)
    assert (caught.value.field, caught.value.limit) == ("events", 1000)


def test_a_request_without_events_is_accepted() -> None:
    check_request_events([], NOW_US)


def test_the_first_event_at_fault_is_named_by_its_position() -> None:
    with pytest.raises(InvalidFieldError) as caught:
        check_request_events([executed(), generated(), BlockEvent()], NOW_US)
    assert caught.value.field == "events[2].block_id"
