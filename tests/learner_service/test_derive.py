"""Which example a block should give, or the first reason why it gives none."""

from itertools import permutations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from errata.store.v1.store_pb2 import BlockRecord
from errata.v1.block_pb2 import (
    BLOCK_KIND_CODE,
    BLOCK_KIND_MARKUP,
    EXECUTION_STATUS_FAILED,
    EXECUTION_STATUS_SUCCEEDED,
    EXECUTION_STATUS_UNSPECIFIED,
    SUGGESTION_STATUS_ACCEPTED,
    Block,
    BlockEvent,
    BlockExecuted,
    BlockGenerated,
    BlockOutput,
    BlockOutputItem,
    Doc,
    ExampleTaught,
    ExecutionStatus,
)
from errata.v1.example_pb2 import (
    EXAMPLE_ORIGIN_CORRECTION,
    EXAMPLE_ORIGIN_EXECUTION,
    EXAMPLE_ORIGIN_TAUGHT,
    Example,
)
from errata.v1.learner_pb2 import (
    NOT_LEARNED_REASON_EVALUATION,
    NOT_LEARNED_REASON_FAILED,
    NOT_LEARNED_REASON_FORGOTTEN,
    NOT_LEARNED_REASON_NOT_EXECUTED,
    NOT_LEARNED_REASON_NOT_GENERATED,
    NOT_LEARNED_REASON_UNCHANGED,
    NotLearnedReason,
)
from learner_service.derive import (
    EXAMPLE_BYTES_MAX,
    Candidate,
    Policy,
    build_example,
    derive,
    example_too_large,
    same_example,
    vector_reusable,
)
from learner_service.fold import fold
from learner_service.keys import BlockKey

KEY = BlockKey("team-a", "block-1")
OK, FAILED, UNKNOWN = EXECUTION_STATUS_SUCCEEDED, EXECUTION_STATUS_FAILED, EXECUTION_STATUS_UNSPECIFIED
CORRECTIONS, EXECUTIONS = Policy.CORRECTIONS, Policy.EXECUTIONS
QUESTION = "How do I list the files?"


def document(text: str) -> Doc:
    return Doc(blocks=[Block(kind=BLOCK_KIND_MARKUP, contents=text)])


def code(text: str) -> Block:
    return Block(kind=BLOCK_KIND_CODE, language="bash", contents=text, id="block-1")


def proposal(seconds: int, text: str, doc: str | None = QUESTION) -> BlockEvent:
    generated = BlockGenerated(block=code(text), doc=None if doc is None else document(doc))
    return BlockEvent(block_id=KEY.id, event_time=Timestamp(seconds=seconds), generated=generated)


def run(
    seconds: int,
    text: str,
    status: ExecutionStatus.ValueType = UNKNOWN,
    *,
    exit_code: int | None = None,
    doc: str | None = None,
) -> BlockEvent:
    executed = BlockExecuted(
        block=code(text), status=status, exit_code=exit_code, doc=None if doc is None else document(doc)
    )
    return BlockEvent(block_id=KEY.id, event_time=Timestamp(seconds=seconds), executed=executed)


def teaching(seconds: int, question: str, *answer: str) -> BlockEvent:
    taught = ExampleTaught(query=document(question), answer=[code(text) for text in answer])
    return BlockEvent(block_id=KEY.id, event_time=Timestamp(seconds=seconds), taught=taught)


def evaluation(seconds: int) -> BlockEvent:
    return BlockEvent(
        block_id=KEY.id,
        event_time=Timestamp(seconds=seconds),
        suggestion=SUGGESTION_STATUS_ACCEPTED,
        eval_mode=True,
    )


def record_of(*events: BlockEvent) -> BlockRecord:
    record = BlockRecord()
    for event in events:
        record = fold(record, event) or record
    return record


def learned(record: BlockRecord, policy: Policy = CORRECTIONS) -> Candidate:
    candidate = derive(record, policy)
    assert isinstance(candidate, Candidate)
    return candidate


def answer_text(record: BlockRecord, policy: Policy = CORRECTIONS) -> str:
    return learned(record, policy).answer[0].contents


