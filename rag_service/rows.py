"""The rows of the index: one for each version of an example that some search may still see.

A row is written once, shown, and left alone until no search sees it:

    free ── put ──▶ visible ── end ──▶ ended ── none sees it ──▶ cleared ── none began before ──▶ free
            born = g + 1      died = g + 1              born = NEVER

A search with generation g sees a row when born ≤ g < died. Between ended and free a row is cleared, and
waits until every search that runs began after that was published: such a search finds NEVER or a later
generation in `born`, whatever it finds in `died`, so that it cannot take a row that is being written
again for a visible one. This needs no order of memory accesses but that of the publication lock.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rag_service.memory import reserved_array
from rag_service.row_columns import RowColumns
from rag_service.row_lists import RowList, RowLists
from rag_service.updates import Puts

NEVER: Final = 2**63 - 1
"""A generation that does not come."""
ROWS_MULTIPLE: Final = 64
"""Columns have room for a multiple of so many rows: they may be read in blocks of that size to their end."""

Pick = slice | NDArray[np.int64]
"""Which rows of a column: a run of them, or a list."""

_NAMESPACE, _LANGUAGE, _QUESTION = range(3)
"""Places of a row's facets; the labels follow."""
_FACETS_MIN: Final = 3


class Rows:
    """Columns, lists and keys of the rows. One writer; readers read what their generation sees."""

    def __init__(self, *, dimension: int, capacity: int) -> None:
        self.capacity: Final = capacity
        room = -(-capacity // ROWS_MULTIPLE) * ROWS_MULTIPLE
        self.embeddings: Final = reserved_array((room, dimension), np.float32, huge_pages=True)
        self.executed_ns: Final = reserved_array((room,), np.int64)
        self.namespace_numbers: Final = reserved_array((room,), np.int64)
        self.language_numbers: Final = reserved_array((room,), np.int64)
        self.lists: Final = RowLists()
        self.keys: Final[list[bytes]] = []
        self.examples: Final[list[bytes]] = []
        """Encoded, without embeddings."""
        self._revisions = reserved_array((room,), np.int64)
        self.born: Final = reserved_array((room,), np.int64)
        """Read these two by `visible`, or as it does."""
        self.died: Final = reserved_array((room,), np.int64)
        # By key: its rows that are not cleared, the newest last.
        self._rows_by_key: dict[bytes, tuple[int, ...]] = {}
        self._free: list[int] = []
        # (generation, row), generations rising: when the row died, or the first without the row.
        self._ended: deque[tuple[int, int]] = deque()
        self._cleared: deque[tuple[int, int]] = deque()

    @property
    def row_count(self) -> int:
        """Rows ever used: all rows are below this."""
        return len(self.keys)

    @property
    def room(self) -> int:
        """Rows that can be put now."""
        return len(self._free) + self.capacity - len(self.keys)

    def visible(self, pick: Pick, generation: int) -> NDArray[np.bool_]:
        """For each row picked, whether a search with this generation sees it."""
        seen: NDArray[np.bool_] = self.born[pick] <= generation
        seen &= self.died[pick] > generation
        return seen

    def rows_of_key(self, key: bytes) -> tuple[int, ...]:
        """Every row of an example that a search may see, and perhaps others that none sees."""
        return self._rows_by_key.get(key, ())

    def question_list(self, row: int) -> RowList:
        """The rows with the same question and the same language, of every namespace."""
        return self.lists.lists_of(row)[_QUESTION]

    def live(self, key: bytes) -> int | None:
        """The row of an example that is in the newest state; for the writer."""
        rows = self._rows_by_key.get(key)
        return rows[-1] if rows and self.died[rows[-1]] == NEVER else None

    def revision(self, row: int) -> int:
        """Revision of a row; for the writer."""
        return int(self._revisions[row])

    def revisions(self, pick: Pick) -> NDArray[np.int64]:
        """For each row picked, its revision."""
        return self._revisions[pick]

    def known(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of the keys that have a row which is not cleared; for the writer."""
        return self._rows_by_key.keys() & keys

    def put(self, puts: Puts, born: int) -> Sequence[int]:
        """Writes a row for each example, that is visible from generation `born` on.

        There must be room.

        Returns:
            The rows.
        """
        count = len(puts.keys)
        used_again = min(count, len(self._free))
        rows = [self._free.pop() for _ in range(used_again)]
        for row, key, example in zip(rows, puts.keys, puts.examples, strict=False):
            self.keys[row] = key
            self.examples[row] = example
        first = len(self.keys)
        rows.extend(range(first, first + count - used_again))
        self.keys.extend(puts.keys[used_again:])
        self.examples.extend(puts.examples[used_again:])
        rows_of: dict[bytes, tuple[int, ...]] = dict(zip(puts.keys, zip(rows, strict=True), strict=True))
        for key in self.known(puts.keys):
            rows_of[key] = (*self._rows_by_key[key], *rows_of[key])
        self._rows_by_key.update(rows_of)
        lists = self.lists.add(rows, puts.facets)
        # Column by column: a write of one element takes as long as one of a hundred. In one piece where that
        # is possible, as in a first sync.
        pick: Pick | Sequence[int] = rows if used_again else slice(first, first + count)
        self.embeddings[pick] = puts.embeddings
        self.executed_ns[pick] = puts.executed_ns
        self.namespace_numbers[pick] = [of_row[_NAMESPACE].number for of_row in lists]
        self.language_numbers[pick] = [of_row[_LANGUAGE].number for of_row in lists]
        self._revisions[pick] = puts.revisions
        self.born[pick] = born
        self.died[pick] = NEVER
        return rows

    def fill(self, columns: RowColumns, born: int) -> None:
        """Writes the rows from 0 on, many at once, where none has been written yet.

        All but `embeddings`, which the caller reads in place. There must be room.

        Raises:
            ValueError: the columns do not fit each other.
        """
        count = len(columns.keys)
        numbers = self.lists.fill(columns.facets, columns.facet_counts, columns.facet_places)
        if columns.facet_counts.min(initial=_FACETS_MIN) < _FACETS_MIN:
            raise ValueError("a row has too few facets")
        starts = np.cumsum(columns.facet_counts) - columns.facet_counts
        self._rows_by_key = dict(zip(columns.keys, zip(range(count)), strict=True))
        if len(self._rows_by_key) != count:
            raise ValueError("a key comes twice")
        self.keys.extend(columns.keys)
        self.examples.extend(columns.examples)
        self.executed_ns[:count] = columns.executed_ns
        self.namespace_numbers[:count] = numbers[columns.facet_places[starts + _NAMESPACE]]
        self.language_numbers[:count] = numbers[columns.facet_places[starts + _LANGUAGE]]
        self._revisions[:count] = columns.revisions
        self.died[:count] = NEVER
        self.born[:count] = born

    def end(self, row: int, died: int) -> None:
        """Hides a live row from generation `died` on."""
        self.died[row] = died
        self._ended.append((died, row))

    def reclaim(self, *, oldest_seen: int, next_generation: int) -> None:
        """Frees rows that no search can touch, and clears those that no search sees.

        Args:
            oldest_seen: the oldest generation that a search sees, now or later.
            next_generation: the one that is published next.
        """
        while self._cleared and self._cleared[0][0] <= oldest_seen:
            self._free.append(self._cleared.popleft()[1])
        while self._ended and self._ended[0][0] <= oldest_seen:
            row = self._ended.popleft()[1]
            self._clear(row)
            self._cleared.append((next_generation, row))

    def _clear(self, row: int) -> None:
        self.born[row] = NEVER
        self.lists.remove(row)
        key = self.keys[row]
        others = tuple([other for other in self._rows_by_key[key] if other != row])
        if others:
            self._rows_by_key[key] = others
        else:
            del self._rows_by_key[key]
        self.keys[row] = self.examples[row] = b""
