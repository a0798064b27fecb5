"""What is stored goes through other rules as if it had been recorded under them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errata.store.v1.store_pb2 import BlockRecord, TraceRecord
from errata.text import REDACTION_RULES_HASH, redact, redact_event
from errata.v1.block_pb2 import SUGGESTION_STATUS_ACCEPTED, BlockEvent
from learner_service.derive import Candidate, Policy, derive
from learner_service.fold import fold
from learner_service.forgetting import forget
from learner_service.recorder import Recorder
from learner_service.redaction_rewrite import ROWS_MAX, _rewrite_some, redacted_record, redacted_trace
from learner_service.start import adopt_redaction
from learner_service.store.read_transaction import ReadTransaction
from learner_service.store.store import Store
from learner_service.store.write_transaction import WriteTransaction
from tests.block_events import code, correction, document, event, proposed, prose, ran, taught
from tests.learner_service.conftest import GIB, ManualClock
from tests.learner_service.learning_parts import Parts, key_of

SECRET = "ghp_" + "0123456789abcdef" * 3
TEXTS = (
    "ls",
    f"deploy --to one --token {SECRET}",
    f"deploy --to two --token {SECRET}",
    f"curl -H 'Authorization: Bearer {SECRET}' example.com",
    "  ls  ",
)
"""Texts whose redacted forms differ, but for white space around them."""


def record_of(events: Iterable[BlockEvent]) -> BlockRecord:
    record = BlockRecord()
    for each in events:
        record = fold(record, each) or record
    return record


def redacted(events: Iterable[BlockEvent]) -> list[BlockEvent]:
    copies = []
    for each in events:
        copy = BlockEvent()
        copy.CopyFrom(each)
        redact_event(copy)
        copies.append(copy)
    return copies


@st.composite
def events(draw: st.DrawFn, texts: Sequence[str] = TEXTS) -> list[BlockEvent]:
    """Events of one block, no two of one kind at one time."""
    made = []
    for at_s in draw(st.lists(st.integers(0, 20), max_size=8, unique=True)):
        text = st.sampled_from(texts)
        kind = draw(st.sampled_from(("proposed", "ran", "failed", "taught", "suggestion")))
        if kind == "proposed":
            each = proposed("b", draw(text), draw(text), at_s=at_s, output=draw(text))
        elif kind == "taught":
            each = taught("b", draw(text), draw(text), at_s=at_s)
        elif kind == "suggestion":
            each = event("b", at_s)
            each.suggestion = SUGGESTION_STATUS_ACCEPTED
        else:
            asked = draw(st.none() | text)
            each = ran("b", draw(text), at_s=at_s, asked=asked, exit_code=1 if kind == "failed" else None)
        each.labels.update(draw(st.dictionaries(st.sampled_from("kl"), text, max_size=2)))
        made.append(each)
    return made


@given(events())
@settings(max_examples=300, deadline=None)
def test_a_rewritten_record_is_that_of_redacted_events(happened: list[BlockEvent]) -> None:
    raw, wanted = record_of(happened), record_of(redacted(happened))
    before = raw.SerializeToString(deterministic=True)
    rewritten = redacted_record(raw)
    assert raw.SerializeToString(deterministic=True) == before
    if rewritten is None:
        rewritten = raw
    # A hash cannot be rewritten without its text, but what follows from it is the same.
    for policy in Policy:
        assert derive(rewritten, policy) == derive(wanted, policy)
    assert redacted_record(rewritten) is None
    for record in (rewritten, wanted):
        record.ClearField("failed_texts")
    assert rewritten == wanted


def test_the_failure_of_a_text_that_is_kept_follows_it() -> None:
    raw = record_of([ran("b", TEXTS[1], at_s=1, asked="deploy"), ran("b", TEXTS[1], at_s=2, exit_code=1)])
    rewritten = redacted_record(raw)
    assert rewritten == record_of(
        redacted([ran("b", TEXTS[1], at_s=1, asked="deploy"), ran("b", TEXTS[1], at_s=2, exit_code=1)])
    )
    assert not isinstance(derive(rewritten, Policy.EXECUTIONS), Candidate)


def test_the_failure_of_a_text_that_is_not_kept_counts_for_its_old_form_alone() -> None:
    other = TEXTS[1].replace("0", "9")
    assert redact(other) == redact(TEXTS[1])
    happened = [
        ran("b", TEXTS[1], at_s=1, asked="deploy"),
        ran("b", other, at_s=2, exit_code=1),
        ran("b", "date", at_s=3, exit_code=1),
    ]
    assert not isinstance(derive(record_of(redacted(happened)), Policy.EXECUTIONS), Candidate)
    rewritten = redacted_record(record_of(happened))
    assert rewritten is not None
    # Two texts that differ in a secret alone were two when they were recorded, and one has not failed.
    assert isinstance(derive(rewritten, Policy.EXECUTIONS), Candidate)


def test_two_proposals_that_differ_in_a_secret_alone_become_one() -> None:
    happened = [proposed("b", "deploy", text) for text in (TEXTS[1], TEXTS[1].replace("0", "9"))]
    raw = record_of(happened)
    assert raw.HasField("first_generated")
    rewritten = redacted_record(raw)
    assert rewritten == record_of(redacted(happened))
    assert not rewritten.HasField("first_generated")


def test_the_parts_of_a_trace_are_redacted() -> None:
    trace = TraceRecord(request=document(TEXTS[1]), response=[code(TEXTS[2])], run=ran("b", TEXTS[3]))
    trace.modified_time.FromMicroseconds(5)
    wanted = TraceRecord(
        request=document(redact(TEXTS[1])), response=[code(redact(TEXTS[2]))], run=ran("b", redact(TEXTS[3]))
    )
    wanted.modified_time.FromMicroseconds(5)
    assert redacted_trace(trace) == wanted
    assert redacted_trace(wanted) is None
    joined = TraceRecord(generation_joined=True, block_ids=["b"])
    assert redacted_trace(joined) is None


# --- A whole store

BLOCK_COUNT = 2 * ROWS_MAX + 100
TRACE_COUNT = ROWS_MAX + 50


def block_events(number: int) -> list[BlockEvent]:
    """Of a block with a secret, a third of them."""
    command = f"deploy --number {number}" + (f" --token {SECRET}" if number % 3 == 0 else "")
    return correction(f"b{number:05}", f"deploy number {number}", command, namespace="team" * (number % 2))


async def fill(store: Store, *, redaction: bool) -> None:
    """Records blocks and traces, with all learning done."""
    recorder = Recorder(store, lambda _: None, redaction=redaction)
    await recorder.record([each for number in range(BLOCK_COUNT) for each in block_events(number)])

    def put_traces(transaction: WriteTransaction) -> None:
        for number in range(TRACE_COUNT):
            text = TEXTS[1] if number % 2 else "ls"
            trace = TraceRecord(request=document(redact(text) if redaction else text))
            transaction.put_trace("team" * (number % 3), f"t{number:05}", trace)
        for key, _ in list(transaction.pending_after(None)):
            transaction.delete_pending(key)

    await store.write(put_traces)


def contents_of(transaction: ReadTransaction) -> list[object]:
    """Blocks, without the time of their change, and traces."""
    blocks: list[object] = []
    for key, record in transaction.blocks_after(None):
        record.ClearField("modified_time")
        blocks.append((key, record))
    return blocks + list(transaction.traces_after("", ""))


def waiting(store: Store) -> set[str]:
    with store.read() as transaction:
        return {key.id for key, _ in transaction.pending_after(None)}


@pytest.mark.parametrize("step_count", [0, 1, 3, 4, 6, 7])
async def test_a_rewrite_that_is_cut_short_is_taken_up_and_ends_where_recording_under_the_rules_would(
    tmp_path: Path, clock: ManualClock, step_count: int
) -> None:
    with Store.open(tmp_path / "wanted", clock_us=clock, bytes_max=GIB) as store:
        await fill(store, redaction=True)
        with store.read() as transaction:
            wanted = contents_of(transaction)
    with Store.open(tmp_path / "store", clock_us=clock, bytes_max=GIB) as store:
        await adopt_redaction(store, None)
        await fill(store, redaction=False)
        for _ in range(step_count):
            await store.write(lambda transaction: _rewrite_some(transaction, REDACTION_RULES_HASH))
        with store.read() as transaction:
            # The rules are those of the store only when all of it has gone through them.
            assert (transaction.redaction_hash == REDACTION_RULES_HASH) == (step_count == 7)
    with Store.open(tmp_path / "store", clock_us=clock, bytes_max=GIB) as store:
        await adopt_redaction(store, REDACTION_RULES_HASH)
        with store.read() as transaction:
            assert contents_of(transaction) == wanted
            assert transaction.redaction_hash == REDACTION_RULES_HASH
            head_us = transaction.clock_us
        # A block that changed counts as changed by an event, and no other does.
        assert waiting(store) == {f"b{number:05}" for number in range(0, BLOCK_COUNT, 3)}
        assert store.check() == []
        # Other rules that find nothing more change nothing.
        await adopt_redaction(store, b"other rules 0123")
        await adopt_redaction(store, REDACTION_RULES_HASH)
        with store.read() as transaction:
            assert contents_of(transaction) == wanted
            assert transaction.clock_us == head_us


@pytest.mark.parametrize("given_up_by_start", [True, False])
async def test_a_rewrite_given_up_half_way_misses_nothing_that_was_recorded_since(
    store: Store, *, given_up_by_start: bool
) -> None:
    await adopt_redaction(store, None)
    await fill(store, redaction=False)
    towards = REDACTION_RULES_HASH if given_up_by_start else b"other rules 0123"
    await store.write(lambda transaction: _rewrite_some(transaction, towards))
    if given_up_by_start:
        await adopt_redaction(store, None)
    # Below the place where the rewrite stood.
    await Recorder(store, lambda _: None, redaction=False).record([ran("a", TEXTS[1])])
    await adopt_redaction(store, REDACTION_RULES_HASH)
    with store.read() as transaction:
        assert SECRET not in str(contents_of(transaction))
    assert "a" in waiting(store)


async def test_an_example_with_a_secret_is_learned_again_without_it(parts: Parts) -> None:
    await adopt_redaction(parts.store, None)
    raw = Recorder(parts.store, parts.learning.notify, redaction=False)
    await raw.record([*correction("b", "deploy", TEXTS[1]), *correction("other", "list files", "ls")])
    await parts.store.write(lambda transaction: forget(transaction, key_of("forgotten")))
    async with parts.running():
        await parts.learned("b", "other")
    assert parts.answer("b") == TEXTS[1]
    await adopt_redaction(parts.store, REDACTION_RULES_HASH)
    assert waiting(parts.store) == {"b"}
    head = parts.head
    parts.learning.notify({key_of("b")})
    async with parts.running():
        await parts.learned("b")
    assert parts.answer("b") == redact(TEXTS[1])
    # The question is the same, and keeps its vector.
    assert (parts.head, parts.embedder.embedded.count("deploy")) == (head + 1, 1)


async def test_a_recorder_without_redaction_stores_what_comes(parts: Parts) -> None:
    asked = f"why does {SECRET} not work"
    for redaction, stored in ((False, asked), (True, redact(asked))):
        happened = ran(f"b-{redaction}", "ls", asked=asked)
        await Recorder(parts.store, lambda _: None, redaction=redaction).record([happened])
        with parts.store.read() as transaction:
            record = transaction.block(key_of(f"b-{redaction}"))
        assert record is not None
        assert list(record.executed.executed.doc.blocks) == [prose(stored)]


@pytest.fixture
def parts(store: Store, clock: ManualClock) -> Parts:
    return Parts(store, clock)
