"""One process of the Learner, from its start to its end, and beside its store what is true of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from errata.v1.token_pb2 import StateToken
from learner_service.change_feed import INLINE_REVISIONS_MAX, Chunk, EmbedderIdentity, WatchOptions
from learner_service.keys import BlockKey
from learner_service.store.integrity import problems
from learner_service.store.read_transaction import ReadTransaction
from learner_service.store.store import Commit, Store
from learner_service.store.write_transaction import WriteTransaction
from learner_service.tokens import WatchPosition
from rag_service import read_your_writes
from tests.model.memory_store import MemoryStore
from tests.model.memory_tables import Tables
from tests.model.oracle import Change, TrueState
from tests.model.rules import Rules
from tests.model.steps import Step

DIMENSION = 2


@dataclass(frozen=True, slots=True, eq=False)
class Saved:
    """A whole store at rest, such as a backup."""

    tables: Tables
    truth: TrueState


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A token as a client carries it, and the change that it stands for."""

    token: StateToken
    change: Change


def given(token: bytes, change: Change) -> Given:
    """A token that was given out for a change, as who waits for it reads it."""
    return Given(read_your_writes.decode(token), change)


class Learner:
    """See the module."""

    def __init__(
        self,
        saved: Saved,
        *,
        nonce: int,
        fingerprint: str,
        wall_us: Callable[[], int],
        epochs_kept_max: int,
        rules: Rules,
    ) -> None:
        """Starts on a store.

        Args:
            saved: what the process finds.
            nonce: of its epoch.
            fingerprint: of its embedder.
            wall_us: the wall clock.
            epochs_kept_max: as `EPOCHS_KEPT_MAX`, but small enough to be reached.
            rules: what it does all things by.
        """
        self.fingerprint = fingerprint
        self.truth = saved.truth
        """Once the process has ended: its last state."""
        self._rules = rules
        self._store = MemoryStore(
            saved.tables, nonce=nonce, wall_us=wall_us, epochs_kept_max=epochs_kept_max, rules=rules
        )
        identity = EmbedderIdentity(spec="toy", fingerprint=fingerprint, dimension=DIMENSION)
        self._feed = rules.feed(cast("Store", self._store), identity)
        self._unheard: list[Commit] = []

    @property
    def saved(self) -> Saved:
        """The store as it now is."""
        return Saved(self._store.tables, self.truth)

    def read(self) -> ReadTransaction:
        """The store as it now is."""
        return self._store.transaction()

    def write(self, *mutations: Sequence[Step]) -> None:
        """Commits a group of mutations, each of which is all of its steps or nothing."""
        truth = self.truth

        def mutate(steps: Sequence[Step], transaction: WriteTransaction) -> None:
            nonlocal truth
            after = truth
            for step in steps:
                after = step(transaction, after)
            truth = after

        self._unheard.append(self._store.write([partial(mutate, steps) for steps in mutations]))
        self.truth = truth

    def hear_of_commits(self) -> None:
        """Lets the feed know what was written, some time after it was: in earnest a thread tells it."""
        for commit in self._unheard:
            self._feed._committed(commit)
        self._unheard.clear()

    def shared_chunk(self, position: WatchPosition, options: WatchOptions) -> Chunk:
        """The chunk that the feed gives a stream, which may be one that another stream was given."""
        if self.read().head_revision - position.cursor > INLINE_REVISIONS_MAX:
            # The feed would read it in a thread.
            return self._feed._read_chunk(position, options)
        reading = self._feed._read(position, options)
        try:
            reading.send(None)
        except StopIteration as done:
            chunk: Chunk = done.value
            return chunk
        raise AssertionError("a short chunk is read at once")

    def hello(self, options: WatchOptions) -> bytes:
        """What opens a stream, encoded."""
        return self._feed._hello(options)

    def token_of(self, key: BlockKey) -> Given | None:
        """The token of the newest change of an example, as a write is answered, also a repeated one.

        None when no change is remembered.
        """
        transaction = self.read()
        revision = transaction.example_revision(key)
        if revision is None:
            return None
        return given(self._rules.state_token(transaction, revision), self.truth.newest[key])

    def problems(self) -> list[str]:
        """What breaks the invariants of the store."""
        return list(problems(self.read()))
