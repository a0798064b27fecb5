"""Ranks the rows of an index by codes of them, and keeps the codes.

Codes are written with the row, before a state shows it. When their rotation does not fit the rows any more,
new ones are built in the background, in slices, from the rows that there are. Rows written meanwhile are
noted, and encoded once more before the new codes take the place of the old. Before the first are built,
embeddings are read.

A search takes its state first and the codes then. Codes in use are complete for every state published so far;
codes that were in use are complete for every state published until they were replaced. So whatever codes a
search finds, they are complete for the state that it took before.

Searches wait for nothing; the writer waits at most while `_LAST_ROWS_MAX` rows are encoded.
"""

import threading
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from errata.serving.logs import get_logger
from rag_service.background import Background
from rag_service.filters import Selection
from rag_service.pruning.codes import Codes, KeyTooLongError
from rag_service.pruning.fit import Fit
from rag_service.pruning.rotation import SAMPLE_ROWS_MAX, fitted_basis
from rag_service.pruning.scan import PrunedScan, Spaces
from rag_service.rows import Rows
from rag_service.scoring import FloatScan, Scan

_SLICE_ROWS: Final = 256
"""Encoded at a time: 2 ms of work at 384 dimensions."""
_LAST_ROWS_MAX: Final = 64
"""So many of the rows noted may be left for the moment in which the writer waits."""

_log = get_logger()


class PrunedRanking:
    """Ranks the rows of one index. `wrote` is called by its writer, `scan` by any thread."""

    list_share: Final = 16
    """Codes of rows that are listed are read here and there, the others from end to end."""

    def __init__(self, rows: Rows, *, background: Background) -> None:
        """Keeps nothing yet.

        Args:
            rows: of the index.
            background: where codes are built.
        """
        self._rows = rows
        self._background = background
        self._spaces = Spaces(rows.embeddings.shape[1])
        # Guards what is written, never what is read: the writer holds it while it encodes, the background in
        # the moment in which it exchanges the codes.
        self._writing = threading.Lock()
        self._codes: Codes | None = None
        # Rows written since a building was begun; None when there is none.
        self._noted: deque[NDArray[np.int64]] | None = None
        self._is_usable = True
        self._fit = Fit()

    @property
    def has_codes(self) -> bool:
        """Whether searches that begin now use codes, if they are of enough rows."""
        return self._codes is not None

    @property
    def row_count(self) -> int:
        """Rows ever used."""
        return self._rows.row_count

    def expect(self, row_count: int) -> None:
        """Does nothing."""

    def begin_filling(self) -> None:
        """Does nothing."""

    def end_filling(self) -> None:
        """Does nothing."""

    def wrote(self, rows: Sequence[int]) -> None:
        """Encodes rows that have been written, if there are codes; begins to build some when they are due."""
        if not rows or not self._is_usable:
            return
        numbers = np.array(rows, dtype=np.int64)
        with self._writing:
            if self._noted is not None:
                self._noted.append(numbers)
            if self._codes is not None:
                try:
                    self._codes.write(numbers, [self._rows.keys[row] for row in rows])
                except KeyTooLongError as error:
                    self._give_up(error)
                    return
        self._fit.wrote(len(rows))
        if self._noted is None and self._fit.is_outdated():
            self.build()

    def build(self) -> None:
        """Begins to build codes, when none are being built."""
        self._noted = deque()
        self._background.run(_building(weakref.ref(self)))

    def scan(self, selection: Selection, query: NDArray[np.float32]) -> Scan:
        """Begins to rank rows of a state that has been taken and not given back."""
        codes = self._codes
        if codes is None:
            embeddings = self._rows.embeddings[: selection.row_count]
            return FloatScan(embeddings, self._rows.keys, selection, query)
        if selection.rows is not None:
            return PrunedScan(codes, selection, query, self._spaces)
        return _JudgedScan(codes, selection, query, self._spaces, self._fit)

    def begin_codes(self) -> Codes | None:
        """Codes of a rotation that fits the rows there are, without a row in them; None where there is
        none.
        """
        row_count = self._rows.row_count
        if not row_count:
            return None
        chosen: NDArray[np.int64] = np.arange(row_count)
        if row_count > SAMPLE_ROWS_MAX:
            chosen = np.random.default_rng(row_count).choice(row_count, SAMPLE_ROWS_MAX, replace=False)
        # One that is being written may come half old and half new, which makes no rotation wrong.
        basis = fitted_basis(self._rows.embeddings[np.sort(chosen)])
        return self._codes.rotated(basis) if self._codes is not None else Codes.empty(self._rows, basis)

    def encode(self, codes: Codes, numbers: NDArray[np.int64]) -> None:
        """Encodes rows in codes that are being built. Those that are being written come again."""
        if self._codes is None:
            codes.write(numbers, [self._rows.keys[row] for row in numbers.tolist()])
        else:
            # The rest is shared with the codes in use, and written with the row.
            codes.write_prefix(numbers)

    def exchange(self, codes: Codes) -> bool:
        """Encodes some of the rows noted; when none is left, puts the codes in use and returns True."""
        with self._writing:
            if not self._is_usable:
                return True
            noted = self._noted or deque()
            if sum(map(len, noted)) <= _LAST_ROWS_MAX:
                for numbers in noted:
                    self.encode(codes, numbers)
                self._codes = codes
                self._stop_building(self._rows.row_count)
                return True
            numbers = noted.popleft()
        self.encode(codes, numbers)
        return False

    def give_up_building(self, error: Exception | None) -> None:
        """Ends a building without a result; with an error, ends the use of codes."""
        with self._writing:
            self._stop_building(0)
            if error is not None:
                self._give_up(error)

    def _stop_building(self, row_count: int) -> None:
        self._noted = None
        self._fit.begin(row_count)

    def _give_up(self, error: Exception) -> None:
        """From now on the embeddings are read."""
        self._is_usable = False
        self._codes = None
        _log.warning("searches take longer from now on", problem=repr(error))


class _JudgedScan(PrunedScan):
    """Tells how far the codes helped."""

    def __init__(
        self, codes: Codes, selection: Selection, query: NDArray[np.float32], spaces: Spaces, fit: Fit
    ) -> None:
        self._fit = fit
        self._reads_codes = fit.reads_codes()
        super().__init__(codes, selection, query, spaces, reads_codes=self._reads_codes)

    def close(self) -> None:
        super().close()
        if self._reads_codes:
            self._fit.judge(self.position_count, self.left_count, self.scored_count)


def _building(reference: "weakref.ref[PrunedRanking]") -> Iterator[None]:
    """Builds codes for a ranking, if it is still there."""
    try:
        if (ranking := reference()) is None:
            return
        codes = ranking.begin_codes()
        if codes is None:
            ranking.give_up_building(None)
            return
        numbers = np.arange(ranking.row_count)
        for start in range(0, len(numbers), _SLICE_ROWS):
            ranking.encode(codes, numbers[start : start + _SLICE_ROWS])
            del ranking
            yield
            if (ranking := reference()) is None:
                return
        while not ranking.exchange(codes):
            del ranking
            yield
            if (ranking := reference()) is None:
                return
    except Exception as error:  # noqa: BLE001 - searches go on without codes
        if (ranking := reference()) is not None:
            ranking.give_up_building(error)
