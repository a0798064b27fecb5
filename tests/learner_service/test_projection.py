"""What callers see of a block and of what was learned from it."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from errata.store.v1.store_pb2 import BlockRecord, PendingRecord
from errata.v1.block_pb2 import (
    BLOCK_KIND_CODE,
    BLOCK_KIND_MARKUP,
    EXECUTION_STATUS_FAILED,
    EXECUTION_STATUS_SUCCEEDED,
    EXECUTION_STATUS_UNSPECIFIED,
    SUGGESTION_STATUS_REJECTED,
    Block,
    BlockEvent,
    BlockExecuted,
    BlockGenerated,
    BlockLog,
    BlockOutput,
    BlockOutputItem,
    Doc,
    ExampleTaught,
    ExecutionStatus,
)
from errata.v1.example_pb2 import ExampleKey
from errata.v1.learner_pb2 import BlockState, NotLearnedReason
from learner_service.derive import Policy
from learner_service.fold import fold
from learner_service.keys import BlockKey
from learner_service.projection import block_log, block_state

KEY = BlockKey("team-a", "block-1")
MODIFIED = Timestamp(seconds=1_700_000_000, nanos=123_456_000)
WAITING = PendingRecord(failed_attempt_count=2, last_error="the embedder is away")
PARKED = PendingRecord(failed_attempt_count=1, last_error="the embedder refuses the text", parked=True)


def code(text: str) -> Block:
    printed = BlockOutput(items=[BlockOutputItem(mime="text/plain", text_data="total 0")])
    return Block(kind=BLOCK_KIND_CODE, language="bash", contents=text, outputs=[printed])


def document(text: str) -> Doc:
    return Doc(blocks=[Block(kind=BLOCK_KIND_MARKUP, contents=text)])


def proposal(seconds: int, text: str) -> BlockEvent:
    generated = BlockGenerated(block=code(text), doc=document("as proposed"), trace_id=f"trace-{seconds}")
    return BlockEvent(block_id=KEY.id, event_time=Timestamp(seconds=seconds), generated=generated)


def run(
    seconds: int,
    text: str,
    status: ExecutionStatus.ValueType = EXECUTION_STATUS_UNSPECIFIED,
    *,
    exit_code: int | None = None,
    doc: str | None = None,
) -> BlockEvent:
    executed = BlockExecuted(
        block=code(text), status=status, exit_code=exit_code, doc=None if doc is None else document(doc)
    )
    return BlockEvent(block_id=KEY.id, event_time=Timestamp(seconds=seconds), executed=executed)


def record_of(*events: BlockEvent) -> BlockRecord:
    record = BlockRecord()
    for event in events:
        record = fold(record, event) or record
    record.modified_time.CopyFrom(MODIFIED)
    return record


def state_of(
    record: BlockRecord,
    pending: PendingRecord | None = None,
    *,
    learned: bool = False,
    policy: Policy = Policy.CORRECTIONS,
) -> BlockState:
    return block_state(
        KEY, record, pending, learned=learned, policy=policy, fingerprint="hashing/1", dimension=64
    )


def reason_name(state: BlockState) -> str:
    return NotLearnedReason.Name(state.reason).removeprefix("NOT_LEARNED_REASON_")


CORRECTED = record_of(proposal(1, "ls"), run(2, "ls -l"))
UNCHANGED = record_of(proposal(1, "ls"), run(2, "ls"))
HUGE = record_of(proposal(1, "ls"), run(2, "x" * 1024 * 1024))
FORGOTTEN = BlockRecord(forgotten=True, modified_time=MODIFIED)


# --- block_log


def test_every_kind_of_event_shows_in_the_block() -> None:
    verdict = BlockEvent(
        block_id=KEY.id,
        event_time=Timestamp(seconds=5),
        suggestion=SUGGESTION_STATUS_REJECTED,
        eval_mode=True,
        labels={"team": "infra", "gone": ""},
    )
    lesson = ExampleTaught(query=document("taught"), answer=[code("taught")])
    teaching = BlockEvent(block_id=KEY.id, event_time=Timestamp(seconds=6), taught=lesson)
    record = record_of(
        proposal(1, "first"),
        proposal(2, "proposed"),
        run(3, "worked"),
        run(4, "failed", exit_code=3, doc="as run"),
        verdict,
        teaching,
    )
    assert block_log(KEY, record) == BlockLog(
        id="block-1",
        namespace="team-a",
        gen_trace_id="trace-2",
        doc=document("as run"),
        generated_block=code("proposed"),
        executed_block=code("failed"),
        exit_code=3,
        eval_mode=True,
        resource_version=block_log(KEY, record).resource_version,
        suggestion_status=SUGGESTION_STATUS_REJECTED,
        execution_status=EXECUTION_STATUS_FAILED,
        labels={"team": "infra"},
        modified_time=MODIFIED,
        succeeded_block=code("worked"),
        taught=lesson,
    )


def test_a_block_that_only_ran_shows_no_proposal() -> None:
    log = block_log(KEY, record_of(run(1, "ls")))
    assert log.HasField("executed_block")
    assert not log.HasField("generated_block")
    assert not log.HasField("doc")
    assert not log.HasField("succeeded_block")
    assert not log.HasField("taught")
    assert log.gen_trace_id == ""


def test_a_block_that_was_only_proposed_shows_no_run() -> None:
    log = block_log(KEY, record_of(proposal(1, "ls")))
    assert log.HasField("generated_block")
    assert not log.HasField("executed_block")
    assert not log.HasField("exit_code")
    assert log.execution_status == EXECUTION_STATUS_UNSPECIFIED


def test_the_document_of_the_proposal_shows_where_the_last_run_names_none() -> None:
    log = block_log(KEY, record_of(proposal(1, "ls"), run(2, "ls -l", doc="as run"), run(3, "ls -a")))
    assert log.doc == document("as proposed")


@pytest.mark.parametrize(
    ("status", "exit_code", "shown"),
    [
        (EXECUTION_STATUS_UNSPECIFIED, None, EXECUTION_STATUS_UNSPECIFIED),
        (EXECUTION_STATUS_UNSPECIFIED, 0, EXECUTION_STATUS_SUCCEEDED),
        (EXECUTION_STATUS_UNSPECIFIED, 1, EXECUTION_STATUS_FAILED),
        (EXECUTION_STATUS_SUCCEEDED, 1, EXECUTION_STATUS_SUCCEEDED),
        (EXECUTION_STATUS_FAILED, 0, EXECUTION_STATUS_FAILED),
    ],
)
def test_how_a_run_ended_is_as_its_sender_said_or_follows_from_the_exit_code(
    status: ExecutionStatus.ValueType, exit_code: int | None, shown: ExecutionStatus.ValueType
) -> None:
    log = block_log(KEY, record_of(run(1, "ls", status, exit_code=exit_code)))
    assert log.execution_status == shown
    assert log.HasField("exit_code") == (exit_code is not None)


def test_the_resource_version_changes_with_every_write() -> None:
    before, after = record_of(run(1, "ls")), record_of(run(1, "ls"))
    after.modified_time.FromMicroseconds(before.modified_time.ToMicroseconds() + 1)
    versions = {block_log(KEY, record).resource_version for record in (before, after)}
    assert len(versions) == 2


def test_a_forgotten_block_shows_nothing_but_that_it_is_forgotten() -> None:
    record = record_of(proposal(1, "secret"), run(2, "secret"))
    record.labels["team"].value = "secret"
    record.eval_mode = True
    record.forgotten = True
    log = block_log(KEY, record)
    assert log == BlockLog(
        id="block-1",
        namespace="team-a",
        resource_version=log.resource_version,
        modified_time=MODIFIED,
        forgotten=True,
    )


def test_the_block_shown_shares_nothing_with_the_record() -> None:
    record = record_of(proposal(1, "ls"), run(2, "ls -l"))
    before = record.SerializeToString(deterministic=True)
    log = block_log(KEY, record)
    log.executed_block.contents = "changed"
    log.doc.blocks[0].contents = "changed"
    assert record.SerializeToString(deterministic=True) == before


# --- block_state


@pytest.mark.parametrize(
    ("record", "pending", "corrections", "executions"),
    [
        pytest.param(CORRECTED, WAITING, "PENDING", "PENDING", id="waits"),
        pytest.param(FORGOTTEN, WAITING, "PENDING", "PENDING", id="waiting comes first of all"),
        pytest.param(FORGOTTEN, None, "FORGOTTEN", "FORGOTTEN", id="forgotten"),
        pytest.param(
            record_of(BlockEvent(eval_mode=True)), None, "EVALUATION", "EVALUATION", id="evaluation"
        ),
        pytest.param(record_of(proposal(1, "ls")), None, "NOT_EXECUTED", "NOT_EXECUTED", id="not executed"),
        pytest.param(
            record_of(proposal(1, "ls"), run(2, "ls", exit_code=1)), None, "FAILED", "FAILED", id="failed"
        ),
        pytest.param(
            record_of(run(2, "ls", doc="as run")), None, "NOT_GENERATED", "PENDING", id="not generated"
        ),
        pytest.param(UNCHANGED, None, "UNCHANGED", "PENDING", id="unchanged"),
        pytest.param(record_of(proposal(1, "ls"), run(2, " ")), None, "BLANK", "BLANK", id="blank"),
        pytest.param(
            record_of(proposal(1, "ls"), run(2, "ls -l", doc="")),
            None,
            "NO_CONTEXT",
            "NO_CONTEXT",
            id="no context",
        ),
        pytest.param(HUGE, None, "TOO_LARGE", "TOO_LARGE", id="too large"),
        pytest.param(HUGE, PARKED, "TOO_LARGE", "TOO_LARGE", id="too large comes before an error"),
        pytest.param(UNCHANGED, PARKED, "UNCHANGED", "ERROR", id="unchanged comes before an error"),
        pytest.param(CORRECTED, PARKED, "ERROR", "ERROR", id="failed for good"),
        pytest.param(CORRECTED, None, "PENDING", "PENDING", id="nothing learned yet, as before a backfill"),
    ],
)
def test_the_first_reason_why_there_is_no_example_is_given(
    record: BlockRecord, pending: PendingRecord | None, corrections: str, executions: str
) -> None:
    for policy, expected in ((Policy.CORRECTIONS, corrections), (Policy.EXECUTIONS, executions)):
        state = state_of(record, pending, policy=policy)
        assert reason_name(state) == expected
        assert state.pending == (expected == "PENDING")
        assert not state.learned


def test_a_learned_block_that_neither_waits_nor_failed_has_no_reason() -> None:
    assert state_of(CORRECTED, learned=True) == BlockState(
        key=ExampleKey(namespace="team-a", id="block-1"), learned=True, modified_time=MODIFIED
    )


def test_a_learned_block_that_waits_says_so() -> None:
    state = state_of(CORRECTED, WAITING, learned=True)
    assert state.learned
    assert state.pending
    assert reason_name(state) == "PENDING"


def test_a_learned_block_that_failed_for_good_says_why_its_example_is_not_up_to_date() -> None:
    state = state_of(CORRECTED, PARKED, learned=True)
    assert state.learned
    assert not state.pending
    assert reason_name(state) == "ERROR"
    assert state.last_error == "the embedder refuses the text"
    assert reason_name(state_of(HUGE, PARKED, learned=True)) == "TOO_LARGE"


def test_failed_attempts_and_the_last_failure_are_shown_while_a_block_waits() -> None:
    state = state_of(CORRECTED, WAITING)
    assert (state.failed_attempt_count, state.last_error) == (2, "the embedder is away")
    assert state.modified_time == MODIFIED
