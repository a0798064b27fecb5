"""The rule that of one question, in one language, only the latest few examples count.

It is decided among the rows that pass, before anything is scored. Looking at every question of the index
would cost more than scoring it, so the rule is applied where it can matter: rows are taken best first,
and a question is decided when the first of its rows comes up. A row that the rule keeps is kept wherever
it stands, so the rows kept of a prefix of the order are a prefix of the rows kept.
"""

import itertools
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rag_service.filters import Selection
from rag_service.row_lists import RowList
from rag_service.rows import Rows
from rag_service.scoring import Ranked, Scan
from rag_service.ties import greatest

_LOOK_FACTOR: Final = 4
"""From the third look on each takes so many times the rows of the one before, so that their number is small
and the work of all is little more than that of the last. The second takes as many as the first: what did not
count is out by then, and mostly that was all."""


class QuestionRule:
    """Decides for one search which rows count: of each question and language, the `limit` latest that pass.

    Ties in time go to the smaller key.
    """

    def __init__(self, rows: Rows, selection: Selection, limit: int) -> None:
        self._rows = rows
        self._selection = selection
        self._limit = limit
        # By number of the question's list.
        self._kept: dict[int, frozenset[int]] = {}
        self._dropped: list[NDArray[np.int64]] = []

    def keeps(self, row: int) -> bool:
        """Tells whether a row that passes counts."""
        asked = self._rows.question_list(row)
        if len(asked) <= self._limit:
            return True
        kept = self._kept.get(asked.number)
        if kept is None:
            kept = self._decide(asked)
            self._kept[asked.number] = kept
        return row in kept

    def take_dropped(self) -> Sequence[NDArray[np.int64]]:
        """The rows that pass and do not count, of the questions decided since the last call."""
        dropped = self._dropped
        self._dropped = []
        return dropped

    def _decide(self, asked: RowList) -> frozenset[int]:
        members = np.unique(asked.rows())
        members = members[members < self._selection.row_count]
        members = members[self._selection.passing(members)]
        if len(members) <= self._limit:
            return frozenset(members.tolist())
        latest = greatest(members, self._rows.executed_ns[members], self._rows.keys, self._limit)
        self._dropped.append(np.delete(members, latest))
        return frozenset(members[latest].tolist())


def best_by_rule(scan: Scan, rule: QuestionRule, count: int) -> list[Ranked]:
    """The `count` best rows that count, best first; fewer when there are fewer."""
    for look in itertools.count():
        look_count = count * _LOOK_FACTOR ** max(0, look - 1)
        looked_at = scan.best(look_count)
        kept: list[Ranked] = []
        for ranked in looked_at:
            if rule.keeps(ranked.row):
                kept.append(ranked)
                if len(kept) == count:
                    return kept
        if len(looked_at) < look_count:
            return kept
        for dropped in rule.take_dropped():
            scan.drop(dropped)
    raise AssertionError("not reached")
