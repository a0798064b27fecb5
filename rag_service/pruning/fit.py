"""Whether the codes of an index still fit its rows, judged by how far they help searches.

All of it is about time, nothing about answers. Counted without a lock: a count that is lost does no harm.
"""

import statistics
from collections import deque
from typing import Final

GROWTH_FACTOR: Final = 4
"""A rotation is fitted anew when there are so many times the rows: then building codes again and again costs
a third of what writing them with the row costs."""
_TURNOVER_SHARE: Final = 8
"""Or when one row in so many is new, and it prunes worse:"""
_WORSE_FACTOR: Final = 2.0
"""leaves so many times the share of the rows that it left at first,"""
_LEFT_SHARE_MIN: Final = 0.005
"""and not too few to matter,"""
_JUDGED_COUNT: Final = 65
"""by the median of so many searches."""
_HOPELESS_COUNT: Final = 8
"""After so many searches in a row that scored most rows, codes are not read any more,"""
_PROBE_INTERVAL: Final = 32
"""but by one search out of so many, to see whether that is still so."""


class Fit:
    """Of the codes in use; of none at first."""

    def __init__(self) -> None:
        """Codes are missing."""
        self._row_count = 0
        self._written_count = 0
        self._left_shares: deque[float] = deque(maxlen=_JUDGED_COUNT)
        self._first_left_share: float | None = None
        self._hopeless_count = 0
        self._search_count = 0

    def begin(self, row_count: int) -> None:
        """Takes in that codes have been fitted to so many rows."""
        self._row_count = row_count
        self._written_count = 0
        self._left_shares.clear()
        self._first_left_share = None
        self._hopeless_count = 0

    def wrote(self, row_count: int) -> None:
        """Takes in that rows have been written."""
        self._written_count += row_count

    def is_outdated(self) -> bool:
        """Whether codes of another rotation would be worth their cost."""
        if self._written_count >= (GROWTH_FACTOR - 1) * self._row_count:
            return True
        return self._written_count * _TURNOVER_SHARE >= self._row_count and self._prunes_worse()

    def reads_codes(self) -> bool:
        """Whether the search that begins is to read codes."""
        self._search_count += 1
        return self._hopeless_count < _HOPELESS_COUNT or self._search_count % _PROBE_INTERVAL == 0

    def judge(self, row_count: int, left_count: int, scored_count: int) -> None:
        """Takes in that a search of so many rows was left so many by the first codes, and scored so many."""
        self._hopeless_count = self._hopeless_count + 1 if 2 * scored_count > row_count else 0
        self._left_shares.append(left_count / max(1, row_count))
        if self._first_left_share is None and len(self._left_shares) == _JUDGED_COUNT:
            self._first_left_share = statistics.median(self._left_shares)

    def _prunes_worse(self) -> bool:
        if self._first_left_share is None:
            return False
        at_first = max(self._first_left_share, _LEFT_SHARE_MIN)
        return statistics.median(tuple(self._left_shares)) > _WORSE_FACTOR * at_first
