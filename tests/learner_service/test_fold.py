"""A block is a function of the set of its events, whatever their order and however often they come."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from random import Random

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from errata.store.v1.store_pb2 import BlockRecord, FailedText, Label
from errata.v1.block_pb2 import (
    EXECUTION_STATUS_FAILED,
    EXECUTION_STATUS_SUCCEEDED,
    EXECUTION_STATUS_UNSPECIFIED,
    SUGGESTION_STATUS_ACCEPTED,
    SUGGESTION_STATUS_REJECTED,
    Block,
    BlockEvent,
    BlockExecuted,
    BlockGenerated,
    Doc,
    ExampleTaught,
    ExecutionStatus,
    SuggestionStatus,
)
from learner_service.fold import (
    FAILED_TEXTS_MAX,
    LABELS_MAX,
    execution_status,
    fold,
    instant,
    run_failed,
    text_hash,
)

OK, FAILED, UNKNOWN = EXECUTION_STATUS_SUCCEEDED, EXECUTION_STATUS_FAILED, EXECUTION_STATUS_UNSPECIFIED


def at(time: float) -> Timestamp:
    return Timestamp(seconds=int(time), nanos=round(time % 1 * 1e9))


def proposal(time: float, text: str, *, trace_id: str = "") -> BlockEvent:
    generated = BlockGenerated(block=Block(contents=text), trace_id=trace_id)
    return BlockEvent(block_id="b", event_time=at(time), generated=generated)


def run(
    time: float, text: str, status: ExecutionStatus.ValueType = UNKNOWN, *, exit_code: int | None = None
) -> BlockEvent:
    executed = BlockExecuted(block=Block(contents=text), status=status, exit_code=exit_code)
    return BlockEvent(block_id="b", event_time=at(time), executed=executed)


def verdict(time: float, status: SuggestionStatus.ValueType) -> BlockEvent:
    return BlockEvent(block_id="b", event_time=at(time), suggestion=status)


def teaching(time: float, question: str, answer: str) -> BlockEvent:
    taught = ExampleTaught(query=Doc(blocks=[Block(contents=question)]), answer=[Block(contents=answer)])
    return BlockEvent(block_id="b", event_time=at(time), taught=taught)


def labelled(time: float, labels: Mapping[str, str]) -> BlockEvent:
    event = verdict(time, SUGGESTION_STATUS_ACCEPTED)
    event.labels.update(labels)
    return event


def record_of(events: Iterable[BlockEvent]) -> BlockRecord:
    """Folds the events one by one, through the bytes of the store."""
    record = BlockRecord()
    for event in events:
        record = BlockRecord.FromString(encoded(fold(record, event) or record))
    return record


def encoded(message: BlockRecord | BlockEvent) -> bytes:
    return message.SerializeToString(deterministic=True)


def order(event: BlockEvent) -> tuple[tuple[int, int], bytes]:
    return instant(event.event_time), encoded(event)


def record_by_definition(events: Sequence[BlockEvent]) -> BlockRecord:
    """The record as the comments of block.proto and store.proto define it, from all events at once."""

    def ordered(kind: str) -> list[BlockEvent]:
        return sorted((event for event in events if event.WhichOneof("event") == kind), key=order)

    record = BlockRecord(eval_mode=any(event.eval_mode for event in events))
    proposals, runs = ordered("generated"), ordered("executed")
    verdicts, teachings = ordered("suggestion"), ordered("taught")
    if proposals:
        record.generated.CopyFrom(proposals[-1])
        if encoded(proposals[0]) != encoded(proposals[-1]):
            record.first_generated.CopyFrom(proposals[0])
    if runs:
        record.executed.CopyFrom(runs[-1])
        good = [each for each in runs if not run_failed(each.executed)]
        if good and encoded(good[-1]) != encoded(runs[-1]):
            record.succeeded.CopyFrom(good[-1])
    if verdicts:
        record.suggestion.CopyFrom(verdicts[-1])
    if teachings:
        record.taught.CopyFrom(teachings[-1])

    record.failed_texts.extend(failed_texts_by_definition(runs))
    for key, label in labels_by_definition(events).items():
        record.labels[key].CopyFrom(label)
    return record


def failed_texts_by_definition(runs: Sequence[BlockEvent]) -> list[FailedText]:
    failures: dict[int, tuple[int, int]] = {}
    for each in runs:  # in order: the last failure of a text stays
        if run_failed(each.executed):
            failures[text_hash(each.executed.block.contents)] = instant(each.event_time)
    latest_first = sorted(((when, text) for text, when in failures.items()), reverse=True)
    return [
        FailedText(text_hash=text, event_time=Timestamp(seconds=seconds, nanos=nanos))
        for (seconds, nanos), text in latest_first[:16]
    ]


def labels_by_definition(events: Sequence[BlockEvent]) -> dict[str, Label]:
    settings_by_key: dict[str, list[tuple[tuple[int, int], str]]] = {}
    for event in events:
        for key, value in event.labels.items():
            settings_by_key.setdefault(key, []).append((instant(event.event_time), value))
    latest = [(*max(all_settings), key) for key, all_settings in settings_by_key.items()]
    latest.sort(key=lambda setting: (setting[0], setting[2]), reverse=True)
    return {
        key: Label(value=value, event_time=Timestamp(seconds=when[0], nanos=when[1]))
        for when, value, key in latest[:64]
    }


# Few of everything, so that times, texts and whole events collide.
times = st.sampled_from([1.0, 1.5, 2.0, 3.0])
texts = st.sampled_from(["ls", " ls\n", "ls -l", "pwd"])
small_labels = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["", "x", "y"]), max_size=2)
bodies = st.one_of(
    st.builds(proposal, times, texts, trace_id=st.sampled_from(["", "t"])),
    st.builds(
        run, times, texts, st.sampled_from([OK, FAILED, UNKNOWN]), exit_code=st.sampled_from([None, 0, 1])
    ),
    st.builds(verdict, times, st.sampled_from([SUGGESTION_STATUS_ACCEPTED, SUGGESTION_STATUS_REJECTED])),
    st.builds(teaching, times, texts, texts),
)


@st.composite
def any_event(draw: st.DrawFn) -> BlockEvent:
    event = draw(bodies)
    event.labels.update(draw(small_labels))
    event.eval_mode = draw(st.integers(0, 9)) == 9
    return event


@settings(max_examples=200, deadline=None)
@given(events=st.lists(any_event(), max_size=12), random=st.randoms())
def test_any_order_and_any_repetition_give_the_record_that_the_contract_defines(
    events: list[BlockEvent], random: Random
) -> None:
    shuffled = events + events[::2]
    random.shuffle(shuffled)
    expected = encoded(record_by_definition(events))
    assert encoded(record_of(events)) == expected
    assert encoded(record_of(shuffled)) == expected


@settings(max_examples=40, deadline=None)
@given(
    events=st.lists(
        st.builds(run, times, st.integers(0, 30).map("command {}".format), st.just(FAILED)),
        min_size=17,
        max_size=60,
    ),
    random=st.randoms(),
)
def test_the_sixteen_texts_that_failed_last_do_not_depend_on_the_order(
    events: list[BlockEvent], random: Random
) -> None:
    shuffled = events + events[::3]
    random.shuffle(shuffled)
    expected = encoded(record_by_definition(events))
    assert encoded(record_of(events)) == expected
    assert encoded(record_of(shuffled)) == expected


@settings(max_examples=25, deadline=None)
@given(
    events=st.lists(
        st.builds(
            lambda time, keys, value: labelled(time, {f"key-{key:02}": value for key in keys}),
            times,
            st.sets(st.integers(0, 80), min_size=20, max_size=64),
            st.sampled_from(["", "x", "y"]),
        ),
        min_size=2,
        max_size=8,
    ),
    random=st.randoms(),
)
def test_the_sixty_four_labels_set_last_do_not_depend_on_the_order(
    events: list[BlockEvent], random: Random
) -> None:
    shuffled = events + events[::2]
    random.shuffle(shuffled)
    expected = encoded(record_by_definition(events))
    assert encoded(record_of(events)) == expected
    assert encoded(record_of(shuffled)) == expected


@pytest.mark.parametrize(
    "events",
    [
        pytest.param(
            [run(1, "a", OK), run(2, "b", FAILED), run(3, "b"), run(3, "b", FAILED), run(3, "c", FAILED)],
            id="runs, three of them at one time",
        ),
        pytest.param(
            [run(2, "a", OK), run(2, "a", FAILED), run(2, "a"), run(2, "b", exit_code=0), run(1, "a", OK)],
            id="runs of one text at one time that failed and did not",
        ),
        pytest.param(
            [proposal(1, "a"), proposal(1, "b"), proposal(2, "c"), proposal(2, "a"), proposal(1, "a")],
            id="proposals, two earliest and two latest",
        ),
        pytest.param(
            [proposal(1, "a"), run(2, "b"), verdict(2, SUGGESTION_STATUS_ACCEPTED), teaching(3, "q", "a")],
            id="one of each kind",
        ),
        pytest.param(
            [
                labelled(1, {"a": "x"}),
                labelled(2, {"a": ""}),
                labelled(2, {"a": "y"}),
                labelled(3, {"b": ""}),
            ],
            id="labels set and removed at one time",
        ),
    ],
)
def test_every_permutation_of_events_gives_one_record(events: list[BlockEvent]) -> None:
    expected = encoded(record_by_definition(events))
    assert {encoded(record_of(permuted)) for permuted in permutations(events)} == {expected}


def test_an_event_already_known_changes_nothing() -> None:
    events = [
        proposal(1, "a"),
        run(2, "b", FAILED),
        run(1, "c"),
        teaching(3, "q", "a"),
        labelled(2, {"a": "x"}),
    ]
    record = record_of(events)
    assert [fold(record, event) for event in events] == [None] * len(events)


def test_an_event_that_lost_on_every_count_changes_nothing() -> None:
    record = record_of([proposal(1, "a"), proposal(3, "c"), run(2, "b"), labelled(2, {"a": "x"})])
    assert fold(record, proposal(2, "b")) is None
    assert fold(record, run(1, "a")) is None
    assert fold(record, labelled(1, {"a": "y"})) is None


def test_folding_leaves_record_and_event_as_they_are() -> None:
    record = record_of([run(1, "a"), proposal(1, "a"), labelled(1, {"a": "x"})])
    event = run(2, "b", FAILED)
    event.labels["a"] = "y"
    before = encoded(record), encoded(event)
    assert fold(record, event) is not None
    assert (encoded(record), encoded(event)) == before


def test_the_time_of_modification_is_left_to_the_store() -> None:
    record = record_of([run(1, "a")])
    record.modified_time.FromSeconds(77)
    folded = fold(record, run(2, "b"))
    assert folded is not None
    assert folded.modified_time.seconds == 77


def test_events_of_a_forgotten_block_are_dropped() -> None:
    assert fold(BlockRecord(forgotten=True), run(1, "a")) is None


def test_a_success_that_a_failure_supersedes_is_kept() -> None:
    success, failure = run(1, "good", OK), run(2, "bad", FAILED)
    record = record_of([success, failure])
    assert record.executed == failure
    assert record.succeeded == success


def test_a_newer_success_makes_the_older_one_superfluous() -> None:
    record = record_of([run(1, "good", OK), run(2, "bad", FAILED), run(3, "better", OK)])
    assert record.executed.executed.block.contents == "better"
    assert not record.HasField("succeeded")


def test_a_success_that_arrives_late_is_found_behind_the_failure() -> None:
    record = record_of([run(3, "bad", FAILED), run(1, "good"), run(2, "better")])
    assert record.executed.executed.block.contents == "bad"
    assert record.succeeded.executed.block.contents == "better"


def test_the_exit_code_of_a_run_never_lands_on_the_text_of_another() -> None:
    record = record_of([run(2, "new"), run(1, "old", exit_code=1)])
    assert record.executed.executed.block.contents == "new"
    assert not record.executed.executed.HasField("exit_code")


def test_only_the_earliest_and_the_latest_proposal_are_kept() -> None:
    record = record_of([proposal(2, "second"), proposal(3, "third"), proposal(1, "first")])
    assert record.generated.generated.block.contents == "third"
    assert record.first_generated.generated.block.contents == "first"


def test_one_proposal_is_the_latest_and_no_other_is_the_earliest() -> None:
    record = record_of([proposal(1, "a"), proposal(1, "a")])
    assert record.HasField("generated")
    assert not record.HasField("first_generated")


def test_two_proposals_at_one_time_are_both_kept() -> None:
    lesser, greater = sorted([proposal(1, "a"), proposal(1, "b")], key=order)
    record = record_of([greater, lesser])
    assert record.generated == greater
    assert record.first_generated == lesser


def test_of_two_events_at_one_time_the_greater_serialisation_wins() -> None:
    lesser, greater = sorted([teaching(1, "q", "a"), teaching(1, "q", "b")], key=order)
    assert record_of([greater, lesser]).taught == greater


def test_nanoseconds_decide_between_events_of_one_second() -> None:
    assert record_of([run(1.5, "later"), run(1.25, "z earlier")]).executed == run(1.5, "later")


def test_the_mark_of_an_evaluation_outlives_later_events() -> None:
    marked = run(1, "a")
    marked.eval_mode = True
    assert record_of([marked, run(2, "b")]).eval_mode
    assert record_of([run(2, "b"), marked]).eval_mode


def test_an_event_that_lost_still_marks_and_labels_the_block() -> None:
    late = run(1, "a")
    late.eval_mode = True
    late.labels["team"] = "infra"
    record = record_of([run(2, "b"), late])
    assert record.executed == run(2, "b")
    assert record.eval_mode
    assert record.labels["team"].value == "infra"


def test_a_removed_label_does_not_come_back_with_an_older_event() -> None:
    record = record_of([labelled(2, {"team": ""}), labelled(1, {"team": "infra"})])
    assert record.labels["team"].value == ""


def test_a_label_set_after_its_removal_is_there_again() -> None:
    record = record_of([labelled(2, {"team": ""}), labelled(3, {"team": "infra"})])
    assert record.labels["team"].value == "infra"


def test_of_too_many_labels_those_set_latest_stay() -> None:
    first = labelled(1, {f"key-{number:02}": "x" for number in range(LABELS_MAX)})
    record = record_of([first, labelled(2, {"new": "x"})])
    assert len(record.labels) == LABELS_MAX
    assert "new" in record.labels
    assert "key-00" not in record.labels


def test_of_too_many_failed_texts_those_that_failed_last_are_remembered() -> None:
    record = record_of(run(time, f"command {time}", FAILED) for time in range(1, FAILED_TEXTS_MAX + 3))
    hashes = {failed.text_hash for failed in record.failed_texts}
    assert hashes == {text_hash(f"command {time}") for time in range(3, FAILED_TEXTS_MAX + 3)}


def test_a_text_that_failed_twice_is_remembered_once_with_its_latest_failure() -> None:
    record = record_of([run(2, "ls\n", FAILED), run(1, " ls", exit_code=1)])
    assert [failed.event_time.seconds for failed in record.failed_texts] == [2]


def test_fields_that_redaction_cannot_know_are_not_stored() -> None:
    event = run(1, "a")
    with_unknown = BlockEvent.FromString(encoded(event) + b"\xfa\x7f\x06secret")
    assert b"secret" in encoded(with_unknown)
    assert b"secret" not in encoded(record_of([with_unknown]))
    assert record_of([with_unknown, event]) == record_of([event])


@pytest.mark.parametrize(
    ("status", "exit_code", "expected"),
    [
        (UNKNOWN, None, UNKNOWN),
        (UNKNOWN, 0, OK),
        (UNKNOWN, 1, FAILED),
        (UNKNOWN, -1, FAILED),
        (OK, None, OK),
        (OK, 0, OK),
        (OK, 1, OK),
        (FAILED, None, FAILED),
        (FAILED, 0, FAILED),
        (FAILED, 1, FAILED),
    ],
)
def test_what_the_sender_says_of_a_run_outranks_its_exit_code(
    status: ExecutionStatus.ValueType, exit_code: int | None, expected: ExecutionStatus.ValueType
) -> None:
    executed = run(1, "a", status, exit_code=exit_code).executed
    assert execution_status(executed) == expected
    assert run_failed(executed) == (expected == FAILED)


def test_texts_that_differ_in_surrounding_white_space_alone_are_one_text() -> None:
    assert text_hash("\n ls -l\t") == text_hash("ls -l")
    assert text_hash("ls  -l") != text_hash("ls -l")
