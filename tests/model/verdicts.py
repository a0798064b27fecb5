"""Read your writes: what is said of a token, compared with what is true of the change that it stands for."""

from collections import Counter
from collections.abc import Iterable
from random import Random

from rag_service.read_your_writes import Verdict
from tests.model.client import Client
from tests.model.habits import Habits
from tests.model.learner import Given
from tests.model.operator import Operator
from tests.model.promises import promise


class Verdicts:
    """The tokens that were given out, and the checks of what clients say of them."""

    def __init__(self, chance: Random, habits: Habits, operator: Operator, seen: Counter[str]) -> None:
        """Knows of no token.

        Args:
            chance: chooses tokens.
            habits: say whether epochs are forgotten.
            operator: has the process that runs now.
            seen: told of each verdict.
        """
        self._chance = chance
        self._habits = habits
        self._operator = operator
        self._seen = seen
        self._given: list[Given] = []

    def remember(self, given: Given | None) -> None:
        """Takes in a token, if one was given."""
        if given is not None:
            self._given.append(given)

    def some(self, count_max: int) -> list[Given]:
        """Tokens of any time, at most so many."""
        return self._chance.sample(self._given, min(count_max, len(self._given)))

    def all(self) -> list[Given]:
        """Every token that was given."""
        return self._given

    def check(self, client: Client, asked: Given) -> Verdict:
        """Asks a client for a token, and checks that the answer is true.

        LOST may be said of what the store holds by those only who have not heard yet that a history was
        brought back that had been given up.
        """
        verdict = client.verdict(asked)
        self._seen[verdict.name] += 1
        if verdict is Verdict.REACHED:
            is_held = client.applied is not None and client.applied.holds(asked.change)
            promise(is_held, "REACHED is said only of what the state holds")
        if verdict is Verdict.LOST:
            announced = client.announced_by
            is_gone = announced is not None and not announced.truth.holds(asked.change)
            promise(is_gone, "LOST is never said of what the announced history holds")
            is_gone = self._operator.resurrection_count > 0 or not self._truth_holds(asked)
            promise(is_gone, "LOST is never said of what the store holds")
        return verdict

    def check_at_bookmark(self, client: Client, asked: Iterable[Given]) -> None:
        """Checks that no token waits without need.

        Args:
            client: has just received a bookmark of the process that runs now.
            asked: some tokens.
        """
        assert client.applied is not None
        for each in asked:
            verdict = self.check(client, each)
            is_listed = each.token.epoch in client.listed_epochs
            if client.applied.holds(each.change) and (is_listed or self._habits.keeps_all_epochs):
                promise(verdict is Verdict.REACHED, "at a bookmark, what the state holds is REACHED")
            elif is_listed and not self._truth_holds(each):
                promise(verdict is Verdict.LOST, "at a bookmark, what an announced epoch has lost is LOST")

    def _truth_holds(self, given: Given) -> bool:
        return self._operator.learner.truth.holds(given.change)
