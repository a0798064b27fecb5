"""One published state of the index, kept as it is while updates go on, to be read at leisure.

It counts as a search that has not ended: its rows are neither cleared nor written again before it is
released, and nothing of it is copied. Rows that are replaced meanwhile take memory until then.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from errata import digest
from rag_service.generations import Publication
from rag_service.rows import Rows


class HeldState:
    """Holds the current state from its construction to `release`. Read by one thread, which may be any."""

    def __init__(self, *, rows: Rows, publication: Publication, quarantined: Mapping[bytes, int]) -> None:
        """Begins to hold.

        Args:
            rows: of the index.
            publication: of the index.
            quarantined: revision by key, as of the current state; not changed by anybody any more.
        """
        self.rows: Final = rows
        self.quarantined: Final = quarantined
        self._publication = publication
        self._state = publication.take()
        self._held = True

    @property
    def example_count(self) -> int:
        """Live examples, quarantined ones included."""
        return self._state.example_count

    @property
    def received_revision(self) -> int:
        """Newest change that the state reflects; 0 when none."""
        return self._state.received_revision

    @property
    def digest(self) -> bytes:
        """As a bookmark has it."""
        return digest.encode(self._state.digest)

    def numbers(self) -> NDArray[np.int64]:
        """The rows of the examples that can be found, rising."""
        return np.flatnonzero(self.rows.visible(slice(self._state.row_count), self._state.generation))

    def release(self) -> None:
        """Lets go of the rows; a second time does nothing."""
        if self._held:
            self._held = False
            self._publication.give_back(self._state)
