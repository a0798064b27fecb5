"""Two lines of keys that leave as one: live keys before backfill keys, and neither starves.

Within a lane, first come, first served. Between the lanes, live goes first, but while backfill waits no more
than `LIVE_KEYS_IN_A_ROW_MAX` live keys leave before one of backfill does.
"""

from collections import OrderedDict
from collections.abc import Hashable
from enum import IntEnum
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

LIVE_KEYS_IN_A_ROW_MAX: Final = 9
"""Backfill gets at least every tenth turn: a store that learns all day long still ends its backfills, and
those cost what people are doing right now a tenth of its pace at most."""


class Lane(IntEnum):
    """Where a key waits. Of two lanes the smaller is ahead: `min(lane, other)` moves a key up, never down."""

    LIVE = 0
    """Somebody has just done something, or waits for the answer."""
    BACKFILL = 1
    """Learning again from what is long known."""


class Lanes(Generic[K]):
    """The keys that wait, each once, in one of two lanes. Every operation takes constant time."""

    def __init__(self) -> None:
        # Invariant: live ∩ backfill = ∅.
        # Ordered dictionaries, because a plain one takes ever longer to find its first key after many pops.
        self._live: OrderedDict[K, None] = OrderedDict()
        self._backfill: OrderedDict[K, None] = OrderedDict()
        # Invariant: live_in_a_row <= LIVE_KEYS_IN_A_ROW_MAX, and 0 after a turn in which no backfill waited.
        self._live_in_a_row = 0

    def __len__(self) -> int:
        return len(self._live) + len(self._backfill)

    def __contains__(self, key: K) -> bool:
        return key in self._live or key in self._backfill

    def lane_of(self, key: K) -> Lane | None:
        """The lane in which the key waits, if it does."""
        if key in self._live:
            return Lane.LIVE
        return Lane.BACKFILL if key in self._backfill else None

    def put(self, key: K, lane: Lane) -> None:
        """Puts the key at the end of the lane. One that waits keeps its place, unless `lane` is ahead."""
        if key in self._live:
            return
        if lane is Lane.LIVE:
            self._backfill.pop(key, None)
            self._live[key] = None
        else:
            # Leaves a key that is there where it is.
            self._backfill[key] = None

    def remove(self, key: K) -> None:
        """Takes the key out of the line, if it is there."""
        self._live.pop(key, None)
        self._backfill.pop(key, None)

    def take(self) -> tuple[K, Lane]:
        """Takes the key whose turn it is.

        Raises:
            KeyError: nothing waits.
        """
        if self._live and not (self._backfill and self._live_in_a_row >= LIVE_KEYS_IN_A_ROW_MAX):
            self._live_in_a_row = self._live_in_a_row + 1 if self._backfill else 0
            return self._live.popitem(last=False)[0], Lane.LIVE
        self._live_in_a_row = 0
        return self._backfill.popitem(last=False)[0], Lane.BACKFILL
