"""Every way in which an index can rank its rows, for tests that hold for all of them."""

import importlib.util
from collections import deque
from collections.abc import Iterator
from typing import Final

import pytest

from rag_service.ranking import BuildRanking, FloatRanking, Ranking
from rag_service.rows import Rows


class AtOnce:
    """Runs a job when it comes."""

    def run(self, job: Iterator[None]) -> None:
        deque(job, maxlen=0)


class ByHand:
    """Runs jobs step by step, when the test says so."""

    def __init__(self) -> None:
        self.jobs: list[Iterator[None]] = []

    def run(self, job: Iterator[None]) -> None:
        self.jobs.append(job)

    def step(self) -> bool:
        """Runs one step of the oldest job; returns False when there is none."""
        while self.jobs:
            if next(self.jobs[0], self) is not self:
                return True
            self.jobs.pop(0)
        return False

    def finish(self) -> None:
        while self.step():
            pass


def pruned(rows: Rows) -> Ranking:
    """Ranks by codes from the first row on, and fits them anew as soon as that is due."""
    from rag_service.pruning.ranking import PrunedRanking  # noqa: PLC0415 - where there is no numba, it is missing

    return PrunedRanking(rows, background=AtOnce())


HAS_NUMBA: Final = importlib.util.find_spec("numba") is not None
RANKINGS: Final[list[object]] = [
    pytest.param(FloatRanking, id="float"),
    pytest.param(pruned, id="pruned", marks=pytest.mark.skipif(not HAS_NUMBA, reason="needs numba")),
]
each_ranking: Final = pytest.mark.parametrize("build_ranking", RANKINGS)
__all__ = ["HAS_NUMBA", "RANKINGS", "AtOnce", "BuildRanking", "ByHand", "each_ranking", "pruned"]
