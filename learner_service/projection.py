"""What callers see of a block: computed from its record when asked, never stored."""

from typing import Final

from errata.store.v1.store_pb2 import BlockRecord, PendingRecord
from errata.v1.block_pb2 import BlockLog
from errata.v1.example_pb2 import ExampleKey
from errata.v1.learner_pb2 import (
    NOT_LEARNED_REASON_ERROR,
    NOT_LEARNED_REASON_PENDING,
    NOT_LEARNED_REASON_TOO_LARGE,
    NOT_LEARNED_REASON_UNSPECIFIED,
    BlockState,
    NotLearnedReason,
)
from learner_service.derive import Candidate, Policy, build_example, derive, example_too_large
from learner_service.fold import execution_status
from learner_service.keys import BlockKey

_NANOS_PER_SECOND: Final = 1_000_000_000


def block_log(key: BlockKey, record: BlockRecord) -> BlockLog:
    """Returns what is known of the block; of a forgotten one only that it is forgotten, and since when."""
    modified = record.modified_time
    log = BlockLog(
        id=key.id,
        namespace=key.namespace,
        forgotten=record.forgotten,
        # The time of the last write is unique among all records, so it names the version.
        resource_version=str(modified.seconds * _NANOS_PER_SECOND + modified.nanos),
    )
    if record.HasField("modified_time"):
        log.modified_time.CopyFrom(modified)
    if record.forgotten:
        return log
    log.eval_mode = record.eval_mode
    log.suggestion_status = record.suggestion.suggestion
    for label_key, label in record.labels.items():
        if label.value:
            log.labels[label_key] = label.value
    if record.HasField("taught"):
        log.taught.CopyFrom(record.taught.taught)
    _show_proposal(record, log)
    _show_runs(record, log)
    return log


def block_state(
    key: BlockKey,
    record: BlockRecord,
    pending: PendingRecord | None,
    *,
    learned: bool,
    policy: Policy,
    fingerprint: str,
    dimension: int,
) -> BlockState:
    """Returns what was learned from the block, and the first reason why not more.

    A block that neither waits nor failed for good and has its example has no reason. One that should have
    an example and has none waits for its turn, be it for that of a backfill.

    Args:
        key: of the block.
        record: of the block.
        pending: its row among the blocks that wait or failed for good, if it has one.
        learned: whether there is an example.
        policy: what is learned from.
        fingerprint: of the embedder in use.
        dimension: of the embedder in use.
    """
    parked = pending is not None and pending.parked
    if pending is not None and not parked:
        reason = NOT_LEARNED_REASON_PENDING
    elif learned and not parked:
        reason = NOT_LEARNED_REASON_UNSPECIFIED
    else:
        reason = _reason(key, record, policy, fingerprint, dimension)
        if reason == NOT_LEARNED_REASON_UNSPECIFIED:
            reason = NOT_LEARNED_REASON_ERROR if parked else NOT_LEARNED_REASON_PENDING
    state = BlockState(
        key=ExampleKey(namespace=key.namespace, id=key.id),
        learned=learned,
        reason=reason,
        pending=reason == NOT_LEARNED_REASON_PENDING,
    )
    if pending is not None:
        state.failed_attempt_count = pending.failed_attempt_count
        state.last_error = pending.last_error
    if record.HasField("modified_time"):
        state.modified_time.CopyFrom(record.modified_time)
    return state


def _reason(
    key: BlockKey, record: BlockRecord, policy: Policy, fingerprint: str, dimension: int
) -> NotLearnedReason.ValueType:
    """Why the block should have no example; unspecified when it should have one."""
    derived = derive(record, policy)
    if not isinstance(derived, Candidate):
        return derived
    if example_too_large(build_example(key, derived, fingerprint=fingerprint), dimension):
        return NOT_LEARNED_REASON_TOO_LARGE
    return NOT_LEARNED_REASON_UNSPECIFIED


def _show_proposal(record: BlockRecord, log: BlockLog) -> None:
    if not record.HasField("generated"):
        return
    proposal = record.generated.generated
    log.gen_trace_id = proposal.trace_id
    log.generated_block.CopyFrom(proposal.block)
    if proposal.HasField("doc"):
        log.doc.CopyFrom(proposal.doc)


def _show_runs(record: BlockRecord, log: BlockLog) -> None:
    """Shows the last run; its document stands in front of the proposal's."""
    if record.HasField("succeeded"):
        log.succeeded_block.CopyFrom(record.succeeded.executed.block)
    if not record.HasField("executed"):
        return
    run = record.executed.executed
    log.executed_block.CopyFrom(run.block)
    log.execution_status = execution_status(run)
    if run.HasField("exit_code"):
        log.exit_code = run.exit_code
    if run.HasField("doc"):
        log.doc.CopyFrom(run.doc)
