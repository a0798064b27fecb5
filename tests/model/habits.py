"""What sets one world of the model apart from another."""

from dataclasses import dataclass
from random import Random
from typing import Final, Self

from tests.model.stream import ChunkBounds

EPOCHS_KEPT_ALL: Final = 1_000
"""More epochs than any world has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """See the module."""

    bounds: ChunkBounds
    epochs_kept_max: int
    brings_back_the_dead: bool
    """Whether a backup may be restored of a history that an earlier restore has given up."""
    ends_in_good_order: float
    """How likely a process that ends drains its streams."""

    @classmethod
    def random(cls, chance: Random) -> Self:
        """Some habits. Small chunks make long scans, large ones many bookmarks; both find faults."""
        return cls(
            bounds=ChunkBounds(
                scanned_rows_max=chance.choice((1, 1, 2, 3, 100)),
                batch_bytes_max=chance.choice((1, 100, 200, 100_000)),
            ),
            epochs_kept_max=chance.choice((3, EPOCHS_KEPT_ALL)),
            brings_back_the_dead=chance.random() < 0.5,
            ends_in_good_order=chance.choice((0.0, 0.5, 1.0)),
        )

    @property
    def keeps_all_epochs(self) -> bool:
        """Whether no epoch is ever forgotten."""
        return self.epochs_kept_max == EPOCHS_KEPT_ALL
