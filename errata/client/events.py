"""Events of blocks, built properly: an ID and a time for each, and what happened.

    event = proposed("Which process listens on port 80?", "netstat -a", language="bash")
    later = ran("ss -ltnp 'sport = :80'", block_id=event.block_id, exit_code=0, language="bash")

Whoever records two events of one block gives both the same `block_id`. Recording an event again changes
nothing; a new one of the same kind replaces it when its time is later.
"""

import time
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from errata.client.blocks import Answer, Question, answer_block, answer_blocks, question_document
from errata.v1.block_pb2 import (
    EXECUTION_STATUS_FAILED,
    EXECUTION_STATUS_SUCCEEDED,
    EXECUTION_STATUS_UNSPECIFIED,
    BlockEvent,
    BlockExecuted,
    BlockGenerated,
    ExampleTaught,
    ExecutionStatus,
)


def new_block_id() -> str:
    """An ID that no other block has."""
    return str(uuid.uuid4())


def proposed(
    question: Question,
    answer: Answer,
    *,
    language: str = "",
    block_id: str | None = None,
    namespace: str = "",
    labels: Mapping[str, str] | None = None,
    example_ids: Iterable[str] = (),
    at: datetime | None = None,
) -> BlockEvent:
    """The assistant proposed an answer.

    Args:
        question: what was asked: text, or the document that was to be continued.
        answer: what was proposed: code, or a whole block.
        language: of an answer that is text, such as `bash`.
        block_id: names the block; None makes a new ID.
        namespace: whose block it is.
        labels: of the block, for filtering.
        example_ids: the examples that the assistant was shown.
        at: when, with a time zone; None is now.

    Raises:
        ValueError: `at` has no time zone.
    """
    event = _event(block_id, namespace, labels, at)
    event.generated.CopyFrom(
        BlockGenerated(
            doc=question_document(question), block=answer_block(answer, language), example_ids=example_ids
        )
    )
    return event


def ran(
    answer: Answer,
    *,
    question: Question | None = None,
    exit_code: int | None = None,
    succeeded: bool | None = None,
    language: str = "",
    block_id: str | None = None,
    namespace: str = "",
    labels: Mapping[str, str] | None = None,
    at: datetime | None = None,
) -> BlockEvent:
    """A person ran a block.

    Args:
        answer: what ran: code, or a whole block.
        question: what stood before it when it ran; None where the question of the proposal still holds.
        exit_code: of the run, if there is one.
        succeeded: how it ended where no exit code says so; None is not known, and counts as not failed.
        language: of an answer that is text, such as `bash`.
        block_id: that of the proposal; None makes a new ID, for what no assistant proposed.
        namespace: whose block it is, as in the proposal.
        labels: of the block, for filtering.
        at: when, with a time zone; None is now.

    Raises:
        ValueError: `at` has no time zone.
    """
    event = _event(block_id, namespace, labels, at)
    executed = BlockExecuted(
        block=answer_block(answer, language), exit_code=exit_code, status=_status(succeeded)
    )
    if question is not None:
        executed.doc.CopyFrom(question_document(question))
    event.executed.CopyFrom(executed)
    return event


def taught(
    question: Question,
    answer: Answer | Iterable[Answer],
    *,
    language: str = "",
    block_id: str | None = None,
    namespace: str = "",
    labels: Mapping[str, str] | None = None,
    at: datetime | None = None,
) -> BlockEvent:
    """A person stated a question and its answer.

    Args:
        question: text or a document; not blank.
        answer: one block or several, at least one of them not blank.
        language: of answers that are text, such as `bash`.
        block_id: names the block; None makes a new ID.
        namespace: whose block it is.
        labels: of the block, for filtering.
        at: when, with a time zone; None is now.

    Raises:
        ValueError: `at` has no time zone.
    """
    event = _event(block_id, namespace, labels, at)
    event.taught.CopyFrom(
        ExampleTaught(query=question_document(question), answer=answer_blocks(answer, language))
    )
    return event


def timestamp(at: datetime) -> Timestamp:
    """A time as the contract has it.

    Raises:
        ValueError: it has no time zone, so it could mean any of 24 hours.
    """
    if at.tzinfo is None:
        raise ValueError(
            f"{at} has no time zone; write datetime.now(tz=UTC), or at.astimezone() for local time"
        )
    made = Timestamp()
    made.FromDatetime(at)
    return made


def _event(
    block_id: str | None, namespace: str, labels: Mapping[str, str] | None, at: datetime | None
) -> BlockEvent:
    when = Timestamp()
    if at is None:
        when.FromNanoseconds(time.time_ns())
    else:
        when = timestamp(at)
    return BlockEvent(
        block_id=new_block_id() if block_id is None else block_id,
        event_time=when,
        namespace=namespace,
        labels=labels,
    )


def _status(succeeded: bool | None) -> ExecutionStatus.ValueType:  # noqa: FBT001 - it ended well, or not, or who knows
    if succeeded is None:
        return EXECUTION_STATUS_UNSPECIFIED
    return EXECUTION_STATUS_SUCCEEDED if succeeded else EXECUTION_STATUS_FAILED