def reason_name(record: BlockRecord, policy: Policy) -> str:
    """The reason without its prefix; empty when the block gives an example."""
    derived = derive(record, policy)
    if isinstance(derived, Candidate):
        return ""
    return NotLearnedReason.Name(derived).removeprefix("NOT_LEARNED_REASON_")


def test_the_policies_have_the_names_of_the_flag() -> None:
    assert [Policy("corrections"), Policy("executions")] == [CORRECTIONS, EXECUTIONS]


@pytest.mark.parametrize(
    ("record", "corrections", "executions"),
    [
        pytest.param(BlockRecord(forgotten=True), "FORGOTTEN", "FORGOTTEN", id="forgotten"),
        pytest.param(
            BlockRecord(forgotten=True, eval_mode=True), "FORGOTTEN", "FORGOTTEN", id="forgotten comes first"
        ),
        pytest.param(record_of(evaluation(1)), "EVALUATION", "EVALUATION", id="evaluation, nothing ran"),
        pytest.param(
            record_of(proposal(1, "ls"), run(2, "ls -l"), evaluation(3)),
            "EVALUATION",
            "EVALUATION",
            id="evaluation of a corrected block",
        ),
        pytest.param(
            record_of(teaching(1, QUESTION, "ls"), evaluation(3)),
            "EVALUATION",
            "EVALUATION",
            id="taught in one",
        ),
        pytest.param(record_of(proposal(1, "ls")), "NOT_EXECUTED", "NOT_EXECUTED", id="proposed only"),
        pytest.param(
            record_of(proposal(1, "ls"), run(2, "ls -l", FAILED)), "FAILED", "FAILED", id="every run failed"
        ),
        pytest.param(record_of(run(2, "ls", FAILED)), "FAILED", "FAILED", id="failed before not generated"),
        pytest.param(record_of(run(2, "", exit_code=1)), "FAILED", "FAILED", id="failed before blank"),
        pytest.param(record_of(run(2, "ls", doc=QUESTION)), "NOT_GENERATED", "", id="written by a person"),
        pytest.param(record_of(run(2, " ", doc=QUESTION)), "NOT_GENERATED", "BLANK", id="blank, by a person"),
        pytest.param(record_of(run(2, "ls")), "NOT_GENERATED", "NO_CONTEXT", id="by a person, no document"),
        pytest.param(record_of(proposal(1, "ls"), run(2, " ls\n")), "UNCHANGED", "", id="ran as proposed"),
        pytest.param(
            record_of(proposal(1, "\n"), run(2, " ")), "UNCHANGED", "BLANK", id="blank, as it was proposed"
        ),
        pytest.param(
            record_of(proposal(1, "ls", doc=None), run(2, "ls")),
            "UNCHANGED",
            "NO_CONTEXT",
            id="ran as proposed, no document",
        ),
        pytest.param(record_of(proposal(1, "ls"), run(2, "\n")), "BLANK", "BLANK", id="ran blank"),
        pytest.param(
            record_of(proposal(1, "ls", doc=None), run(2, "")), "BLANK", "BLANK", id="blank before no context"
        ),
        pytest.param(
            record_of(proposal(1, "ls", doc=None), run(2, "ls -l")),
            "NO_CONTEXT",
            "NO_CONTEXT",
            id="no document",
        ),
        pytest.param(
            record_of(proposal(1, "ls"), run(2, "ls -l", doc=" ")),
            "NO_CONTEXT",
            "NO_CONTEXT",
            id="the run's own document is blank",
        ),
        pytest.param(record_of(proposal(1, "ls"), run(2, "ls -l")), "", "", id="corrected"),
        pytest.param(record_of(teaching(1, QUESTION, "ls")), "", "", id="taught"),
        pytest.param(
            record_of(teaching(1, QUESTION, "ls"), run(2, "ls -l", FAILED)), "", "", id="taught, then run"
        ),
        pytest.param(record_of(teaching(1, QUESTION, " ")), "BLANK", "BLANK", id="taught nothing"),
        pytest.param(
            record_of(teaching(1, "", "ls")), "NO_CONTEXT", "NO_CONTEXT", id="taught without a question"
        ),
        pytest.param(record_of(teaching(1, "", "")), "BLANK", "BLANK", id="taught: blank before no context"),
    ],
)
def test_the_first_reason_that_applies_is_given(
    record: BlockRecord, corrections: str, executions: str
) -> None:
    assert reason_name(record, CORRECTIONS) == corrections
    assert reason_name(record, EXECUTIONS) == executions


