"""Compiles the kernel, or loads what was compiled before, by a search of an index of a few rows.

Afterwards no search waits for the compiler: everything that calls the kernel does so with the same types.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final

import numpy as np

from rag_service.filters import select
from rag_service.generations import PublishedState
from rag_service.pruning.ranking import PrunedRanking
from rag_service.query import IndexQuery
from rag_service.rows import Rows
from rag_service.updates import Puts, language_facet, namespace_facet

_ROW_COUNT: Final = 3


class _AtOnce:
    """Runs a job when it comes."""

    def run(self, job: Iterator[None]) -> None:
        deque(job, maxlen=0)


def warm_up() -> None:
    """Returns when the kernel is compiled; raises whatever keeps it from being so."""
    rows = Rows(dimension=2, capacity=_ROW_COUNT)
    ranking = PrunedRanking(rows, background=_AtOnce())
    embedding = np.array([1, 0], dtype=np.float32)
    state = PublishedState()
    for generation in range(1, _ROW_COUNT + 1):
        puts = Puts(
            keys=[b"%d" % generation],
            revisions=[generation],
            examples=[b""],
            embeddings=embedding[np.newaxis],
            executed_ns=[0],
            facets=[(namespace_facet(""), language_facet(""), ("question", "", ""))],
        )
        ranking.wrote(rows.put(puts, generation))
        state = PublishedState(generation=generation, row_count=generation)
    query = IndexQuery(embedding=embedding)
    scan = ranking.scan(select(rows, state, query, list_share=ranking.list_share), query.embedding)
    scan.best(1)
    scan.drop(np.zeros(1, dtype=np.int64))
    scan.close()
