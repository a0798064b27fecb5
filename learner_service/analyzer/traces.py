"""The lines of a trace, put together: what several lines say that none of them says alone.

A TraceRecord holds what is known of a trace until it is joined; then only block IDs and flags are left. Lines
may come in any order, and more than once: the events that all of them give together are the same.

An evaluation is marked by events of its own, which say nothing else, so that it does not matter whether a
trace is known to be one before or after its blocks are.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from errata.serving.fields import InvalidFieldError, TooLargeError
from errata.store.v1.store_pb2 import TraceRecord
from errata.v1.block_pb2 import BlockEvent
from learner_service.analyzer.records import TracePart
from learner_service.validation import check_event

BLOCK_IDS_MAX: Final = 1_000
"""Blocks that the record of a trace remembers, to mark them when it turns out to be an evaluation. Real ones
name ten; more have rows of their own."""

MARKS_MAX: Final = 1_000
"""Blocks with rows of their own that one transaction marks: other writers wait for it."""

NOTED_LATE_US_MAX: Final = 3_600 * 1_000_000
"""By how much the time of the last line of a trace may be noted too early: not each line needs a write."""


@dataclass(slots=True)
class Joined:
    """What a line completed."""

    events: list[BlockEvent] = field(default_factory=list)
    """Valid and redacted; those that only mark an evaluation have no kind."""
    refused_count: int = 0
    """Events that would break a rule."""
    unfinished: bool = False
    """True when the line led to more than a transaction takes: add it once more in the next one."""


class MoreBlocks(Protocol):
    """The blocks that a trace names beyond those in its record, while it is not known for an evaluation."""

    def add(self, block_id: str) -> None:
        """Notes one; once is enough."""
        ...

    def take(self, count_max: int) -> list[str]:
        """Takes some out; fewer than asked for when that is all."""
        ...


class Trace:
    """What is known of one trace, within one transaction. Takes time in proportion to the lines added."""

    def __init__(self, record: TraceRecord, more: MoreBlocks, *, namespace: str, trace_id: str) -> None:
        """Begins with what is stored.

        Args:
            record: changed in place; a new TraceRecord when nothing is known.
            more: blocks of the trace that have no place in the record.
            namespace: of the trace and its blocks.
            trace_id: as the events name it.
        """
        self.record = record
        self.changed = False
        """True once the record differs from the one that it began with."""
        self._more = more
        self._namespace = namespace
        self._trace_id = trace_id
        self._block_ids = set(record.block_ids)

    def add(self, part: TracePart, *, now_us: int) -> Joined:
        """Adds what a line says.

        Args:
            part: redacted.
            now_us: the Learner's clock, microseconds since 1970.
        """
        joined = Joined()
        self._hold(part)
        for event in (*self._generated(), *self._ended_run()):
            try:
                check_event("joined", event, now_us=now_us)
            except (InvalidFieldError, TooLargeError):
                joined.refused_count += 1
            else:
                joined.events.append(event)
        named = dict.fromkeys([*part.block_ids, *(event.block_id for event in joined.events)])
        marked = self._newly_marked(part, named)
        if self.record.eval_mode and len(self._block_ids) >= BLOCK_IDS_MAX:
            taken = self._more.take(MARKS_MAX)
            marked += taken
            joined.unfinished = len(taken) == MARKS_MAX
        joined.events += [self._eval_mark(block_id, now_us) for block_id in marked]
        if self.changed or now_us - self.record.modified_time.ToMicroseconds() > NOTED_LATE_US_MAX:
            self.changed = True
            self.record.modified_time.FromMicroseconds(now_us)
        return joined

    def _hold(self, part: TracePart) -> None:
        """Keeps what the line says, as long as what it joins with is missing. Repetitions change nothing."""
        known = self.record
        if not known.generation_joined:
            if part.request is not None and not known.HasField("request"):
                known.request.CopyFrom(part.request)
                self.changed = True
            if part.proposal is not None and not known.HasField("response_time"):
                known.response_time.FromMicroseconds(part.proposal.time_us)
                known.response.extend(part.proposal.blocks)
                self.changed = True
        if not known.run_joined:
            if part.run is not None and not known.HasField("run"):
                known.run.CopyFrom(part.run)
                self.changed = True
            if part.run_end is not None and not known.HasField("run_end_time"):
                known.run_end_time.FromMicroseconds(part.run_end.time_us)
                if part.run_end.exit_code is not None:
                    known.exit_code = part.run_end.exit_code
                self.changed = True

    def _generated(self) -> list[BlockEvent]:
        """The proposals, once request and response are known. They happened when the assistant answered."""
        known = self.record
        if not (known.HasField("request") and known.HasField("response_time")):
            return []
        events = []
        for block in known.response:
            event = BlockEvent(block_id=block.id, namespace=self._namespace, event_time=known.response_time)
            event.generated.block.CopyFrom(block)
            event.generated.trace_id = self._trace_id
            if known.request.blocks:
                event.generated.doc.CopyFrom(known.request)
            events.append(event)
        for name in ("request", "response", "response_time"):
            known.ClearField(name)
        known.generation_joined = True
        return events

    def _ended_run(self) -> list[BlockEvent]:
        """The run once more, as it was at its end, when there is an exit code to add.

        It is a later event than the run's start, which is recorded at once: some runs never end.
        """
        known = self.record
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

    def _newly_marked(self, part: TracePart, named: Iterable[str]) -> list[str]:
        """The blocks in the line and in the record that may not be marked as an evaluation yet."""
        known = self.record
        marked = list(named) if known.eval_mode else []
        for block_id in named:
            if block_id in self._block_ids:
                continue
            if len(self._block_ids) < BLOCK_IDS_MAX:
                self._block_ids.add(block_id)
                known.block_ids.append(block_id)
                self.changed = True
            elif not (known.eval_mode or part.eval_mode):
                self._more.add(block_id)
        if part.eval_mode and not known.eval_mode:
            known.eval_mode = True
            self.changed = True
            marked = list(dict.fromkeys([*known.block_ids, *named]))
        return marked

    def _eval_mark(self, block_id: str, now_us: int) -> BlockEvent:
        mark = BlockEvent(block_id=block_id, namespace=self._namespace, eval_mode=True)
        mark.event_time.FromMicroseconds(now_us)
        return mark
