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

    __slots__ = ("_entries", "facet", "number")

    def __init__(self, facet: Facet, number: int, entries: bytes = b"") -> None:
        self.facet: Final = facet
        self.number: Final = number
        """Never given to another list; stands for the facet in columns of numbers."""
        # A row shifted left, and in the low bits the place of this list among those of the row.
        self._entries = array("q", entries)

    def __len__(self) -> int:
        return len(self._entries)

    def rows(self) -> NDArray[np.int64]:
        """A copy of the list as it is now, in no order."""
        return np.frombuffer(self._entries.tobytes(), dtype=np.int64) >> _SLOT_BITS

    def append(self, row: int, slot: int) -> int:
        """Adds a row; returns its position."""
        self._entries.append(row << _SLOT_BITS | slot)
        return len(self._entries) - 1

    def take_out(self, position: int) -> tuple[int, int]:
        """Removes the row at a position; returns the row that stands there afterwards, and its slot."""
        entries = self._entries
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

    def add(self, row: int, facets: Sequence[Facet]) -> tuple[RowList, ...]:
        """Adds a row that stands in no list; returns its lists.

        Args:
            row: one that has been added before, or the one after the greatest of those.
            facets: the properties of the row, each once.
        """
        lists = tuple([self._lists.get(facet) or self._begin(facet) for facet in facets])
        positions = array("q", [found.append(row, slot) for slot, found in enumerate(lists)])
        if row == len(self._lists_of):
            self._lists_of.append(lists)
            self._positions_of.append(positions)
        else:
            self._lists_of[row] = lists
            self._positions_of[row] = positions
        return lists

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
            RowList(facet, number, entries[start:end])
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

    def _begin(self, facet: Facet) -> RowList:
        begun = RowList(facet, self._next_number)
        self._next_number += 1
        self._lists[facet] = begun
        return begun


def _byte_ranges(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Where in the bytes of a column of int64 each run of so many numbers begins and ends."""
    return zip((starts * 8).tolist(), ((starts + counts) * 8).tolist(), strict=True)
