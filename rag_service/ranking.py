"""How an index ranks its rows: what it keeps of them for that, and the scans that it builds.

Every ranking gives the same answers; they differ in time and memory.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rag_service.filters import Selection
from rag_service.rows import Rows
from rag_service.scoring import GATHER_SHARE, FloatScan, Scan

BuildScan = Callable[[NDArray[np.float32], Sequence[bytes], Selection, NDArray[np.float32]], Scan]
"""Ranks a selection of rows; see `FloatScan`."""


class Ranking(Protocol):
    """Ranks the rows of one index."""

    @property
    def list_share(self) -> int:
        """Rows are best listed when at most one in so many passes."""
        ...

    def expect(self, row_count: int) -> None:
        """Takes in that so many rows are going to be written at once. For the writer."""
        ...

    def begin_filling(self) -> None:
        """Takes in that no search comes until `end_filling`: nothing need be kept for searches yet."""
        ...

    def end_filling(self) -> None:
        """Takes in that searches come from now on."""
        ...

    def wrote(self, rows: Sequence[int]) -> None:
        """Takes in rows that have been written; no published state shows them yet. For the writer."""
        ...

    def scan(self, selection: Selection, query: NDArray[np.float32]) -> Scan:
        """Begins to rank rows of a state that has been taken and not given back.

        Args:
            selection: the rows.
            query: unit vector.
        """
        ...


BuildRanking = Callable[[Rows], Ranking]
"""The ranking of an index that is empty, by its rows."""


class FloatRanking:
    """Ranks by the embeddings alone: keeps nothing, and reads every one that passes."""

    list_share = GATHER_SHARE

    def __init__(self, rows: Rows, build_scan: BuildScan = FloatScan) -> None:
        """Keeps nothing."""
        self._rows = rows
        self._build_scan = build_scan

    def expect(self, row_count: int) -> None:
        """Does nothing."""

    def begin_filling(self) -> None:
        """Does nothing."""

    def end_filling(self) -> None:
        """Does nothing."""

    def wrote(self, rows: Sequence[int]) -> None:
        """Does nothing."""

    def scan(self, selection: Selection, query: NDArray[np.float32]) -> Scan:
        """Reads the rows."""
        embeddings = self._rows.embeddings[: selection.row_count]
        return self._build_scan(embeddings, self._rows.keys, selection, query)
