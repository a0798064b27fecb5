"""Which rows have a property: lists of rows by namespace, language, question and label.

One writer adds and removes rows in constant time. A reader copies a list at any moment, in one call that
the interpreter does not interrupt, and gets every row that stood in the list throughout the call. It may
get a row twice, and rows that came or went meanwhile: it tests what it gets against the state that it
searches.
"""

from array import array
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Facet = tuple[str, ...]
"""A property of a row: its kind, then what tells it from others of the kind."""

_SLOT_BITS: Final = 24
"""Bits for the place of a facet among those of its row: more than a message can hold labels."""
_SLOT_MASK: Final = (1 << _SLOT_BITS) - 1


class RowList:
    """The rows that have one facet."""

    __slots__ = ("entries", "facet", "number")

    def __init__(self, facet: Facet, number: int, entries: "array[int]") -> None:
        self.facet: Final = facet
        self.number: Final = number
        """Never given to another list; stands for the facet in columns of numbers."""
        # A row shifted left, and in the low bits the place of this list among those of the row.
        self.entries: Final = entries

    def __len__(self) -> int:
        return len(self.entries)

    def rows(self) -> NDArray[np.int64]:
        """A copy of the list as it is now, in no order."""
        return np.frombuffer(self.entries.tobytes(), dtype=np.int64) >> _SLOT_BITS

    def take_out(self, position: int) -> tuple[int, int]:
        """Removes the row at a position; returns the row that stands there afterwards, and its slot."""
        entries = self.entries
        moved = entries[-1]
        # Written to its new place before it leaves the old one: no copy misses it.
        entries[position] = moved
        entries.pop()
        return moved >> _SLOT_BITS, moved & _SLOT_MASK


class RowLists:
    """Every list that is not empty, and for each row the lists that it stands in."""

    def __init__(self) -> None:
        self._lists: dict[Facet, RowList] = {}
        self._next_number = 1
        # By row: its lists in the order of its facets, and its position in each of them.
        self._lists_of: list[tuple[RowList, ...]] = []
        self._positions_of: list[array[int]] = []

    def find(self, facet: Facet) -> RowList | None:
        """The list of a facet; None when no row has it."""
        return self._lists.get(facet)

    def lists_of(self, row: int) -> tuple[RowList, ...]:
        """The lists that a row stands in, in the order of its facets."""
        return self._lists_of[row]

    def add(self, rows: Sequence[int], facets: Sequence[Sequence[Facet]]) -> Sequence[tuple[RowList, ...]]:
        """Adds rows that stand in no list; returns the lists of each.

        Args:
            rows: ones that have been added before, then the ones after the greatest of those, rising.
            facets: the properties of each row, each once.
        """
        known = self._lists
        lists_of: list[tuple[RowList, ...]] = []
        for row, facets_of_row in zip(rows, facets, strict=True):
            lists: list[RowList] = []
            positions: list[int] = []
            entry = row << _SLOT_BITS
            for facet in facets_of_row:
                found = known.get(facet)
                if found is None:
                    known[facet] = found = RowList(facet, self._next_number, array("q"))
                    self._next_number += 1
                entries = found.entries
                positions.append(len(entries))
                entries.append(entry)
                # The next slot.
                entry += 1
                lists.append(found)
            of_row = tuple(lists)
            lists_of.append(of_row)
            if row == len(self._lists_of):
                self._lists_of.append(of_row)
                self._positions_of.append(array("q", positions))
            else:
                self._lists_of[row] = of_row
                self._positions_of[row] = array("q", positions)
        return lists_of

    def remove(self, row: int) -> None:
        """Removes a row from every list that it stands in."""
        for emptied, position in zip(self._lists_of[row], self._positions_of[row], strict=True):
            moved, slot = emptied.take_out(position)
            self._positions_of[moved][slot] = position
            if not emptied:
                del self._lists[emptied.facet]
        self._lists_of[row] = ()
        self._positions_of[row] = array("q")

    def fill(
        self, facets: Sequence[Facet], counts: NDArray[np.int64], places: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Adds the rows from 0 on, many at once, where none has been added yet.

        Args:
            facets: each that a row has, each once.
            counts: by row, how many facets it has.
            places: the facets of all rows, one row after the other, as places in `facets`.

        Returns:
            The number of each facet's list.

        Raises:
            ValueError: these do not fit each other.
        """
        counted = np.bincount(places, minlength=len(facets)) if len(places) else np.zeros(0, dtype=np.int64)
        if counts.sum() != len(places) or len(counted) != len(facets) or not counted.all():
            raise ValueError("the facets of the rows do not fit each other")
        row_starts, list_starts = np.cumsum(counts) - counts, np.cumsum(counted) - counted
        rows = np.repeat(np.arange(len(counts)), counts)
        slots = np.arange(len(places)) - np.repeat(row_starts, counts)
        by_list = np.argsort(places, kind="stable")
        entries = (rows << _SLOT_BITS | slots)[by_list].tobytes()
        positions = np.empty(len(places), dtype=np.int64)
        positions[by_list] = np.arange(len(places)) - np.repeat(list_starts, counted)
        numbers = np.arange(self._next_number, self._next_number + len(facets))
        lists = [
            RowList(facet, number, array("q", entries[start:end]))
            for facet, number, (start, end) in zip(
                facets, numbers.tolist(), _byte_ranges(list_starts, counted), strict=True
            )
        ]
        self._lists = dict(zip(facets, lists, strict=True))
        if len(self._lists) != len(facets):
            raise ValueError("a facet comes twice")
        self._next_number += len(facets)
        of_rows = [lists[place] for place in places.tolist()]
        self._lists_of = [
            tuple(of_rows[start : start + count])
            for start, count in zip(row_starts.tolist(), counts.tolist(), strict=True)
        ]
        encoded = positions.tobytes()
        self._positions_of = [
            array("q", encoded[start:end]) for start, end in _byte_ranges(row_starts, counts)
        ]
        return numbers


def _byte_ranges(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Where in the bytes of a column of int64 each run of so many numbers begins and ends."""
    return zip((starts * 8).tolist(), ((starts + counts) * 8).tolist(), strict=True)
