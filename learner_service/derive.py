"""The example that a block should give, or why it gives none: the pure half of the Reconciler.

Forgotten blocks and those of an evaluation give none. What was taught is learned under every policy. Else the
candidate is the latest run that did not fail, unless a run of the same text failed at the same time or later;
a failed run of another text changes nothing. Texts are compared after trimming.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from errata.store.v1.store_pb2 import BlockRecord
from errata.text import Query, query_from_doc
from errata.v1.block_pb2 import Block, BlockEvent, Doc
from errata.v1.example_pb2 import (
    EXAMPLE_ORIGIN_CORRECTION,
    EXAMPLE_ORIGIN_EXECUTION,
    EXAMPLE_ORIGIN_TAUGHT,
    Example,
    ExampleOrigin,
)
from errata.v1.learner_pb2 import (
    NOT_LEARNED_REASON_BLANK,
    NOT_LEARNED_REASON_EVALUATION,
    NOT_LEARNED_REASON_FAILED,
    NOT_LEARNED_REASON_FORGOTTEN,
    NOT_LEARNED_REASON_NO_CONTEXT,
    NOT_LEARNED_REASON_NOT_EXECUTED,
    NOT_LEARNED_REASON_NOT_GENERATED,
    NOT_LEARNED_REASON_UNCHANGED,
    NotLearnedReason,
)
from learner_service.fold import instant, run_failed, text_hash
from learner_service.keys import BlockKey

EXAMPLE_BYTES_MAX: Final = 1024 * 1024
"""The largest example, embedding included; a larger one would not fit a batch of any watcher."""
_EMBEDDING_ELEMENT_BYTES: Final = 4
_LATEST_TIME: Final = Timestamp(seconds=253_402_300_799, nanos=999_999_999)


class Policy(StrEnum):
    """Which runs are learned from."""

    CORRECTIONS = "corrections"
    """Runs of something else than an assistant's earliest or latest proposal."""
    EXECUTIONS = "executions"
    """Every run that did not fail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An example to be: all of it but the embedding."""

    query: Query
    """The question; its text is not empty."""
    answer: tuple[Block, ...]
    """The blocks that answer it, without outputs; at least one, none of them blank."""
    origin: ExampleOrigin.ValueType
    executed_time: Timestamp
    """When it was run or taught, by the sender's clock."""
    labels: dict[str, str]


def derive(record: BlockRecord, policy: Policy) -> Candidate | NotLearnedReason.ValueType:
    """Returns the example that the block should give, or the first reason why it gives none.

    The same record and policy always give an equal result; `record` is left as it is. The reasons that
    depend on more than the record (PENDING, TOO_LARGE, ERROR) are not given here.
    """
    if record.forgotten:
        return NOT_LEARNED_REASON_FORGOTTEN
    if record.eval_mode:
        return NOT_LEARNED_REASON_EVALUATION
    if record.HasField("taught"):
        return _derive_taught(record)
    return _derive_run(record, policy)


def build_example(key: BlockKey, candidate: Candidate, *, fingerprint: str) -> Example:
    """Returns the candidate as an example, without its embedding and its `modified_time`.

    Args:
        key: of the block, and so of the example.
        candidate: as `derive` gave it.
        fingerprint: of the embedder that will embed the query text.
    """
    return Example(
        id=key.id,
        namespace=key.namespace,
        query=Doc(blocks=candidate.query.blocks),
        answer=candidate.answer,
        labels=candidate.labels,
        query_text=candidate.query.text,
        embedder_fingerprint=fingerprint,
        executed_time=candidate.executed_time,
        origin=candidate.origin,
    )


def same_example(a: Example, b: Example) -> bool:
    """Whether two examples are the same in all but their embedding and `modified_time`.

    Vectors are never compared: the same text may embed a little differently on another machine.
    """
    return _without_vector(a).SerializeToString(deterministic=True) == _without_vector(b).SerializeToString(
        deterministic=True
    )


def vector_reusable(old: Example, new: Example) -> bool:
    """Whether the embedding of `old` is also that of `new`: the same text by the same embedder."""
    return (
        bool(old.embedding)
        and old.query_text == new.query_text
        and old.embedder_fingerprint == new.embedder_fingerprint
    )


