"""The codes of the rows of an index: 600 bytes beside the 1,536 of an embedding, to bound scores by.

Those of all elements, and the bytes of the keys, never change for a row that is visible. Those of the rotated
elements belong to one rotation; when another fits better, a second set is written beside the first and takes
its place as a whole. Room is reserved for every row that the index can hold, and used by the row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rag_service import kernel
from rag_service.kernel import (
    BLOCK_ROWS,
    PREFIX_LENGTH,
    WHOLE_MULTIPLE,
    WORD_BYTES,
    Basis,
    Columns,
    Keys,
    PrefixCodes,
    WholeCodes,
)
from rag_service.memory import reserved_array
from rag_service.rows import Rows

KEY_BYTES_MAX: Final = 512
"""More than a namespace and an ID can have."""

_SLOT_WORDS_MIN: Final = 4
# A row whose keys grow and grow leaves a slot of every size behind: half as much as the last, and so on.
_ARENA_WORDS_PER_ROW: Final = 2 * KEY_BYTES_MAX // WORD_BYTES


class KeyTooLongError(Exception):
    """A key is longer than `KEY_BYTES_MAX`: the Learner sends none such."""


class KeyArena:
    """The bytes of the keys, where the kernel can compare them. One writer."""

    def __init__(self, capacity: int) -> None:
        """Holds none.

        Raises:
            AddressSpaceError: there is no address space for `capacity` of them.
        """
        self.keys: Final = Keys(
            arena=reserved_array((capacity * _ARENA_WORDS_PER_ROW,), np.uint64),
            starts=reserved_array((capacity,), np.int64),
            lengths=reserved_array((capacity,), np.int64),
        )
        # By row, the size of its slot; 0 when it has none.
        self._slot_words = reserved_array((capacity,), np.int64)
        self._used_words = 0

    def store(self, rows: NDArray[np.int64], keys: Sequence[bytes]) -> None:
        """Stores the keys of rows that no search sees.

        Args:
            rows: each once.
            keys: of these rows.

        Raises:
            KeyTooLongError: one of them is too long; none was stored.
        """
        lengths = np.fromiter(map(len, keys), dtype=np.int64, count=len(keys))
        if lengths.max(initial=0) > KEY_BYTES_MAX:
            raise KeyTooLongError
        words = -(-lengths // WORD_BYTES)
        tight = words > self._slot_words[rows]
        if tight.any():
            self._give_slots(rows[tight], words[tight])
        self.keys.lengths[rows] = lengths
        joined = bytearray().join(keys)
        if joined:
            kernel.store_keys(np.frombuffer(joined, dtype=np.uint8), rows, self.keys)

    def _give_slots(self, rows: NDArray[np.int64], words: NDArray[np.int64]) -> None:
        doublings = np.ceil(np.log2(np.maximum(words / _SLOT_WORDS_MIN, 1))).astype(np.int64)
        sizes = _SLOT_WORDS_MIN << doublings
        ends = self._used_words + np.cumsum(sizes)
        self.keys.starts[rows] = ends - sizes
        self._slot_words[rows] = sizes
        self._used_words = int(ends[-1])


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """The codes of every row, complete for those that a published state shows. One writer."""

    basis: Basis
    columns: Columns
    arena: KeyArena
    _moment: kernel.Query

    @classmethod
    def empty(cls, rows: Rows, basis: Basis) -> "Codes":
        """Room for the codes of all rows.

        Raises:
            AddressSpaceError: there is no address space for them.
        """
        room, dimension = rows.embeddings.shape
        arena = KeyArena(room)
        whole = WholeCodes(
            codes=reserved_array((room, _whole_length(dimension)), np.int8, huge_pages=True),
            norms=reserved_array((room, 2), np.float32),
        )
        columns = Columns(rows.embeddings, _empty_prefix(room), whole, arena.keys)
        return cls(basis, columns, arena, empty_query(dimension))

    def rotated(self, basis: Basis) -> "Codes":
        """Room for the codes of all rows by another rotation; the rest is shared.

        Raises:
            AddressSpaceError: there is no address space for them.
        """
        room, dimension = self.columns.embeddings.shape
        columns = self.columns._replace(prefix=_empty_prefix(room))
        return Codes(basis, columns, self.arena, empty_query(dimension))

    def write(self, rows: NDArray[np.int64], keys: Sequence[bytes]) -> None:
        """Writes all codes of rows that no search sees, and their keys.

        Raises:
            KeyTooLongError: a key is too long; nothing was written.
        """
        self.arena.store(rows, keys)
        kernel.encode_whole(self.columns.embeddings, rows, self.columns.whole)
        self.write_prefix(rows)

    def write_prefix(self, rows: NDArray[np.int64]) -> None:
        """Writes the codes of the rotated elements alone."""
        kernel.encode_prefix(self.columns.embeddings, rows, self.basis, self.columns.prefix, self._moment)


def empty_query(dimension: int) -> kernel.Query:
    """Room for a query."""
    return kernel.Query(
        elements=np.zeros(dimension),
        rotated=np.zeros(2 * PREFIX_LENGTH),
        first=np.zeros(PREFIX_LENGTH, dtype=np.int16),
        second=np.zeros(PREFIX_LENGTH, dtype=np.int16),
        whole=np.zeros(_whole_length(dimension), dtype=np.int16),
        factors=np.zeros(kernel.FACTOR_COUNT, dtype=np.float32),
    )


def _empty_prefix(room: int) -> PrefixCodes:
    return PrefixCodes(
        first=reserved_array((room, PREFIX_LENGTH), np.int8, huge_pages=True),
        first_rest=reserved_array((room,), np.uint8),
        first_residual=reserved_array((room // BLOCK_ROWS,), np.float32),
        second=reserved_array((room, PREFIX_LENGTH), np.int8),
        second_norms=reserved_array((room, 2), np.float32),
    )


def _whole_length(dimension: int) -> int:
    return -(-dimension // WHOLE_MULTIPLE) * WHOLE_MULTIPLE
