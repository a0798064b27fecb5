"""A Learner, its store, and some clients, to whom things happen at random; all of it follows from a seed.

The store is written to, compacted, backed up and restored, by one process after another; clients connect, lag
behind, break off, change their filter and resume. Each promise is checked whenever it can be, and in the end,
when nothing happens any more, all clients must have come to what is true.
"""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Final

from learner_service.errors import StoreCorruptError
from learner_service.keys import BlockKey
from tests.model import steps
from tests.model.client import Client
from tests.model.habits import Habits
from tests.model.learner import Learner
from tests.model.operator import Operator
from tests.model.oracle import Event
from tests.model.promises import BrokenPromiseError, promise
from tests.model.rules import REAL, Rules
from tests.model.stream import SharingStream, Stream
from tests.model.verdicts import Verdicts

STEP_COUNT: Final = 120
"""Enough for a few processes, backups and resumptions; more steps find less than more worlds do."""
FIRST_WRITE_COUNT: Final = 4
"""So that the first sync is one."""
LEARNED_KEYS: Final = (BlockKey("", "a"), BlockKey("", "b"), BlockKey("one", "a"), BlockKey("two", "c"))
"""Examples that are written as such. Few, so that each is written often."""
BLOCK_KEYS: Final = (BlockKey("", "x"), BlockKey("one", "y"))
"""Examples that are learned from events."""
FILTERS: Final = (frozenset[str](), frozenset({"one"}), frozenset({"one", "two"}), frozenset({"none"}))
SNAPSHOTS_TAKEN: Final = 0.3
"""At so many of the bookmarks."""
TOKENS_ASKED_MAX: Final = 6
"""At each bookmark."""
SETTLING_STEPS_MAX: Final = 40
"""More chunks than any store of these keys can give, and a Reset."""