def example_too_large(example: Example, dimension: int) -> bool:
    """Whether the example would be larger than EXAMPLE_BYTES_MAX once it is embedded and stored.

    Args:
        example: with or without its embedding and its `modified_time`.
        dimension: of the embedder.
    """
    rest = Example(embedding=bytes(_EMBEDDING_ELEMENT_BYTES * dimension), modified_time=_LATEST_TIME)
    # The sizes of messages that set different fields add up to that of the message that sets them all.
    return _without_vector(example).ByteSize() + rest.ByteSize() > EXAMPLE_BYTES_MAX


def _derive_taught(record: BlockRecord) -> Candidate | NotLearnedReason.ValueType:
    taught = record.taught.taught
    answer = tuple(_without_outputs(block) for block in taught.answer if not _blank(block))
    if not answer:
        return NOT_LEARNED_REASON_BLANK
    query = query_from_doc(taught.query)
    if not query.text:
        return NOT_LEARNED_REASON_NO_CONTEXT
    return _candidate(record, record.taught, query, answer, EXAMPLE_ORIGIN_TAUGHT)


def _derive_run(record: BlockRecord, policy: Policy) -> Candidate | NotLearnedReason.ValueType:
    if not record.HasField("executed"):
        return NOT_LEARNED_REASON_NOT_EXECUTED
    run = _last_not_failed_run(record)
    if run is None or _failed_since(record, run):
        return NOT_LEARNED_REASON_FAILED
    block = run.executed.block
    corrects = _differs_from_a_proposal(record, block)
    if policy is Policy.CORRECTIONS and not corrects:
        proposed = record.HasField("generated")
        return NOT_LEARNED_REASON_UNCHANGED if proposed else NOT_LEARNED_REASON_NOT_GENERATED
    if _blank(block):
        return NOT_LEARNED_REASON_BLANK
    query = query_from_doc(_question(record, run))
    if not query.text:
        return NOT_LEARNED_REASON_NO_CONTEXT
    origin = EXAMPLE_ORIGIN_CORRECTION if corrects else EXAMPLE_ORIGIN_EXECUTION
    return _candidate(record, run, query, (_without_outputs(block),), origin)


def _candidate(
    record: BlockRecord,
    event: BlockEvent,
    query: Query,
    answer: tuple[Block, ...],
    origin: ExampleOrigin.ValueType,
) -> Candidate:
    executed_time = Timestamp()
    executed_time.CopyFrom(event.event_time)
    labels = {key: label.value for key, label in record.labels.items() if label.value}
    return Candidate(query=query, answer=answer, origin=origin, executed_time=executed_time, labels=labels)


def _last_not_failed_run(record: BlockRecord) -> BlockEvent | None:
    if record.HasField("succeeded"):
        return record.succeeded
    return None if run_failed(record.executed.executed) else record.executed


def _failed_since(record: BlockRecord, run: BlockEvent) -> bool:
    """Whether a run of the same text failed at the same time or later."""
    run_hash = text_hash(run.executed.block.contents)
    ran_at = instant(run.event_time)
    return any(
        failed.text_hash == run_hash and instant(failed.event_time) >= ran_at
        for failed in record.failed_texts
    )


def _differs_from_a_proposal(record: BlockRecord, block: Block) -> bool:
    """Whether the block differs from the earliest or from the latest proposal.

    From either: an assistant that has learned proposes the right command from then on, and that must not
    unlearn it.
    """
    text = block.contents.strip()
    return any(
        getattr(record, field).generated.block.contents.strip() != text
        for field in ("first_generated", "generated")
        if record.HasField(field)
    )


def _question(record: BlockRecord, run: BlockEvent) -> Doc:
    """What people ran answers the question that stood there when they ran it."""
    return run.executed.doc if run.executed.HasField("doc") else record.generated.generated.doc


def _without_outputs(block: Block) -> Block:
    copy = Block()
    copy.CopyFrom(block)
    copy.ClearField("outputs")
    return copy


def _blank(block: Block) -> bool:
    return not block.contents.strip()


def _without_vector(example: Example) -> Example:
    copy = Example()
    copy.CopyFrom(example)
    copy.ClearField("embedding")
    copy.ClearField("modified_time")
    return copy