# --- Runs that failed and runs that did not.


@pytest.mark.parametrize(
    ("status", "exit_code", "counts_as_failed"),
    [
        (UNKNOWN, None, False),
        (UNKNOWN, 0, False),
        (UNKNOWN, 1, True),
        (OK, None, False),
        (OK, 0, False),
        (OK, 1, False),
        (FAILED, None, True),
        (FAILED, 0, True),
        (FAILED, 1, True),
    ],
)
def test_a_run_is_learned_unless_it_is_known_to_have_failed(
    status: ExecutionStatus.ValueType, exit_code: int | None, *, counts_as_failed: bool
) -> None:
    record = record_of(proposal(1, "ls"), run(2, "ls -l", status, exit_code=exit_code))
    assert reason_name(record, CORRECTIONS) == ("FAILED" if counts_as_failed else "")


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        pytest.param([run(2, "a", OK), run(3, "a", FAILED)], None, id="the same text failed later"),
        pytest.param([run(2, "a", OK), run(3, "\ta\n", FAILED)], None, id="later, with other white space"),
        pytest.param(
            [run(2, "a", OK), run(2, "a", FAILED)], None, id="the same text failed at the same time"
        ),
        pytest.param([run(1, "a", FAILED), run(2, "a", OK)], "a", id="the same text failed before"),
        pytest.param([run(2, "a", OK), run(3, "b", FAILED)], "a", id="another text failed later"),
        pytest.param([run(2, "a", OK), run(2, "b", FAILED)], "a", id="another text failed at the same time"),
        pytest.param([run(2, "a", OK), run(3, "a", FAILED), run(4, "a", OK)], "a", id="and worked again"),
        pytest.param([run(2, "a", OK), run(3, "a", FAILED), run(4, "b", OK)], "b", id="another text worked"),
        pytest.param(
            [run(2, "a", OK), run(3, "b", OK), run(4, "b", FAILED)],
            None,
            id="no way back to an older success",
        ),
        pytest.param(
            [run(2, "a", OK), run(3, "b"), run(4, "c", FAILED)], "b", id="unknown counts as success"
        ),
        pytest.param(
            [run(2, "a", OK), run(3, "a", FAILED), run(4, "b", FAILED)], None, id="both texts failed since"
        ),
    ],
)
def test_the_latest_run_that_did_not_fail_is_learned_unless_its_text_failed_since(
    runs: list[BlockEvent], expected: str | None
) -> None:
    for events in permutations([proposal(1, "proposed"), *runs]):
        derived = derive(record_of(*events), CORRECTIONS)
        if expected is None:
            assert derived == NOT_LEARNED_REASON_FAILED
        else:
            assert isinstance(derived, Candidate)
            assert [block.contents for block in derived.answer] == [expected]


# --- Ways in and out of qualification.


def test_a_failed_run_of_another_text_changes_nothing() -> None:
    before = record_of(proposal(1, "ls"), run(2, "ls -l"))
    after = fold(before, run(3, "rm", FAILED))
    assert after is not None
    assert derive(after, CORRECTIONS) == derive(before, CORRECTIONS)


def test_a_later_proposal_of_what_was_run_does_not_unlearn_it() -> None:
    record = record_of(proposal(1, "ls"), run(2, "ls -l"), proposal(3, "ls -l"))
    assert answer_text(record) == "ls -l"
    assert learned(record).origin == EXAMPLE_ORIGIN_CORRECTION


def test_a_run_that_the_latest_proposal_contradicts_is_a_correction() -> None:
    record = record_of(proposal(1, "ls"), proposal(3, "ls -a"), run(4, "ls"))
    assert learned(record).origin == EXAMPLE_ORIGIN_CORRECTION


def test_a_run_equal_to_every_proposal_is_no_correction() -> None:
    record = record_of(proposal(1, "ls"), run(2, "ls"), proposal(3, " ls "))
    assert derive(record, CORRECTIONS) == NOT_LEARNED_REASON_UNCHANGED
    assert learned(record, EXECUTIONS).origin == EXAMPLE_ORIGIN_EXECUTION