class World:
    """See the module. `run` makes everything happen."""

    def __init__(self, seed: int, rules: Rules = REAL, *, shares_chunks: bool = False) -> None:
        """Prepares a world.

        Args:
            seed: the same one makes the same world.
            rules: by which everything is done.
            shares_chunks: whether streams are served by the whole `ChangeFeed`, whose chunks are large and
                shared, instead of by its parts, whose chunks are small.
        """
        self.seen: Counter[str] = Counter()
        """How often what happened: messages, resets by reason, verdicts, and the like."""
        self._chance = Random(seed)
        self._rules = rules
        self._stream = SharingStream if shares_chunks else Stream
        self._habits = Habits.random(self._chance)
        self._operator = Operator(self._chance, self._habits, rules)
        self._verdicts = Verdicts(self._chance, self._habits, self._operator, self.seen)
        self._clients = [Client(rules) for _ in range(self._chance.choice((1, 2, 3)))]
        self._planned: dict[BlockKey, steps.Planned] = {}
        self._text_count = 0
        self._weights: dict[Callable[[], None], int] = {
            self._write: 12,
            self._record_event: 4,
            self._plan: 5,
            self._carry_out: 5,
            self._forget: 1,
            self._compact: 5,
            self._feed_hears: 10,
            self._token_is_given: 8,
            self._token_is_asked_for: 8,
            self._back_up: 4,
            self._process_ends: 5,
            self._mistake_is_undone: 3,
            self._client_acts: 40,
        }

    def run(self, step_count: int = STEP_COUNT) -> None:
        """Lets things happen, and then come to rest.

        Raises:
            BrokenPromiseError: a promise did not hold.
        """
        actions, weights = tuple(self._weights), tuple(self._weights.values())
        try:
            for _ in range(FIRST_WRITE_COUNT):
                self._write()
            for action in self._chance.choices(actions, weights, k=step_count):
                action()
            self._come_to_rest()
        except StoreCorruptError as error:
            raise BrokenPromiseError(f"the store keeps its order: {error}") from error
        self.seen["resurrection"] += self._operator.resurrection_count

    @property
    def _learner(self) -> Learner:
        return self._operator.learner

    # --- What the Learner does.

    def _write(self) -> None:
        mutations = [self._random_mutation() for _ in range(self._chance.choice((1, 1, 2, 3)))]
        self._learner.write(*mutations)

    def _random_mutation(self) -> list[steps.Step]:
        chance = self._chance
        mutation = []
        for _ in range(chance.choice((1, 1, 2, 3))):
            key = chance.choice(LEARNED_KEYS)
            mutation.append(steps.delete(key) if chance.random() < 0.4 else steps.put(key, self._new_text()))
        if chance.random() < 0.1:
            mutation.append(steps.fail)
        return mutation

    def _record_event(self) -> None:
        event = Event(self._new_text(), teaches=self._chance.random() < 0.7)
        self._learner.write([steps.record(self._chance.choice(BLOCK_KEYS), event)])

    def _plan(self) -> None:
        key = self._chance.choice(BLOCK_KEYS)
        # One worker a key.
        if key not in self._planned:
            fails = self._chance.random() < 0.1
            planned = steps.plan(self._learner.read(), self._learner.truth, key, fails=fails)
            if planned is not None:
                self._planned[key] = planned

    def _carry_out(self) -> None:
        for key, planned in self._planned.items():
            self.seen["superseded"] += planned.event is not self._learner.truth.events[key]
        self._learner.write([steps.carry_out(planned, self._rules) for planned in self._planned.values()])
        self._planned.clear()

    def _forget(self) -> None:
        self._learner.write([steps.forget_block(self._chance.choice(BLOCK_KEYS))])

    def _compact(self) -> None:
        chance = self._chance
        compaction = steps.compact(
            deleted_before_us=self._operator.now_us + chance.choice((-50, 0, 1_000_000)),
            kept_min=chance.choice((0, 0, 1, 2)),
            kept_max=chance.choice((0, 1, 3, 100)),
            dropped_max=chance.choice((1, 2, 100)),
        )
        self._learner.write([compaction])

    def _feed_hears(self) -> None:
        self._learner.hear_of_commits()

    def _new_text(self) -> str:
        self._text_count += 1
        return f"{self._text_count}" + "." * self._chance.choice((0, 0, 80))

    # --- What is done to it.

    def _back_up(self) -> None:
        self._operator.back_up()

    def _process_ends(self) -> None:
        self._end_streams()
        self._operator.restart()

    def _mistake_is_undone(self) -> None:
        """What an operator does who has a backup made, and then wishes that nothing more had happened."""
        backup = self._learner.saved
        self._write()
        for _ in range(self._chance.randrange(4)):
            self._client_acts()
        self._end_streams()
        self._operator.restore(backup)

    def _end_streams(self) -> None:
        drains = self._chance.random() < self._habits.ends_in_good_order
        for client in self._clients:
            if client.stream is not None and client.stream.is_open:
                if drains:
                    client.stream.drain()
                client.stream.is_open = False
        self._planned.clear()

    # --- What clients do.

    def _token_is_given(self) -> None:
        if self._chance.random() < 0.25:
            self._verdicts.remember(self._chance.choice(self._clients).search_token())
        else:
            key = self._chance.choice(LEARNED_KEYS + BLOCK_KEYS)
            self._verdicts.remember(self._learner.token_of(key))

    def _token_is_asked_for(self) -> None:
        for asked in self._verdicts.some(1):
            self._verdicts.check(self._chance.choice(self._clients), asked)

    def _client_acts(self) -> None:
        """Lets a client do a little, or catch up."""
        number = self._chance.randrange(len(self._clients))
        for _ in range(self._chance.choice((1, 1, 1, 2, 8))):
            self._client_acts_once(number)

    def _client_acts_once(self, number: int) -> None:
        chance = self._chance
        client = self._clients[number]
        stream = client.stream
        if stream is None:
            if chance.random() < 0.3:
                # The process is another one, with a disk or without.
                snapshot = client.snapshot if chance.random() < 0.5 else None
                self.seen["snapshot"] += snapshot is not None
                self._clients[number] = client = Client(self._rules, snapshot)
            if chance.random() < 0.4:
                client.namespaces = chance.choice(FILTERS)
            if chance.random() < 0.7:
                self._connect(client)
        elif chance.random() < 0.1:
            client.stream = None
        elif stream.is_open and (not stream.on_its_way or chance.random() < 0.3):
            if chance.random() < 0.3:
                stream.begin_read()
            else:
                stream.end_read()
        elif stream.on_its_way:
            self._take(client, stream)
        else:
            client.stream = None

    def _connect(self, client: Client) -> Stream:
        stream = self._stream(self._learner, client.call(), self._habits.bounds, self._rules)
        client.stream = stream
        return stream

    def _take(self, client: Client, stream: Stream) -> None:
        sent = stream.on_its_way.popleft()
        bookmark_count = client.bookmark_count
        self.seen[client.take(sent)] += 1
        if client.bookmark_count > bookmark_count and sent.learner is self._learner:
            if self._chance.random() < SNAPSHOTS_TAKEN:
                client.take_snapshot()
            self._verdicts.check_at_bookmark(client, self._verdicts.some(TOKENS_ASKED_MAX))

    def _come_to_rest(self) -> None:
        """Nothing is written any more: every client comes to what is true, and every token is decided."""
        self._learner.hear_of_commits()
        problems = self._learner.problems()
        promise(not problems, f"the store is sound: {problems}")
        for client in self._clients:
            stream = self._connect(client)
            bookmark_count = client.bookmark_count
            for _ in range(SETTLING_STEPS_MAX):
                if stream.on_its_way:
                    self._take(client, stream)
                elif client.bookmark_count == bookmark_count:
                    stream.end_read()
            came_to = (
                client.applied.revision if client.bookmark_count > bookmark_count and client.applied else None
            )
            promise(came_to == self._learner.truth.revision, "a client comes to what is true")
            self._verdicts.check_at_bookmark(client, self._verdicts.all())
