"""Ranks by embeddings alone while there are few rows, and by codes then, where numba works.

The answers are the same. numba takes 0.3 s and 120 MB, and compiling the kernel up to 15 s where it was not
kept from an earlier process: that is done in the background, when an index first has rows enough to gain by it.
"""

import functools
import importlib
import weakref
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from errata.serving.logs import get_logger
from rag_service.background import Background
from rag_service.filters import Selection
from rag_service.generations import Publication
from rag_service.ranking import FloatRanking, Ranking
from rag_service.rows import Rows
from rag_service.scoring import Scan

ROWS_MIN: Final = 2_000
"""An index of fewer rows is searched as fast without codes."""

_log = get_logger()


class FastestRanking:
    """Ranks the rows of one index. `wrote` is called by its writer, `scan` by any thread."""

    def __init__(
        self, rows: Rows, publication: Publication, *, background: Background, rows_min: int = ROWS_MIN
    ) -> None:
        """Loads nothing yet.

        Args:
            rows: of the index; empty.
            publication: its states.
            background: where the kernel is loaded and codes are built.
            rows_min: from so many rows on codes are used.
        """
        self._rows = rows
        self._publication = publication
        self._background = background
        self._rows_min = rows_min
        self._is_loading = False
        self._ranking: Ranking = FloatRanking(rows, publication)

    @property
    def list_share(self) -> int:
        """Rows are best listed when at most one in so many passes."""
        return self._ranking.list_share

    def wrote(self, rows: Sequence[int]) -> None:
        """Takes in rows that have been written; no published state shows them yet."""
        self._ranking.wrote(rows)
        if not self._is_loading and self._rows.row_count >= self._rows_min:
            self._is_loading = True
            self._background.run(_loading(weakref.ref(self)))

    def scan(self, selection: Selection, query: NDArray[np.float32]) -> Scan:
        """Begins to rank rows of a state that has been taken and not given back."""
        return self._ranking.scan(selection, query)

    def use_codes(self) -> None:
        """Ranks by codes from now on, as soon as they are built; for the background."""
        from rag_service.pruned_ranking import PrunedRanking  # noqa: PLC0415 - loads numba

        pruned = PrunedRanking(self._rows, self._publication, background=self._background)
        # Notes what is written from here on. The rows themselves are read in later steps: what the writer still
        # hands to the old ranking, it has written before that.
        pruned.build()
        self._ranking = pruned


def _loading(reference: "weakref.ref[FastestRanking]") -> Iterator[None]:
    if _kernel_works() and (ranking := reference()) is not None:
        ranking.use_codes()
    yield


@functools.cache
def _kernel_works() -> bool:
    """Compiles the kernel, or loads it, and tells whether that went well."""
    try:
        importlib.import_module("rag_service.warm_up").warm_up()
    except ImportError as error:
        _log.info("numba cannot be used, searches of large indexes take longer", problem=str(error))
        return False
    except Exception:  # noqa: BLE001 - whatever it is, searches work without
        _log.exception("the kernel cannot be compiled, searches of large indexes take longer")
        return False
    return True
