"""The lines of a trace, put together: what several lines say that none of them says alone.

A TraceRecord holds what is known of a trace until it is joined; then only block IDs and flags are left. Lines
may come in any order, and more than once: the events that all of them give together are the same.

An evaluation is marked by events of its own, which say nothing else, so that it does not matter whether a
trace is known to be one before or after its blocks are.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from errata.serving.fields import InvalidFieldError, TooLargeError
from errata.store.v1.store_pb2 import TraceRecord
from errata.v1.block_pb2 import BlockEvent
from learner_service.analyzer.records import TracePart
from learner_service.validation import check_event

BLOCK_IDS_MAX: Final = 1_000
"""Blocks that a trace remembers, to mark them when it turns out to be an evaluation. Real traces name ten."""


@dataclass(slots=True)
class Joined:
    """What a line completed."""

    events: list[BlockEvent] = field(default_factory=list)
    """Valid and redacted; those that only mark an evaluation have no kind."""
    refused_count: int = 0
    """Events that would break a rule."""


def join(known: TraceRecord, part: TracePart, *, namespace: str, now_us: int) -> Joined:
    """Adds what a line says to what is known of its trace, in place.

    Args:
        known: of this trace; a new TraceRecord when nothing is.
        part: redacted.
        namespace: of the trace.
        now_us: the Learner's clock, microseconds since 1970.
    """
    joined = Joined()
    _hold(known, part)
    completed = [*_generated(known, part.trace_id, namespace), *_ended_run(known)]
    for event in completed:
        try:
            check_event("joined", event, now_us=now_us)
        except (InvalidFieldError, TooLargeError):
            joined.refused_count += 1
        else:
            joined.events.append(event)
    named = [*part.block_ids, *(event.block_id for event in joined.events)]
    joined.events.extend(_eval_marks(known, part, named, namespace, now_us))
    return joined


def _hold(known: TraceRecord, part: TracePart) -> None:
    """Keeps what the line says, as long as what it joins with is missing. Repetitions change nothing."""
    if not known.generation_joined:
        if part.request is not None and not known.HasField("request"):
            known.request.CopyFrom(part.request)
        if part.proposal is not None and not known.HasField("response_time"):
            known.response_time.FromMicroseconds(part.proposal.time_us)
            known.response.extend(part.proposal.blocks)
    if not known.run_joined:
        if part.run is not None and not known.HasField("run"):
            known.run.CopyFrom(part.run)
        if part.run_end is not None and not known.HasField("run_end_time"):
            known.run_end_time.FromMicroseconds(part.run_end.time_us)
            if part.run_end.exit_code is not None:
                known.exit_code = part.run_end.exit_code


def _generated(known: TraceRecord, trace_id: str, namespace: str) -> list[BlockEvent]:
    """The proposals, once request and response are known. They happened when the assistant answered."""
    if not (known.HasField("request") and known.HasField("response_time")):
        return []
    events = []
    for block in known.response:
        event = BlockEvent(block_id=block.id, namespace=namespace, event_time=known.response_time)
        event.generated.block.CopyFrom(block)
        event.generated.trace_id = trace_id
        if known.request.blocks:
            event.generated.doc.CopyFrom(known.request)
        events.append(event)
    for name in ("request", "response", "response_time"):
        known.ClearField(name)
    known.generation_joined = True
    return events


def _ended_run(known: TraceRecord) -> list[BlockEvent]:
    """The run once more, as it was at its end, when there is an exit code to add.

    It is a later event than the run's start, which is recorded at once: some runs never end.
    """
    if not (known.HasField("run") and known.HasField("run_end_time")):
        return []
    events = []
    if known.HasField("exit_code"):
        event = BlockEvent()
        event.CopyFrom(known.run)
        event.event_time.CopyFrom(known.run_end_time)
        event.executed.exit_code = known.exit_code
        events.append(event)
    for name in ("run", "run_end_time", "exit_code"):
        known.ClearField(name)
    known.run_joined = True
    return events


def _eval_marks(
    known: TraceRecord, part: TracePart, named: Iterable[str], namespace: str, now_us: int
) -> list[BlockEvent]:
    """Marks the blocks that the trace names, as far as they are not marked yet."""
    before = list(known.block_ids)
    new = [block_id for block_id in dict.fromkeys(named) if block_id not in before]
    new = new[: BLOCK_IDS_MAX - len(before)]
    known.block_ids.extend(new)
    newly_eval = part.eval_mode and not known.eval_mode
    known.eval_mode = known.eval_mode or part.eval_mode
    if not known.eval_mode:
        return []
    marks = []
    for block_id in [*before, *new] if newly_eval else new:
        mark = BlockEvent(block_id=block_id, namespace=namespace, eval_mode=True)
        mark.event_time.FromMicroseconds(now_us)
        marks.append(mark)
    return marks
