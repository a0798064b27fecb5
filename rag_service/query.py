"""What is asked of the index, and its answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IndexQuery:
    """One question, in the terms of SearchRequest, checked and with its defaults filled in."""

    embedding: NDArray[np.float32]
    """Unit vector, shape (dimension,)."""
    limit: int = 3
    """At most this many hits, at least 1."""
    min_score: float | None = None
    """Leaves out hits that score less."""
    namespaces: tuple[str, ...] = ()
    """Only examples of these. None means the default namespace alone."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Only examples with every one of these."""
    languages: tuple[str, ...] = ()
    """Only examples whose answer's first code block is in one of these; an answer without code has the empty
    language. None takes all."""
    executed_since_ns: int | None = None
    """Only examples that were run or taught at or after this time, since the epoch; see `updates.time_ns`."""
    exclude: frozenset[bytes] = frozenset()
    """Leaves out the examples with these keys; see `updates.encoded_key`."""
    per_question_limit: int = 1
    """At most this many examples with the same question and language, the latest, at least 1."""
    diversity: float = 0.0
    """In [0, 1]; 0 ranks by score alone."""

    def __post_init__(self) -> None:
        if self.limit < 1 or self.per_question_limit < 1 or not 0.0 <= self.diversity <= 1.0:
            raise ValueError("a limit is less than 1, or the diversity outside [0, 1]")


@dataclass(frozen=True, slots=True)
class Hit:
    """One example that was found."""

    example: bytes
    """Encoded, without its embedding."""
    score: float
    """A float32, in [-1, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexAnswer:
    """What was found."""

    hits: Sequence[Hit]
    """Best first."""
    below_min_score_count: int
    """Of the `limit` best before `min_score` was applied, those below it."""
    received_revision: int
    """Newest change that the searched state reflects; 0 when none."""
