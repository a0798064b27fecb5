"""A Learner with one guarantee taken away: `FAULT=NAME python -m tests.faults.broken_learner FLAGS`.

A test that finds nothing wrong with these would find nothing wrong with anything. Those that lose are of the
kind that only a crash shows, and are made certain here: the crash always comes at the worst moment.
"""

import os
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

import learner_service.__main__ as program
from errata.v1.block_pb2 import BlockEvent
from learner_service.keys import BlockKey
from learner_service.recorder import Notify, Recorder
from learner_service.store import store as store_module
from learner_service.store.store import Store
from learner_service.store.write_transaction import WriteTransaction

VARIABLE: Final = "FAULT"


class _RolledBackError(Exception):
    """Carries out of a transaction what it would have answered."""

    def __init__(self, answer: object) -> None:
        super().__init__("rolled back")
        self.answer = answer


class AcknowledgesBeforeItIsDurable(Recorder):
    """Answers with what a write will have done. The write would come later; the crash comes first."""

    def __init__(self, store: Store, notify: Notify, **options: Any) -> None:
        super().__init__(store, notify, **options)
        self._store = _EarlyStore(store)  # type: ignore[assignment]  # only `write` is used


class _EarlyStore:
    """A store whose `write` answers before its commit."""

    def __init__(self, store: Store) -> None:
        self._real = store

    async def write(self, mutation: Callable[[WriteTransaction], Any]) -> Any:
        def roll_back(transaction: WriteTransaction) -> None:
            raise _RolledBackError(mutation(transaction))

        try:
            await self._real.write(roll_back)
        except _RolledBackError as rolled_back:
            return rolled_back.answer
        raise AssertionError("the transaction did not roll back")


class QueuesInMemoryAlone(Recorder):
    """Stores blocks, but not that they wait. Its queue in memory is gone before it has begun."""

    def __init__(self, store: Store, notify: Notify, **options: Any) -> None:
        super().__init__(store, lambda _: None, **options)
        del notify

    async def record(self, events: Sequence[BlockEvent]) -> AbstractSet[BlockKey]:
        """As it should, but takes the blocks out of the durable queue again."""
        changed = await super().record(events)
        await self._store.write(lambda transaction: _unqueue(transaction, changed))
        return changed


def _unqueue(transaction: WriteTransaction, keys: AbstractSet[BlockKey]) -> None:
    for key in keys:
        transaction.delete_pending(key)


class LeavesOldRows(WriteTransaction):
    """Announces a changed example without taking its last announcement out of the log."""

    def _supersede(self, key: BlockKey) -> None:
        revision = self.example_revision(key)
        if revision is not None and self.is_learned(key):
            self._retally(key, lambda tally: tally.without_row(key.encode(), revision))


LOSES: Final[dict[str, type[Recorder]]] = {
    "acknowledges before it is durable": AcknowledgesBeforeItIsDurable,
    "queues in memory alone": QueuesInMemoryAlone,
}
DOUBLES: Final = "leaves old rows"


if __name__ == "__main__":
    fault = os.environ[VARIABLE]
    if fault == DOUBLES:
        # Made by each transaction.
        vars(store_module)["WriteTransaction"] = LeavesOldRows
    else:
        vars(program)["Recorder"] = LOSES[fault]
    program.main()
