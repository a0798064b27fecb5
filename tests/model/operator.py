"""Who runs the Learner: ends its processes and starts others, takes backups and restores them."""

from random import Random
from typing import Final

from tests.model.habits import Habits
from tests.model.learner import Learner, Saved
from tests.model.memory_store import new_tables
from tests.model.oracle import TrueState
from tests.model.rules import Rules

BACKUPS_MAX: Final = 4
FINGERPRINTS: Final = ("toy/1", "toy/2")


class Operator:
    """See the module."""

    def __init__(self, chance: Random, habits: Habits, rules: Rules) -> None:
        """Starts a process on a new store."""
        self._chance = chance
        self._habits = habits
        self._rules = rules
        self._backups: list[Saved] = []
        self.now_us = 1_000_000
        """What the wall clock showed last."""
        self.resurrection_count = 0
        """How often a history was brought back that had been given up."""
        self.learner = self._process(self._new_store(), FINGERPRINTS[0])
        """The process that runs now."""

    def back_up(self) -> None:
        """Takes a backup, and keeps the latest few."""
        self._backups = [*self._backups, self.learner.saved][-BACKUPS_MAX:]

    def restart(self) -> None:
        """Starts another process, on the same store, on an older state of it, or on a new one."""
        fate = self._chance.random()
        if fate < 0.4 and self._backups:
            self.restore(self._chance.choice(self._backups))
        elif fate > 0.95:
            self._start_on(self._new_store())
        else:
            self._start_on(self.learner.saved)

    def restore(self, backup: Saved) -> None:
        """Starts another process, on a backup."""
        if not self.learner.truth.continues(backup.truth):
            self.resurrection_count += 1
        self._start_on(backup)

    def _start_on(self, saved: Saved) -> None:
        if not self._habits.brings_back_the_dead:
            self._backups = [backup for backup in self._backups if saved.truth.continues(backup.truth)]
        fingerprint = self.learner.fingerprint
        if self._chance.random() < 0.15:
            fingerprint = self._chance.choice(FINGERPRINTS)
        self.learner = self._process(saved, fingerprint)

    def _process(self, saved: Saved, fingerprint: str) -> Learner:
        return Learner(
            saved,
            nonce=self._chance.getrandbits(64),
            fingerprint=fingerprint,
            wall_us=self._wall_us,
            epochs_kept_max=self._habits.epochs_kept_max,
            rules=self._rules,
        )

    def _new_store(self) -> Saved:
        store_id, nonce = self._chance.randbytes(8), self._chance.getrandbits(64)
        return Saved(new_tables(store_id, nonce, self._wall_us, self._rules), TrueState())

    def _wall_us(self) -> int:
        """A wall clock that may stand still, and go back."""
        self.now_us += self._chance.choice((-20, 0, 1, 10, 100))
        return self.now_us