def test_a_block_edited_back_to_its_proposal_stops_qualifying_and_qualifies_again() -> None:
    corrected = record_of(proposal(1, "ls"), run(2, "ls -l"))
    back = fold(corrected, run(3, "ls"))
    assert back is not None
    assert derive(back, CORRECTIONS) == NOT_LEARNED_REASON_UNCHANGED
    again = fold(back, run(4, "ls -l"))
    assert again is not None
    assert answer_text(again) == "ls -l"


def test_a_proposal_that_arrives_after_the_run_makes_it_a_correction() -> None:
    record = record_of(run(2, "ls -l"))
    assert derive(record, CORRECTIONS) == NOT_LEARNED_REASON_NOT_GENERATED
    late = fold(record, proposal(1, "ls"))
    assert late is not None
    assert learned(late).origin == EXAMPLE_ORIGIN_CORRECTION


def test_the_mark_of_an_evaluation_unlearns_for_good() -> None:
    record = record_of(proposal(1, "ls"), run(2, "ls -l"), evaluation(1), run(3, "ls -la"))
    assert derive(record, CORRECTIONS) == NOT_LEARNED_REASON_EVALUATION
    assert derive(record, EXECUTIONS) == NOT_LEARNED_REASON_EVALUATION


def test_a_forgotten_block_is_not_learned_from_again() -> None:
    assert fold(BlockRecord(forgotten=True), run(3, "ls -la")) is None
    assert derive(BlockRecord(forgotten=True), EXECUTIONS) == NOT_LEARNED_REASON_FORGOTTEN


def test_nothing_is_learned_before_a_block_runs() -> None:
    record = record_of(proposal(1, "ls"))
    assert derive(record, EXECUTIONS) == NOT_LEARNED_REASON_NOT_EXECUTED


@pytest.mark.parametrize("policy", list(Policy))
def test_what_was_taught_outranks_what_ran_under_every_policy(policy: Policy) -> None:
    record = record_of(teaching(1, "taught question", "taught"), proposal(2, "ls"), run(3, "ls -l"))
    candidate = learned(record, policy)
    assert candidate.origin == EXAMPLE_ORIGIN_TAUGHT
    assert candidate.query.text == "taught question"
    assert [block.contents for block in candidate.answer] == ["taught"]
    assert candidate.executed_time == Timestamp(seconds=1)


def test_a_later_teaching_replaces_an_earlier_one() -> None:
    record = record_of(teaching(2, "new", "new answer"), teaching(1, "old", "old answer"))
    assert answer_text(record) == "new answer"


def test_blank_blocks_answer_nothing() -> None:
    record = record_of(teaching(1, QUESTION, "", "ls", "\n", "pwd"))
    assert [block.contents for block in learned(record).answer] == ["ls", "pwd"]


# --- The question.


def test_the_question_is_the_document_of_the_run_itself() -> None:
    record = record_of(proposal(1, "ls", "as proposed"), run(2, "ls -l", doc="as run"))
    assert learned(record).query.text == "as run"


def test_the_question_is_that_of_the_latest_proposal_where_the_run_has_none() -> None:
    record = record_of(proposal(1, "ls", "first"), proposal(3, "ls", "latest"), run(2, "ls -l"))
    assert learned(record).query.text == "latest"


def test_a_failed_run_does_not_lend_its_document_to_the_candidate() -> None:
    record = record_of(
        proposal(1, "ls", "as proposed"), run(2, "ls -l"), run(3, "rm", FAILED, doc="of the failed run")
    )
    assert learned(record).query.text == "as proposed"


# --- The candidate and its example.


def test_the_answer_is_what_ran_without_what_it_printed() -> None:
    event = run(2, "ls -l")
    printed = BlockOutput(items=[BlockOutputItem(mime="text/plain", text_data="total 0")])
    event.executed.block.outputs.append(printed)
    record = record_of(proposal(1, "ls"), event)
    assert learned(record).answer == (code("ls -l"),)


