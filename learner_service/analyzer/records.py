"""What one line of a log says, in terms that no dialect owns.

A line may say something complete, which is an event, and it may be part of a trace: something that only
other lines of the same trace make complete. See `traces.py`.
"""

from dataclasses import dataclass

from errata.text import redact_block, redact_doc, redact_event
from errata.v1.block_pb2 import Block, BlockEvent, Doc


class MalformedLineError(Exception):
    """A line that should mean something cannot be understood. The message never quotes its contents."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What an assistant answered."""

    time_us: int
    blocks: tuple[Block, ...]
    """Those with an ID; others can never be joined with a run."""


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended."""

    time_us: int
    exit_code: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TracePart:
    """What one line says of its trace."""

    trace_id: str
    """1 to 128 bytes."""
    eval_mode: bool = False
    request: Doc | None = None
    """The document that the assistant was asked to continue."""
    proposal: Proposal | None = None
    run: BlockEvent | None = None
    """A run that began; it is an event of its line, too."""
    run_end: RunEnd | None = None
    block_ids: tuple[str, ...] = ()
    """Blocks that the events of the line name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineRecord:
    """What one line says."""

    events: tuple[BlockEvent, ...] = ()
    trace: TracePart | None = None


def redact(record: LineRecord) -> None:
    """Redacts every text of the record, in place."""
    for event in record.events:
        redact_event(event)
    part = record.trace
    if part is None:
        return
    if part.request is not None:
        redact_doc(part.request)
    if part.proposal is not None:
        for block in part.proposal.blocks:
            redact_block(block)
    if part.run is not None:
        redact_event(part.run)
