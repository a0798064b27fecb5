"""Publication: which state a search sees, and from when on no search sees a row any more.

The writer prepares changes that no published state shows, then publishes the next generation. A search takes
the published state when it begins and works on it to its end. The one lock guards taking, giving back and
publishing a state, never the work in between; taking it also orders memory: whoever takes generation g sees
everything that the writer wrote before it published g.
"""

import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedState:
    """One state of the index, whole and unchangeable."""

    generation: int = 0
    """A row belongs to the state when born ≤ generation < died."""
    row_count: int = 0
    """Rows that may belong to it: those from 0 up to this one."""
    received_revision: int = 0
    """Newest change that it reflects; 0 when none."""
    example_count: int = 0
    """Live examples, quarantined ones included."""
    quarantined_count: int = 0
    """Live examples that cannot be found."""
    withheld_count: int = 0
    """Live examples that cannot be found because they are known to be deleted."""
    digest: int = 0
    """Over the live examples, quarantined ones included; see `errata.digest`."""


class Publication:
    """The published state and the searches that run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current = PublishedState()
        # Generation to the number of searches that run with it; no entry is 0.
        self._running: dict[int, int] = {}

    @property
    def current(self) -> PublishedState:
        """The state that a search would take now."""
        return self._current

    def publish(self, state: PublishedState) -> None:
        """Makes a state, of a later generation than the current one, the one that searches take."""
        with self._lock:
            self._current = state

    def take(self) -> PublishedState:
        """The current state, for a search; its rows stay as they are until it is given back."""
        with self._lock:
            state = self._current
            self._running[state.generation] = self._running.get(state.generation, 0) + 1
        return state

    def give_back(self, state: PublishedState) -> None:
        """Ends a search that took this state."""
        with self._lock:
            count = self._running.pop(state.generation)
            if count > 1:
                self._running[state.generation] = count - 1

    def oldest_seen(self) -> int:
        """The oldest generation that any search sees, now or later."""
        with self._lock:
            return min(self._running, default=self._current.generation)
