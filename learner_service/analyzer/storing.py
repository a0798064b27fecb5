"""Stores what was read: the events of some lines, what they add to their traces, and the offsets after them.

All of it within one transaction, so that after a crash the lines are read again exactly if nothing of them is
stored. A transaction takes as much as `TRANSACTION_BYTES_MAX` allows, and says what is left.
"""

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, TypeVar

from errata.store.v1.store_pb2 import LogFileRecord, TraceRecord
from errata.v1.block_pb2 import BlockEvent
from learner_service.analyzer.reading import Step
from learner_service.analyzer.records import TracePart
from learner_service.analyzer.traces import Joined, Trace
from learner_service.keys import BlockKey

TRANSACTION_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of traces, and events that they lead to, in one transaction: a short answer may give a hundred events with
a large document each. One line is taken whole, but the marks of an evaluation. What lines say by themselves
is bounded by what is read."""


class LogWriter(Protocol):
    """What is read and changed in a transaction."""

    def trace(self, namespace: str, trace_id: str) -> TraceRecord | None:
        """What is known of a trace."""
        ...

    def put_trace(self, namespace: str, trace_id: str, record: TraceRecord) -> None:
        """Stores what is known of a trace."""
        ...

    def add_trace_block(self, namespace: str, trace_id: str, block_id: str) -> None:
        """Notes a block that a trace names, beside those in its record; once is enough."""
        ...

    def take_trace_blocks(self, namespace: str, trace_id: str, count_max: int) -> list[str]:
        """Takes blocks that were noted so; fewer than asked for when that is all."""
        ...

    def log_file(self, identity: bytes) -> LogFileRecord | None:
        """How far a log file has been read."""
        ...

    def put_log_file(self, identity: bytes, record: LogFileRecord) -> None:
        """Stores how far a log file has been read."""
        ...

    def delete_log_file(self, identity: bytes) -> None:
        """Drops what is known of a log file."""
        ...


WriterT = TypeVar("WriterT", bound=LogWriter)

RecordEvents = Callable[[WriterT, Iterable[BlockEvent]], AbstractSet[BlockKey]]
"""Folds valid, redacted events into the store, within a transaction, and returns the blocks that changed."""


class StoredStep(NamedTuple):
    """What became of a step."""

    record: LogFileRecord
    """Of its file, as it is stored now."""
    rest: Step | None
    """What is left to be stored; None when nothing is."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a transaction did."""

    changed: AbstractSet[BlockKey]
    steps: tuple[StoredStep | None, ...]
    """Of the first steps, in their order; those that follow were not reached. None, and nothing stored of it,
    for a step whose file does not stand where the step began."""


def store_steps(
    transaction: WriterT,
    steps: Sequence[Step],
    *,
    record_events: RecordEvents[WriterT],
    surplus_keys: Iterable[bytes] = (),
) -> Stored:
    """Stores steps of different files, in their order, as many as one transaction takes. Pure.

    Args:
        transaction: of the caller.
        steps: of the first, at least a part of its first line is stored.
        record_events: see the type.
        surplus_keys: of records of files to be dropped.
    """
    traces = _Traces(transaction)
    events: list[BlockEvent] = []
    stored: list[StoredStep | None] = []
    left_bytes = TRANSACTION_BYTES_MAX
    for key in surplus_keys:
        transaction.delete_log_file(key)
    for step in steps:
        if left_bytes <= 0:
            break
        if transaction.log_file(step.before_key) != step.before:
            stored.append(None)
            continue
        said_count = refused_count = 0
        for said in step.said:
            if left_bytes <= 0:
                break
            events += said.record.events
            if said.record.trace is not None:
                joined, loaded_bytes = traces.add(step.namespace, said.record.trace, step.now_us)
                refused_count += joined.refused_count
                events += joined.events
                left_bytes -= loaded_bytes + sum(event.ByteSize() for event in joined.events)
                if joined.unfinished:
                    # The line comes again in the next transaction; what is stored of it now changes nothing.
                    left_bytes = 0
                    break
            said_count += 1
        record = step.record_after(said_count, refused_count)
        if step.before_key != step.identity.key:
            transaction.delete_log_file(step.before_key)
        transaction.put_log_file(step.identity.key, record)
        stored.append(StoredStep(record, step.after(said_count, record)))
    traces.put_changed()
    return Stored(record_events(transaction, events), tuple(stored))


class _Traces:
    """The traces that a transaction touches: each is read once, and written once if it has changed."""

    def __init__(self, transaction: LogWriter) -> None:
        self._transaction = transaction
        self._traces: dict[tuple[str, str], Trace] = {}

    def add(self, namespace: str, part: TracePart, now_us: int) -> tuple[Joined, int]:
        """Adds what a line says of its trace; returns what that completed, and the bytes read for it."""
        loaded_bytes = 0
        trace = self._traces.get((namespace, part.trace_id))
        if trace is None:
            record = self._transaction.trace(namespace, part.trace_id) or TraceRecord()
            loaded_bytes = record.ByteSize()
            more = _RowsOfTrace(self._transaction, namespace, part.trace_id)
            trace = Trace(record, more, namespace=namespace, trace_id=part.trace_id)
            self._traces[namespace, part.trace_id] = trace
        return trace.add(part, now_us=now_us), loaded_bytes

    def put_changed(self) -> None:
        """Stores the traces that have changed."""
        for (namespace, trace_id), trace in self._traces.items():
            if trace.changed:
                self._transaction.put_trace(namespace, trace_id, trace.record)


@dataclass(frozen=True, slots=True)
class _RowsOfTrace:
    """The blocks of one trace that have rows of their own, within a transaction."""

    transaction: LogWriter
    namespace: str
    trace_id: str

    def add(self, block_id: str) -> None:
        self.transaction.add_trace_block(self.namespace, self.trace_id, block_id)

    def take(self, count_max: int) -> list[str]:
        return self.transaction.take_trace_blocks(self.namespace, self.trace_id, count_max)
