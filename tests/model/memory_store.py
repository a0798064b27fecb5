"""A Learner's store in memory, in the hands of one process: commits groups of mutations as `Store` does."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

from learner_service.store.read_transaction import ReadTransaction
from learner_service.store.store import Commit
from learner_service.store.write_transaction import WriteTransaction
from tests.model.memory_tables import Tables, copy_tables, empty_tables
from tests.model.rules import Rules


class MutationFailedError(Exception):
    """A mutation gave up half-way: nothing of it is kept."""


def new_tables(store_id: bytes, nonce: int, wall_us: Callable[[], int], rules: Rules) -> Tables:
    """A new store, whose first epoch is there from the start."""
    tables = empty_tables()
    transaction = rules.write_transaction(tables, nonce, wall_us)
    transaction.create(store_id)
    transaction.begin_epoch()
    return tables


class MemoryStore:
    """As `learner_service.store.Store`, without the disk and without the thread."""

    def __init__(
        self, tables: Tables, *, nonce: int, wall_us: Callable[[], int], epochs_kept_max: int, rules: Rules
    ) -> None:
        """Opens a store.

        Args:
            tables: left as they are.
            nonce: of the epoch of this process.
            wall_us: the wall clock.
            epochs_kept_max: as `EPOCHS_KEPT_MAX`, but small enough to be reached.
            rules: give the transactions.
        """
        self.tables = tables
        """The state last committed; never written to."""
        self._nonce = nonce
        self._wall_us = wall_us
        self._epochs_kept_max = epochs_kept_max
        self._rules = rules
        self._epoch_is_durable = False

    def transaction(self) -> ReadTransaction:
        """The state last committed. It stays as it is, whatever is committed later."""
        return self._rules.read_transaction(self.tables, self._nonce)

    def read(self) -> AbstractContextManager[ReadTransaction]:
        """As `Store.read`."""
        return nullcontext(self.transaction())

    def write(self, mutations: Iterable[Callable[[WriteTransaction], None]]) -> Commit:
        """Commits a group and says what `Store` tells its listeners.

        A mutation that raises `MutationFailedError` is rolled back alone.
        """
        changed_namespaces: set[str] = set()
        group = copy_tables(self.tables)
        if not self._epoch_is_durable:
            self._begin_epoch(group)
        for mutation in mutations:
            child = copy_tables(group)
            transaction = self._writable(child)
            try:
                mutation(transaction)
            except MutationFailedError:
                continue
            group = child
            changed_namespaces |= transaction.changed_namespaces
        self.tables = group
        self._epoch_is_durable = True
        return Commit(self.transaction().head_revision, frozenset(changed_namespaces))

    def _begin_epoch(self, tables: Tables) -> None:
        self._writable(tables).begin_epoch()
        epochs = tables["epochs"]
        for key, _ in list(epochs.scan())[: -self._epochs_kept_max]:
            epochs.delete(key)

    def _writable(self, tables: Tables) -> WriteTransaction:
        return self._rules.write_transaction(tables, self._nonce, self._wall_us)
