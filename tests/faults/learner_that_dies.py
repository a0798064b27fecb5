"""A Learner that kills itself: `DIE_AT="after a commit:7" python -m tests.faults.learner_that_dies FLAGS`.

It is the real program, with every guarantee; where a point is passed, it counts, and at the given passage it
sends itself SIGKILL. Just before that it writes `LAST_WORDS` and the point to stderr.
"""

import os
import signal
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final

import learner_service.__main__ as program
from errata.embedding import EmbeddingThread
from errata.embedding.embedder import FloatMatrix
from learner_service.backfill.feed import BackfillFeed
from learner_service.backfill.rows import BackfillWriter, Reconciled
from learner_service.keys import BlockKey
from learner_service.reconciler import Reconciler, Result
from learner_service.store import write_transaction
from learner_service.store.store import Store, _Waiting
from learner_service.workqueue.lanes import Lane

VARIABLE: Final = "DIE_AT"
LAST_WORDS: Final = "dies "

BEFORE_COMMIT: Final = "before a commit"
"""Every mutation of the group has run, nothing of it is durable."""
AFTER_COMMIT: Final = "after a commit"
"""The group is durable, and nobody has been told."""
AFTER_EMBEDDING: Final = "after embedding"
"""The vectors are there, and nothing of them is stored."""
BACKFILL_HANDED_OUT: Final = "in a backfill, blocks handed out"
BACKFILL_COUNTED: Final = "in a backfill, counted and not committed"
BACKFILL_STORED: Final = "in a backfill, results durable and not told"
POINTS: Final = (
    BEFORE_COMMIT,
    AFTER_COMMIT,
    AFTER_EMBEDDING,
    BACKFILL_HANDED_OUT,
    BACKFILL_COUNTED,
    BACKFILL_STORED,
)


class Death:
    """Comes at one passage of one point."""

    def __init__(self, order: str) -> None:
        self._point, _, number = order.rpartition(":")
        if self._point not in POINTS:
            raise ValueError(f"{VARIABLE}={order!r}: no such point")
        self._left = int(number)

    def passes(self, point: str) -> None:
        """Counts a passage of a point; does not return from the last."""
        if point != self._point:
            return
        self._left -= 1
        if self._left == 0:
            os.write(2, f"\n{LAST_WORDS}{point}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)


class DyingStore(Store):
    """Dies around a commit."""

    death: Death

    def _commit(self, group: Sequence[_Waiting]) -> tuple[list[Any], Any]:
        # In a mutation behind all others: they have run, and the commit comes next.
        last = _Waiting(lambda _: self.death.passes(BEFORE_COMMIT), Future())
        results, commit = super()._commit([*group, last])
        self.death.passes(AFTER_COMMIT)
        return results[:-1], commit


def dying_parts(death: Death) -> Mapping[str, type]:
    """The parts of the program, by name, that count what they pass."""

    class DyingEmbeddingThread(EmbeddingThread):
        async def documents(self, texts: Sequence[str]) -> FloatMatrix:
            matrix = await super().documents(texts)
            death.passes(AFTER_EMBEDDING)
            return matrix

    class DyingBackfillFeed(BackfillFeed):
        def __init__(self, store: Store, learn_again: Any, clock: Any) -> None:
            def learn_again_and_die(keys: Iterable[BlockKey]) -> None:
                handed_out = list(keys)
                learn_again(handed_out)
                if handed_out:
                    death.passes(BACKFILL_HANDED_OUT)

            super().__init__(store, learn_again_and_die, clock)

    class DyingReconciler(Reconciler):
        async def reconcile(
            self, keys: Sequence[BlockKey], lane: Lane = Lane.LIVE
        ) -> Mapping[BlockKey, Result]:
            results = await super().reconcile(keys, lane)
            if lane is Lane.BACKFILL and results:
                death.passes(BACKFILL_STORED)
            return results

    DyingStore.death = death
    return {
        "Store": DyingStore,
        "EmbeddingThread": DyingEmbeddingThread,
        "BackfillFeed": DyingBackfillFeed,
        "Reconciler": DyingReconciler,
    }


def dying_rows(death: Death) -> type[BackfillWriter]:
    """The rows of backfills, passing a point where a result has been counted for one of them."""

    class DyingBackfillWriter(BackfillWriter):
        def count(self, results: Collection[Reconciled]) -> None:
            running = self.running_ids()
            before = self._done(running)
            super().count(results)
            if self._done(running) > before:
                death.passes(BACKFILL_COUNTED)

        def _done(self, backfill_ids: Iterable[str]) -> int:
            found = [self.get(each) for each in backfill_ids]
            return sum(record.progress.done_block_count for record in found if record is not None)

    return DyingBackfillWriter


if __name__ == "__main__":
    coming = Death(os.environ[VARIABLE])
    vars(program).update(dying_parts(coming))
    # Made by each transaction.
    vars(write_transaction)["BackfillWriter"] = dying_rows(coming)
    program.main()
