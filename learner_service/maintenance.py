"""Forgets, in the background, what only takes room: old deletions and traces, ended backfills, dead readers.

In small transactions, so that nobody waits for one. A pass that is cut short is taken up by the next.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final

from errata.serving.logs import get_logger
from learner_service.backfill.rows import has_ended
from learner_service.errors import StoreFullError
from learner_service.store.store import Store
from learner_service.store.write_transaction import WriteTransaction

INTERVAL_S: Final = 60.0
"""Between passes. What is forgotten a minute late harms nobody."""

DROPPED_MAX: Final = 500
"""Rows that one transaction drops: some milliseconds of the writer."""

TRACES_KEPT_S: Final = 25 * 3_600
"""After the time noted of its last line, which may be an hour too early. A line that says of a trace that it
was an evaluation may come 24 h late."""

BACKFILLS_KEPT_S: Final = 30 * 24 * 3_600
"""After the end of one. Until then its ID means that one, and GetBackfill tells of it."""

BACKFILLS_KEPT_MAX: Final = 1_000
"""Of those that have ended; more lose the ones that ended first."""

log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionLimits:
    """Which deletions are remembered, so that a watcher that was away can catch up without a Reset."""

    age_s_max: int
    count_min: int
    """Kept whatever their age."""
    count_max: int
    """Kept at most, however new."""


class Maintenance:
    """See the module."""

    def __init__(self, store: Store, *, wall_us: Callable[[], int], limits: DeletionLimits) -> None:
        self._store = store
        self._wall_us = wall_us
        self._limits = limits

    async def run(self) -> None:
        """Makes a pass every minute until it is cancelled."""
        while True:
            try:
                await self.make_pass()
            except StoreFullError as error:
                log.warning("old records could not be dropped", reason=str(error))
            dead_count = await asyncio.to_thread(self._store.forget_dead_readers)
            if dead_count:
                log.warning(
                    "programs that read the store were killed; what they held is free", count=dead_count
                )
            await asyncio.sleep(INTERVAL_S)

    async def make_pass(self) -> None:
        """Drops everything that is old by now.

        Raises:
            StoreFullError: dropping needs room too, and there is none.
        """
        while await self._store.write(self._drop_deletions) == DROPPED_MAX:
            pass
        before_us = self._wall_us() - TRACES_KEPT_S * 1_000_000
        old = await asyncio.to_thread(self._old_traces, before_us)
        for start in range(0, len(old), DROPPED_MAX):
            part = old[start : start + DROPPED_MAX]
            while not await self._store.write(partial(_drop_traces, traces=part, before_us=before_us)):
                pass
        ended = await asyncio.to_thread(self._old_backfills, self._wall_us() - BACKFILLS_KEPT_S * 1_000_000)
        for start in range(0, len(ended), DROPPED_MAX):
            await self._store.write(partial(_drop_backfills, backfill_ids=ended[start : start + DROPPED_MAX]))

    def _drop_deletions(self, transaction: WriteTransaction) -> int:
        return transaction.compact(
            deleted_before_us=self._wall_us() - self._limits.age_s_max * 1_000_000,
            kept_min=self._limits.count_min,
            kept_max=self._limits.count_max,
            dropped_max=DROPPED_MAX,
        )

    def _old_traces(self, before_us: int) -> list[tuple[str, str]]:
        with self._store.read() as transaction:
            old = (
                (namespace, trace_id)
                for namespace, trace_id, modified_us in transaction.trace_times()
                if modified_us < before_us
            )
            return list(islice(old, 100 * DROPPED_MAX))

    def _old_backfills(self, before_us: int) -> list[str]:
        with self._store.read() as transaction:
            ended = sorted(
                (record.progress.end_time.ToMicroseconds(), backfill_id)
                for backfill_id, record in transaction.backfills.all()
                if has_ended(record)
            )
        surplus_count = len(ended) - BACKFILLS_KEPT_MAX
        return [
            backfill_id
            for number, (ended_us, backfill_id) in enumerate(ended)
            if ended_us < before_us or number < surplus_count
        ]


def _drop_backfills(transaction: WriteTransaction, backfill_ids: Iterable[str]) -> None:
    for backfill_id in backfill_ids:
        record = transaction.backfills.get(backfill_id)
        # A name may have been given anew since it was looked at.
        if record is not None and has_ended(record):
            transaction.backfills.drop(backfill_id)


def _drop_traces(transaction: WriteTransaction, traces: Iterable[tuple[str, str]], before_us: int) -> bool:
    """Drops traces that are old; False when one of them has more blocks than a transaction drops."""
    left_count = DROPPED_MAX
    for namespace, trace_id in traces:
        record = transaction.trace(namespace, trace_id)
        # A line may have come since it was looked at.
        if record is not None and record.modified_time.ToMicroseconds() < before_us:
            left_count -= len(transaction.take_trace_blocks(namespace, trace_id, left_count))
            if left_count <= 0:
                return False
            transaction.delete_trace(namespace, trace_id)
    return True
