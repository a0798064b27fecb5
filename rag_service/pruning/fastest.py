"""Ranks by embeddings alone while there are few rows, and by codes then, where numba works.

The answers are the same. numba takes 120 MB and half a second, and compiling the kernel 15 s where it was not
kept from an earlier process: that is spent when an index first has rows enough to gain by it.
"""

import asyncio
import importlib
import threading
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Final

import numpy as np
from numpy.typing import NDArray

from errata.serving.logs import get_logger
from rag_service.background import Background
from rag_service.filters import Selection
from rag_service.ranking import FloatRanking, Ranking
from rag_service.rows import Rows
from rag_service.scoring import Scan

ROWS_MIN: Final = 2_000
"""An index of fewer rows is searched as fast without codes."""

_log = get_logger()


class Kernel:
    """The search kernel, once it is loaded or known not to work. For any threads."""

    def __init__(self, background: Background) -> None:
        """Loads nothing.

        Args:
            background: where the kernel is loaded.
        """
        self._background = background
        self._lock = threading.Lock()
        self._works: Future[bool] | None = None

    @property
    def works(self) -> bool:
        """Whether it is loaded."""
        return self._works is not None and self._works.done() and self._works.result()

    def load(self) -> None:
        """Begins to load it, if that was not begun yet; jobs that come later find it loaded."""
        with self._lock:
            if self._works is None:
                self._works = Future()
                self._background.run(_loading(self._works))

    async def settled(self) -> None:
        """Returns when it is not being loaded."""
        if self._works is not None:
            await asyncio.wrap_future(self._works)


class FastestRanking:
    """Ranks the rows of one index. `wrote` is called by its writer, `scan` by any thread."""

    def __init__(
        self, rows: Rows, *, kernel: Kernel, background: Background, rows_min: int = ROWS_MIN
    ) -> None:
        """Ranks by embeddings.

        Args:
            rows: of the index; empty.
            kernel: is loaded when there are rows enough, in `background`.
            background: where codes are built.
            rows_min: from so many rows on codes are used.
        """
        self._rows = rows
        self._kernel = kernel
        self._background = background
        self._rows_min = rows_min
        self._is_filling = False
        self._has_enough = False
        self._ranking: Ranking = FloatRanking(rows)

    @property
    def list_share(self) -> int:
        """Rows are best listed when at most one in so many passes."""
        return self._ranking.list_share

    def expect(self, row_count: int) -> None:
        """Takes in that so many rows are going to be written at once: the kernel is loaded meanwhile."""
        if row_count >= self._rows_min:
            self._kernel.load()

    def begin_filling(self) -> None:
        """Takes in that no search comes until `end_filling`.

        To encode every batch that comes, and all rows anew as their number grows, takes longer than all else.
        """
        self._is_filling = True

    def end_filling(self) -> None:
        """Takes in that searches come from now on."""
        self._is_filling = False
        self._begin_codes_if_due()

    def wrote(self, rows: Sequence[int]) -> None:
        """Takes in rows that have been written; no published state shows them yet."""
        self._ranking.wrote(rows)
        self._begin_codes_if_due()

    def scan(self, selection: Selection, query: NDArray[np.float32]) -> Scan:
        """Begins to rank rows of a state that has been taken and not given back."""
        return self._ranking.scan(selection, query)

    def _begin_codes_if_due(self) -> None:
        if self._is_filling or self._has_enough or self._rows.row_count < self._rows_min:
            return
        self._has_enough = True
        self._kernel.load()
        self._background.run(_using_codes(weakref.ref(self)))

    def use_codes(self) -> None:
        """Ranks by codes from now on, as soon as they are built, if the kernel works; for the background."""
        if not self._kernel.works:
            return
        from rag_service.pruning.ranking import PrunedRanking  # noqa: PLC0415 - loads numba

        pruned = PrunedRanking(self._rows, background=self._background)
        # Notes what is written from here on. The rows themselves are read in later steps: what the writer
        # still hands to the old ranking, it has written before that.
        pruned.build()
        self._ranking = pruned


def _using_codes(reference: "weakref.ref[FastestRanking]") -> Iterator[None]:
    if (ranking := reference()) is not None:
        ranking.use_codes()
    yield


def _loading(works: "Future[bool]") -> Iterator[None]:
    works.set_result(_kernel_works())
    yield


def _kernel_works() -> bool:
    """Compiles the kernel, or loads it, and tells whether that went well."""
    try:
        importlib.import_module("rag_service.pruning.warm_up").warm_up()
    except ImportError as error:
        _log.info("numba cannot be used, searches of large indexes take longer", problem=str(error))
        return False
    except Exception:  # noqa: BLE001 - whatever it is, searches work without
        _log.exception("the kernel cannot be compiled, searches of large indexes take longer")
        return False
    return True
