"""What the calls of a client return: small values around the messages of the contract."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from errata.v1.example_pb2 import Example
from errata.v1.learner_pb2 import (
    RECONCILE_OUTCOME_DELETED,
    RECONCILE_OUTCOME_FAILED,
    RECONCILE_OUTCOME_NOT_LEARNED,
    NotLearnedReason,
    ReconcileOutcome,
    ReconcileResponse,
    RecordEventsResponse,
)
from errata.v1.rag_pb2 import SearchResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What was recorded, durably."""

    block_ids: tuple[str, ...]
    """The blocks that the events name, each once, in their order."""
    changed_block_count: int
    """Of them, those that the events changed; an event that is known already changes nothing."""
    pending_block_count: int
    """Of them, those that still wait to be learned from."""
    token: bytes
    """For searches of other clients; see `remember`. Empty while any of the blocks is pending, and when
    nothing was ever learned from them."""

    @property
    def block_id(self) -> str:
        """The one block, or the first of them.

        Raises:
            ValueError: no event was recorded.
        """
        if not self.block_ids:
            raise ValueError("no event was recorded, so there is no block")
        return self.block_ids[0]

    @classmethod
    def of(cls, response: RecordEventsResponse, block_ids: Iterable[str]) -> "Recorded":
        """From the answer of the Learner."""
        return cls(
            block_ids=tuple(dict.fromkeys(block_ids)),
            changed_block_count=response.changed_block_count,
            pending_block_count=response.pending_block_count,
            token=response.token,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What learning from a block did."""

    outcome: ReconcileOutcome.ValueType
    reason: NotLearnedReason.ValueType
    """Why there is no example; unspecified where there is one."""
    token: bytes

    @property
    def is_learned(self) -> bool:
        """Whether there is now an example that says what the block says."""
        return self.outcome not in {
            RECONCILE_OUTCOME_DELETED,
            RECONCILE_OUTCOME_NOT_LEARNED,
            RECONCILE_OUTCOME_FAILED,
        }

    @property
    def outcome_name(self) -> str:
        """Such as `CREATED`."""
        return ReconcileOutcome.Name(self.outcome).removeprefix("RECONCILE_OUTCOME_")

    @property
    def reason_name(self) -> str:
        """Such as `UNCHANGED`; empty where there is an example."""
        name = NotLearnedReason.Name(self.reason).removeprefix("NOT_LEARNED_REASON_")
        return "" if name == "UNSPECIFIED" else name

    @classmethod
    def of(cls, response: ReconcileResponse) -> "Learned":
        """From the answer of the Learner."""
        return cls(outcome=response.outcome, reason=response.reason, token=response.token)


@dataclass(frozen=True, slots=True, repr=False)
class Match:
    """One example and how near it is."""

    example: Example
    """All of it but its embedding."""
    score: float
    """Cosine of the angle between question and example, in [-1, 1]."""

    def __repr__(self) -> str:
        return f"Match(score={self.score:.3f}, question={self.question!r}, answer={self.answer!r})"

    @property
    def block_id(self) -> str:
        """ID of the example, equal to that of the block it was learned from."""
        return self.example.id

    @property
    def question(self) -> str:
        """What was asked, as Markdown."""
        if self.example.query_text:
            return self.example.query_text
        return "\n\n".join(block.contents for block in self.example.query.blocks)

    @property
    def answer(self) -> str:
        """What was run, the contents of its blocks with a blank line between."""
        return "\n\n".join(block.contents for block in self.example.answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchAnswer:
    """What a search found."""

    matches: tuple[Match, ...]
    """Best first."""
    sees_own_writes: bool
    """False when something that this client wrote was not reached in time, or is lost. See `WhenBehind`."""
    response: SearchResponse = field(repr=False)
    """The answer as it came: whether the index may be behind (`degraded`), since when (`staleness`) …"""

    @classmethod
    def of(cls, response: SearchResponse, *, sees_own_writes: bool) -> "SearchAnswer":
        """From the answer of the RAG service."""
        return cls(
            matches=tuple(Match(result.example, result.score) for result in response.results),
            sees_own_writes=sees_own_writes,
            response=response,
        )
