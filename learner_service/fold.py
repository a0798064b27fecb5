"""What the events of a block say together: the pure heart of recording.

A BlockRecord is a function of the *set* of its events: any order and any repetition give the same record.
Each part of it is built to be so.

- The latest and the earliest event of a kind are the greatest and the least in one total order: by event
  time, then by deterministic serialisation. An event wins or loses as a whole, so an exit code never lands
  on the text of another run.
- Labels and failed texts are kept by key, each with its greatest (time, value), and of these only the
  greatest few. A key that was pushed out stood below that many others, and they only rise: nothing that it
  would still say can be missed.
- Marks only ever become true.
"""

from hashlib import blake2b
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from errata.store.v1.store_pb2 import BlockRecord, FailedText, Label
from errata.v1.block_pb2 import (
    EXECUTION_STATUS_FAILED,
    EXECUTION_STATUS_SUCCEEDED,
    EXECUTION_STATUS_UNSPECIFIED,
    BlockEvent,
    BlockExecuted,
    ExecutionStatus,
)

FAILED_TEXTS_MAX: Final = 16
"""Texts whose failure a record remembers: more attempts at one block are rare, and each costs bytes."""
LABELS_MAX: Final = 64
"""Labels that a record keeps, those counted that were removed: a removal must outlive an older value."""


def fold(record: BlockRecord, event: BlockEvent) -> BlockRecord | None:
    """Returns the record with one event more, or None when the event says nothing new.

    `record` and `event` are left as they are. `modified_time` is left to the store. Fields that this version
    does not know are dropped: redaction has not seen them.

    Args:
        record: what is known so far; a new BlockRecord when nothing is.
        event: of the same block, validated and redacted.
    """
    if record.forgotten:
        return None
    known = BlockEvent()
    known.CopyFrom(event)
    known.DiscardUnknownFields()
    folded = BlockRecord()
    folded.CopyFrom(record)
    match known.WhichOneof("event"):
        case "generated":
            _fold_proposal(record, known, folded)
        case "executed":
            _fold_run(record, known, folded)
        case "suggestion":
            if not record.HasField("suggestion") or _order(known) > _order(record.suggestion):
                folded.suggestion.CopyFrom(known)
        case "taught":
            if not record.HasField("taught") or _order(known) > _order(record.taught):
                folded.taught.CopyFrom(known)
        case None:
            pass
    _fold_labels(known, folded)
    if known.eval_mode:
        folded.eval_mode = True
    return None if folded == record else folded


def execution_status(run: BlockExecuted) -> ExecutionStatus.ValueType:
    """Returns how a run ended: what its sender said, else what the exit code says, else unspecified."""
    if run.status != EXECUTION_STATUS_UNSPECIFIED:
        return run.status
    if not run.HasField("exit_code"):
        return EXECUTION_STATUS_UNSPECIFIED
    return EXECUTION_STATUS_SUCCEEDED if run.exit_code == 0 else EXECUTION_STATUS_FAILED


def run_failed(run: BlockExecuted) -> bool:
    """Whether a run is known to have failed; real logs often do not say how a run ended."""
    return execution_status(run) == EXECUTION_STATUS_FAILED


def text_hash(text: str) -> int:
    """Returns the 64-bit hash by which a record remembers a failed text; white space around it is ignored."""
    return int.from_bytes(blake2b(text.strip().encode(), digest_size=8).digest(), "big")


def instant(time: Timestamp) -> tuple[int, int]:
    """Returns a time as something to compare by: seconds and nanoseconds."""
    return time.seconds, time.nanos


def _order(event: BlockEvent) -> tuple[int, int, bytes]:
    """The total order of events: no two different events are equal in it."""
    time = event.event_time
    return time.seconds, time.nanos, event.SerializeToString(deterministic=True)


def _fold_proposal(record: BlockRecord, proposal: BlockEvent, folded: BlockRecord) -> None:
    """Keeps the latest proposal, and the earliest where that is another one."""
    if not record.HasField("generated"):
        folded.generated.CopyFrom(proposal)
        return
    proposals = [proposal, record.generated]
    if record.HasField("first_generated"):
        proposals.append(record.first_generated)
    latest = max(proposals, key=_order)
    earliest = min(proposals, key=_order)
    folded.generated.CopyFrom(latest)
    if earliest == latest:
        folded.ClearField("first_generated")
    else:
        folded.first_generated.CopyFrom(earliest)


def _fold_run(record: BlockRecord, run: BlockEvent, folded: BlockRecord) -> None:
    """Keeps the latest run, and the latest that did not fail where that is another one.

    The record held both before, whichever field they stood in, so both can be told from these three.
    """
    if not record.HasField("executed"):
        folded.executed.CopyFrom(run)
    else:
        runs = [run, record.executed]
        if record.HasField("succeeded"):
            runs.append(record.succeeded)
        latest = max(runs, key=_order)
        folded.executed.CopyFrom(latest)
        not_failed = [each for each in runs if not run_failed(each.executed)]
        succeeded = max(not_failed, key=_order, default=latest)
        if succeeded == latest:
            folded.ClearField("succeeded")
        else:
            folded.succeeded.CopyFrom(succeeded)
    if run_failed(run.executed):
        _fold_failure(run, folded)


def _fold_failure(run: BlockEvent, folded: BlockRecord) -> None:
    """Remembers when the text of a failed run last failed."""
    last_failures = {failed.text_hash: instant(failed.event_time) for failed in folded.failed_texts}
    failed_hash = text_hash(run.executed.block.contents)
    failed_at = instant(run.event_time)
    last_failures[failed_hash] = max(failed_at, last_failures.get(failed_hash, failed_at))
    latest_first = sorted(((at, each) for each, at in last_failures.items()), reverse=True)
    del folded.failed_texts[:]
    folded.failed_texts.extend(
        FailedText(text_hash=each, event_time=Timestamp(seconds=seconds, nanos=nanos))
        for (seconds, nanos), each in latest_first[:FAILED_TEXTS_MAX]
    )


def _fold_labels(event: BlockEvent, folded: BlockRecord) -> None:
    """Sets the labels of the event that are later than those held, and keeps the ones set latest."""
    if not event.labels:
        return
    labels = folded.labels
    for key, value in event.labels.items():
        held = labels.get(key)
        if held is None or (instant(event.event_time), value) > (instant(held.event_time), held.value):
            labels[key].CopyFrom(Label(value=value, event_time=event.event_time))
    if len(labels) > LABELS_MAX:
        latest_first = sorted(labels, key=lambda key: (instant(labels[key].event_time), key), reverse=True)
        for key in latest_first[LABELS_MAX:]:
            del labels[key]
