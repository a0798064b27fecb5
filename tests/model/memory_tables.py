"""The tables of a store in memory: as those of LMDB, but a copy costs nothing until it is written to.

So one state of a whole store is kept by keeping its tables: for a reader, for a backup, or to roll back to.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping

from learner_service.errors import StoreCorruptError
from learner_service.store.tables import TABLES


class MemoryTable:
    """Keeps the promises of `learner_service.store.tables.Table`.

    A table that was copied is not written to any more. One that changes while it is scanned fails the scan.
    """

    __slots__ = ("_is_own", "_keys", "_values")

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []
        # False while another table may have the same values and keys.
        self._is_own = True

    def copy(self) -> "MemoryTable":
        """The same rows, in a table of its own."""
        copied = MemoryTable()
        copied._values, copied._keys, copied._is_own = self._values, self._keys, False
        return copied

    def get(self, key: bytes) -> bytes | None:
        return self._values.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self._make_own()
        if key not in self._values:
            insort(self._keys, key)
        self._values[key] = value

    def append(self, key: bytes, value: bytes) -> None:
        if self._keys and self._keys[-1] >= key:
            raise StoreCorruptError(f"a row stands above {key.hex()}, which should be the last")
        self.put(key, value)

    def delete(self, key: bytes) -> bool:
        if key not in self._values:
            return False
        self._make_own()
        del self._values[key]
        del self._keys[bisect_left(self._keys, key)]
        return True

    def scan(self, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        for key in self._keys[bisect_left(self._keys, start) :]:
            yield key, self._values[key]

    def scan_down(self, below: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        end = len(self._keys) if below is None else bisect_left(self._keys, below)
        for key in self._keys[:end][::-1]:
            yield key, self._values[key]

    def __len__(self) -> int:
        return len(self._keys)

    def _make_own(self) -> None:
        if not self._is_own:
            self._values, self._keys, self._is_own = self._values.copy(), self._keys.copy(), True


Tables = Mapping[str, MemoryTable]
"""A whole store, by the names of its tables."""


def empty_tables() -> Tables:
    """A store that nobody has used."""
    return {name: MemoryTable() for name in TABLES}


def copy_tables(tables: Tables) -> Tables:
    """A store with the same rows; writing to it leaves the other as it is."""
    return {name: table.copy() for name, table in tables.items()}
