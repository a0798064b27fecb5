"""Maximal marginal relevance (Carbonell and Goldstein 1998): likeness to the query traded for variety.

Of the rows not yet chosen, the next is the one with the greatest

    λ score(row, query) - (1 - λ) max over rows chosen of score(row, chosen),    λ = 1 - diversity

in float64, ties by the order by score. Likeness of two rows is scored by the same rule as that of a row and a
query, so the choice is the same on every CPU.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rag_service.scoring import Ranked, exact_scores


def diversified(
    ranked: Sequence[Ranked], embeddings: NDArray[np.float32], *, count: int, diversity: float
) -> list[Ranked]:
    """At most `count` of the rows, the best one first, in the order in which they are chosen.

    Args:
        ranked: rows, best first.
        embeddings: by row.
        count: at least 1.
        diversity: in [0, 1].
    """
    if not ranked:
        return []
    vectors = embeddings[[candidate.row for candidate in ranked]].astype(np.float64)
    relevance = (1.0 - diversity) * np.array([candidate.score for candidate in ranked])
    chosen = [0]
    likeness = exact_scores(vectors, vectors[0]).astype(np.float64)
    # What is chosen has no value any more.
    open_value = np.zeros(len(ranked))
    open_value[0] = -np.inf
    while len(chosen) < min(count, len(ranked)):
        next_one = int(np.argmax(relevance - diversity * likeness + open_value))
        chosen.append(next_one)
        open_value[next_one] = -np.inf
        np.maximum(likeness, exact_scores(vectors, vectors[next_one]), out=likeness)
    return [ranked[position] for position in chosen]
