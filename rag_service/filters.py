"""Which rows a query may find: those that its state shows and its filter and `exclude` let pass.

A property that few rows have is looked up in the list of those rows, so that a search of a small
namespace in a large index touches little of it; otherwise columns are compared from end to end.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rag_service.generations import PublishedState
from rag_service.query import IndexQuery
from rag_service.row_lists import Facet, RowList
from rag_service.rows import Pick, Rows
from rag_service.updates import label_facet, language_facet, namespace_facet, time_ns

_GATHER_SHARE: Final = 2
"""Of at most one row in so many, each is fetched by its number; of more, all are read in order. A row fetched
takes up to twice as long as one read in order."""


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """The rows that pass."""

    mask: NDArray[np.bool_]
    """For each row of the state, whether it passes."""
    rows: NDArray[np.int64] | None
    """The rows that pass, rising, when they are so few that each is better fetched by its number; else
    None."""
    count: int
    """Of the rows that pass."""


@dataclass(frozen=True, slots=True, eq=False)
class _Condition:
    """Holds for the rows of any of some lists."""

    lists: Sequence[RowList]
    """At least one."""
    numbers: NDArray[np.int64] | None
    """By row, the number of its list of this kind; None when a row may stand in several."""
    size: int
    """Rows in the lists when the search looked."""


def select(rows: Rows, state: PublishedState, query: IndexQuery) -> Selection:
    """The rows of a state that a query may find."""
    row_count = state.row_count
    conditions = _conditions(rows, query)
    if conditions is None:
        return _selection(np.zeros(row_count, dtype=np.bool_))
    narrowest = min(conditions, key=lambda condition: condition.size)
    by_list = narrowest.size * _GATHER_SHARE <= row_count
    pick: Pick = _rows_of(narrowest, row_count) if by_list else slice(row_count)
    passing = rows.visible(pick, state.generation)
    for condition in conditions:
        if not by_list or condition is not narrowest:
            passing &= _holds(condition, pick, row_count)
    if query.executed_since_ns is not None:
        passing &= rows.executed_ns[pick] >= time_ns(0, query.executed_since_ns)
    if isinstance(pick, slice):
        mask = passing
    else:
        mask = np.zeros(row_count, dtype=np.bool_)
        mask[pick[passing]] = True
    for key in query.exclude:
        for row in rows.rows_of_key(key):
            if row < row_count:
                mask[row] = False
    return _selection(mask)


def _selection(mask: NDArray[np.bool_]) -> Selection:
    count = int(np.count_nonzero(mask))
    few = count * _GATHER_SHARE <= len(mask)
    return Selection(mask, np.flatnonzero(mask) if few else None, count)


def _conditions(rows: Rows, query: IndexQuery) -> list[_Condition] | None:
    """What must hold of a row; None when no row can pass."""
    namespaces = [namespace_facet(name) for name in set(query.namespaces) or {""}]
    conditions = [_condition(rows, namespaces, rows.namespace_numbers)]
    if query.languages:
        languages = [language_facet(name) for name in set(query.languages)]
        conditions.append(_condition(rows, languages, rows.language_numbers))
    for name, value in query.labels.items():
        conditions.append(_condition(rows, [label_facet(name, value)], None))
    possible = [condition for condition in conditions if condition is not None]
    return possible if len(possible) == len(conditions) else None


def _condition(rows: Rows, facets: Iterable[Facet], numbers: NDArray[np.int64] | None) -> _Condition | None:
    # A list that the writer empties meanwhile holds no row that the searched state shows.
    lists = [found for facet in facets if (found := rows.lists.find(facet)) is not None]
    return _Condition(lists, numbers, sum(map(len, lists))) if lists else None


def _rows_of(condition: _Condition, row_count: int) -> NDArray[np.int64]:
    """The rows of the lists, without those that came after the state; in no order, perhaps some twice."""
    listed = np.concatenate([row_list.rows() for row_list in condition.lists])
    return listed[listed < row_count]


def _holds(condition: _Condition, pick: Pick, row_count: int) -> NDArray[np.bool_]:
    """For each row picked that the state shows, whether the condition holds; for others, anything."""
    if condition.numbers is None:
        holds = np.zeros(row_count, dtype=np.bool_)
        holds[_rows_of(condition, row_count)] = True
        return holds[pick]
    numbers = condition.numbers[pick]
    equal: NDArray[np.bool_] = numbers == condition.lists[0].number
    for row_list in condition.lists[1:]:
        equal |= numbers == row_list.number
    return equal