def test_removed_labels_are_not_part_of_an_example() -> None:
    event, removal = run(2, "ls -l"), run(3, "rm", FAILED)
    event.labels.update({"team": "infra", "tier": "gold"})
    removal.labels["tier"] = ""
    assert learned(record_of(proposal(1, "ls"), event, removal)).labels == {"team": "infra"}


def test_the_time_of_an_example_is_that_of_the_run_it_was_learned_from() -> None:
    record = record_of(proposal(1, "ls"), run(2, "ls -l"), run(3, "rm", FAILED))
    assert learned(record).executed_time == Timestamp(seconds=2)


def test_deriving_leaves_the_record_alone_and_shares_nothing_with_it() -> None:
    record = record_of(proposal(1, "ls"), run(2, "ls -l", doc=QUESTION))
    before = record.SerializeToString(deterministic=True)
    candidate = learned(record)
    candidate.executed_time.seconds = 99
    candidate.answer[0].contents = "changed"
    candidate.query.blocks[0].contents = "changed"
    assert record.SerializeToString(deterministic=True) == before


def an_example() -> Example:
    event = run(2, "ls -l")
    event.labels["team"] = "infra"
    candidate = learned(record_of(proposal(1, "ls"), event))
    return build_example(KEY, candidate, fingerprint="hashing/1")


def test_an_example_carries_all_of_its_candidate_and_the_identity_of_its_block() -> None:
    assert an_example() == Example(
        id="block-1",
        namespace="team-a",
        query=document(QUESTION),
        answer=[code("ls -l")],
        labels={"team": "infra"},
        query_text=QUESTION,
        embedder_fingerprint="hashing/1",
        executed_time=Timestamp(seconds=2),
        origin=EXAMPLE_ORIGIN_CORRECTION,
    )


def test_examples_that_differ_in_embedding_and_modified_time_alone_are_the_same() -> None:
    stored = an_example()
    stored.embedding = b"\0\0\x80?"
    stored.modified_time.FromSeconds(77)
    assert same_example(stored, an_example())
    assert same_example(an_example(), stored)
    assert stored.embedding
    assert stored.HasField("modified_time")


@pytest.mark.parametrize(
    "different",
    [
        Example(id="x"),
        Example(namespace="x"),
        Example(query=document("x")),
        Example(answer=[code("x")]),
        Example(labels={"x": "x"}),
        Example(query_text="x"),
        Example(embedder_fingerprint="x"),
        Example(executed_time=Timestamp(nanos=1)),
        Example(origin=EXAMPLE_ORIGIN_TAUGHT),
    ],
    ids=lambda example: str(example.ListFields()[0][0].name),
)
def test_examples_that_differ_in_any_other_field_are_not_the_same(different: Example) -> None:
    changed = an_example()
    changed.MergeFrom(different)
    assert not same_example(an_example(), changed)


def test_the_vector_of_a_text_is_kept_whatever_else_changes() -> None:
    old, new = an_example(), an_example()
    old.embedding = b"\0\0\x80?"
    new.answer[0].contents = "something else"
    assert vector_reusable(old, new)


def test_a_vector_is_not_kept_for_another_text_or_embedder_nor_where_there_is_none() -> None:
    old, other_text, other_embedder = an_example(), an_example(), an_example()
    assert not vector_reusable(old, an_example())
    old.embedding = b"\0\0\x80?"
    other_text.query_text = "something else"
    other_embedder.embedder_fingerprint = "something else"
    assert not vector_reusable(old, other_text)
    assert not vector_reusable(old, other_embedder)


@pytest.mark.parametrize("dimension", [1, 384, 4096])
def test_an_example_that_is_not_too_large_fits_with_its_embedding(dimension: int) -> None:
    example = an_example()
    example.answer[0].contents = "x" * (EXAMPLE_BYTES_MAX - example.ByteSize() - 4 * dimension - 100)
    while not example_too_large(example, dimension):
        stored = Example()
        stored.CopyFrom(example)
        stored.embedding = bytes(4 * dimension)
        stored.modified_time.FromMicroseconds(1_700_000_000_123_456)
        assert stored.ByteSize() <= EXAMPLE_BYTES_MAX
        assert not example_too_large(stored, dimension)
        example.answer[0].contents += "x"
    assert example.ByteSize() + 4 * dimension > EXAMPLE_BYTES_MAX - 100
