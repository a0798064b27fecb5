"""Which rows a query may find: those that its state shows and its filter and `exclude` let pass.

A property that few rows have is looked up in the list of those rows, so that a search of a small
namespace in a large index touches little of it. Otherwise nothing is looked at before it matters: whoever
ranks the rows asks which of them pass.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rag_service.generations import PublishedState
from rag_service.query import IndexQuery
from rag_service.row_lists import Facet, RowList
from rag_service.rows import ROWS_MULTIPLE, Pick, Rows
from rag_service.updates import label_facet, language_facet, namespace_facet, time_ns

ALL_LABELS: Final = np.zeros(0, dtype=np.bool_)
NO_ROWS: Final = np.zeros(0, dtype=np.int64)
_ANY_TIME_NS: Final = -(2**63)


@dataclass(frozen=True, slots=True, eq=False)
class Conditions:
    """What a row must meet; the columns of `rows` are to be read by these."""

    rows: Rows
    generation: int
    """Of the state, which must show the row."""
    namespaces: NDArray[np.int64]
    """Numbers of lists, rising, one of which the row must be in."""
    languages: NDArray[np.int64]
    """Likewise; empty when every language will do."""
    since_ns: int
    """Least time."""
    labelled: NDArray[np.bool_]
    """By row, whether it has the labels; `ALL_LABELS` when it need have none. Otherwise as long as the state,
    rounded up to a multiple of `ROWS_MULTIPLE`."""
    excluded: NDArray[np.int64]
    """Rows that must not be found, rising."""

    def are_met(self, pick: Pick) -> NDArray[np.bool_]:
        """For each row picked, whether it meets them: rows of the state, if it is a slice then from 0 on."""
        rows = self.rows
        met = rows.visible(pick, self.generation)
        met &= _is_among(rows.namespace_numbers[pick], self.namespaces)
        if self.languages.size:
            met &= _is_among(rows.language_numbers[pick], self.languages)
        if self.since_ns > _ANY_TIME_NS:
            met &= rows.executed_ns[pick] >= self.since_ns
        if self.labelled is not ALL_LABELS:
            met &= self.labelled[pick]
        if self.excluded.size:
            if isinstance(pick, slice):
                met[self.excluded] = False
            else:
                met &= ~_is_among(pick, self.excluded)
        return met


class Selection:
    """The rows of a state that pass: listed, or told by what they meet."""

    __slots__ = ("conditions", "row_count", "rows")

    def __init__(self, row_count: int, passing: NDArray[np.int64] | Conditions) -> None:
        """Looks at nothing.

        Args:
            row_count: rows that may belong to the state: those from 0 up to this one.
            passing: the rows that pass, rising, or what they meet.
        """
        self.row_count: Final = row_count
        self.rows: Final = None if isinstance(passing, Conditions) else passing
        """The rows that pass, rising, when they are listed, else None."""
        self.conditions: Final = passing if isinstance(passing, Conditions) else None
        """What the rows that pass meet, when they are not listed, else None."""

    def passing(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """For each of some rows of the state, whether it passes."""
        if self.conditions is not None:
            return self.conditions.are_met(rows)
        return _is_among(rows, self.rows if self.rows is not None else NO_ROWS)

    def mask(self) -> NDArray[np.bool_]:
        """For each row of the state, whether it passes."""
        if self.conditions is not None:
            return self.conditions.are_met(slice(self.row_count))
        mask = np.zeros(self.row_count, dtype=np.bool_)
        mask[self.rows] = True
        return mask


def select(rows: Rows, state: PublishedState, query: IndexQuery, *, list_share: int) -> Selection:
    """The rows of a state that a query may find.

    Args:
        rows: of the index.
        state: a published one.
        query: says what may pass.
        list_share: rows are listed where a condition tells that at most one in so many passes.
    """
    row_count = state.row_count
    namespaces = _lists(rows, [namespace_facet(name) for name in set(query.namespaces) or {""}])
    languages = _lists(rows, [language_facet(name) for name in set(query.languages)])
    labels = [_lists(rows, [label_facet(name, value)]) for name, value in query.labels.items()]
    if not namespaces or (query.languages and not languages) or not all(labels):
        return Selection(row_count, NO_ROWS)
    narrowest = min([namespaces, *([languages] if languages else []), *labels], key=_size)
    listed = _size(narrowest) * list_share <= row_count
    conditions = Conditions(
        rows=rows,
        generation=state.generation,
        namespaces=_numbers(namespaces),
        languages=_numbers(languages),
        since_ns=(_ANY_TIME_NS if query.executed_since_ns is None else time_ns(0, query.executed_since_ns)),
        labelled=_labelled([lists for lists in labels if not (listed and lists is narrowest)], row_count),
        excluded=_excluded(rows, query.exclude, row_count),
    )
    if listed:
        candidates = _once(_rows_of(narrowest, row_count))
    else:
        few = _few(conditions, row_count, list_share)
        if few is None:
            return Selection(row_count, conditions)
        candidates = few
    return Selection(row_count, candidates[conditions.are_met(candidates)])


def _few(conditions: Conditions, row_count: int, list_share: int) -> NDArray[np.int64] | None:
    """The rows that meet what no list tells alone, a time and several labels, if they are few; else None."""
    if conditions.since_ns == _ANY_TIME_NS and conditions.labelled is ALL_LABELS:
        return None
    met = conditions.rows.executed_ns[:row_count] >= conditions.since_ns
    if conditions.labelled is not ALL_LABELS:
        met &= conditions.labelled[:row_count]
    return np.flatnonzero(met) if np.count_nonzero(met) * list_share <= row_count else None


def _lists(rows: Rows, facets: Iterable[Facet]) -> list[RowList]:
    # A list that the writer empties meanwhile holds no row that the searched state shows.
    return [found for facet in facets if (found := rows.lists.find(facet)) is not None]


def _size(lists: Sequence[RowList]) -> int:
    return sum(map(len, lists))


def _numbers(lists: Sequence[RowList]) -> NDArray[np.int64]:
    return np.array(sorted(row_list.number for row_list in lists), dtype=np.int64)


def _rows_of(lists: Sequence[RowList], row_count: int) -> NDArray[np.int64]:
    """The rows of the lists, without those that came after the state; in no order, perhaps some twice."""
    listed = np.concatenate([row_list.rows() for row_list in lists])
    return listed[listed < row_count]


def _once(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each of the rows once, rising."""
    rising = np.sort(rows)
    return rising[np.concatenate(([True], rising[1:] != rising[:-1]))] if rising.size else rising


def _labelled(labels: Sequence[Sequence[RowList]], row_count: int) -> NDArray[np.bool_]:
    """By row, whether it is in one of the lists of each label."""
    labelled = ALL_LABELS
    for lists in labels:
        held = np.zeros(-(-row_count // ROWS_MULTIPLE) * ROWS_MULTIPLE, dtype=np.bool_)
        held[_rows_of(lists, row_count)] = True
        labelled = held if labelled is ALL_LABELS else labelled & held
    return labelled


def _excluded(rows: Rows, keys: Iterable[bytes], row_count: int) -> NDArray[np.int64]:
    excluded = {row for key in keys for row in rows.rows_of_key(key) if row < row_count}
    return np.array(sorted(excluded), dtype=np.int64) if excluded else NO_ROWS


def _is_among(numbers: NDArray[np.int64], rising: NDArray[np.int64]) -> NDArray[np.bool_]:
    if rising.size == 1:
        equal: NDArray[np.bool_] = numbers == rising[0]
        return equal
    if not rising.size:
        return np.zeros(numbers.shape, dtype=np.bool_)
    places = np.searchsorted(rising, numbers)
    found: NDArray[np.bool_] = rising[np.minimum(places, len(rising) - 1)] == numbers
    return found
