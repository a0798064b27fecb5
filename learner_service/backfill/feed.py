"""Feeds the blocks of running backfills to learning, behind all that people have just done.

A window goes over what is left of each backfill, in the order in which the blocks changed. Its place is not
stored: a start begins at the durable cursor and passes over what is done. Several backfills share the window,
and a block that two of them hold is learned from once.

Blocks are handed out a few at a time, and after each such part the feed rests, longer while people are at
work: who records something must find the event loop, the writer and the processor free more often than not.
"""

import asyncio
import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from errata.serving.logs import get_logger
from learner_service.backfill.calls import BackfillNotFoundError, counted_progress
from learner_service.clock import Clock
from learner_service.errors import StoreFullError
from learner_service.keys import BlockKey
from learner_service.reconciler import Settled, Superseded
from learner_service.store.store import Store
from learner_service.store.write_transaction import WriteTransaction
from learner_service.waiting import comes_within

WINDOW_KEYS: Final = 1_000
"""Blocks that are handed out and not through with, those counted that wait for another attempt."""

PART_KEYS: Final = 16
"""Blocks that are handed out together. Live work may have to wait for one transaction of so many results."""

REST_SHARE: Final = 0.5
"""How long the feed rests after a part, as a share of what the part took."""

REST_SHARE_AT_WORK: Final = 3.0
"""The same while there is live work, too."""

REST_S_MAX: Final = 0.1
"""No rest is longer: a part that took long has waited for an embedder, which lets others in between."""

AT_WORK_S: Final = 5.0
"""So long after the last live result people count as being at work."""

LOOKED_AT_ROWS_MAX: Final = 1_000
"""Rows of one read, so that the event loop is never held for long."""

LOOK_INTERVAL_S: Final = 10.0
"""How often a backfill that stands still is looked after."""

log = get_logger()


class BackfillFeed:
    """Runs on one event loop; a `Listener` of learning, which tells it what is through."""

    def __init__(
        self,
        store: Store,
        learn_again: Callable[[Iterable[BlockKey]], None],
        clock: Clock,
        *,
        look_interval_s: float = LOOK_INTERVAL_S,
    ) -> None:
        self._store = store
        self._learn_again = learn_again
        self._clock = clock
        self._look_interval_s = look_interval_s
        # Each running backfill, with the time from which on nothing of it is handed out; None at its end.
        self._places: dict[str, int | None] = {}
        # Invariant: put_off ⊆ handed_out.
        self._handed_out: set[BlockKey] = set()
        self._put_off: set[BlockKey] = set()
        # When the part that is out was handed out; None when it has been rested from.
        self._part_begun_s: float | None = None
        self._live_result_s = -math.inf
        self._wanted = asyncio.Event()
        self._wanted.set()

    def wake(self) -> None:
        """Says that there may be a new backfill."""
        self._wanted.set()

    def settled(self, key: BlockKey, result: Settled | Superseded | None) -> None:
        """Makes room for another block."""
        del result
        if key not in self._handed_out:
            self._live_result_s = self._clock.now()
            return
        self._handed_out.remove(key)
        self._put_off.discard(key)
        self._call_for_more()

    def put_off(self, key: BlockKey) -> None:
        """Lets others pass a block that waits for another attempt."""
        if key in self._handed_out:
            self._put_off.add(key)
            self._call_for_more()

    async def run(self) -> None:
        """Feeds for ever; cancel it to stop. The store knows what is left."""
        while True:
            woken = await comes_within(self._wanted, self._look_interval_s)
            self._wanted.clear()
            try:
                if not woken:
                    self._start_over()
                await self._rest()
                await self._look_after()
                while self._hand_out():  # noqa: ASYNC110 - it is work, not a condition, that repeats
                    await asyncio.sleep(0)
                await self._end()
            except StoreFullError as error:
                log.warning("a backfill waits for room in the store", reason=str(error))

    @property
    def _room(self) -> int:
        active_count = len(self._handed_out) - len(self._put_off)
        return min(PART_KEYS - active_count, WINDOW_KEYS - len(self._handed_out))

    def _call_for_more(self) -> None:
        if len(self._handed_out) == len(self._put_off):
            self._wanted.set()

    async def _rest(self) -> None:
        """Leaves the Learner to others for a while after each part."""
        if self._part_begun_s is None or len(self._handed_out) > len(self._put_off):
            return
        now_s = self._clock.now()
        share = REST_SHARE_AT_WORK if now_s - self._live_result_s < AT_WORK_S else REST_SHARE
        rest_s = min(share * (now_s - self._part_begun_s), REST_S_MAX)
        self._part_begun_s = None
        await self._clock.sleep_until(now_s + rest_s)

    async def _look_after(self) -> None:
        """Learns which backfills are running, says of the others that they have ended, counts new ones."""
        with self._store.read() as transaction:
            running = transaction.backfills.running_ids()
        for backfill_id in self._places.keys() - set(running):
            del self._places[backfill_id]
            await self._tell_the_end(backfill_id)
        for backfill_id in running:
            if backfill_id not in self._places:
                self._places[backfill_id] = 0
                await counted_progress(self._store, backfill_id)

    async def _tell_the_end(self, backfill_id: str) -> None:
        try:
            progress = await counted_progress(self._store, backfill_id)
        except BackfillNotFoundError:
            return
        log.info(
            "a backfill has ended",
            backfill_id=backfill_id,
            matched_block_count=progress.matched_block_count,
            changed_block_count=progress.changed_block_count,
            failed_block_count=progress.failed_block_count,
        )

    def _hand_out(self) -> bool:
        """Hands out the next blocks; False when there is no room, or nothing left to look at."""
        unread = [backfill_id for backfill_id, place in self._places.items() if place is not None]
        room = self._room
        if not unread or room <= 0:
            return False
        keys: dict[BlockKey, None] = {}
        with self._store.read() as transaction:
            running = set(transaction.backfills.running_ids())
            for backfill_id in unread:
                if backfill_id not in running:
                    self._places[backfill_id] = None
                    continue
                found = transaction.backfills.undone(
                    backfill_id,
                    self._places[backfill_id] or 0,
                    count_max=max(room // len(unread), 1),
                    rows_max=LOOKED_AT_ROWS_MAX,
                )
                self._places[backfill_id] = found.next_us
                keys.update((key, None) for key in found.keys if key not in self._handed_out)
        if keys and self._part_begun_s is None:
            self._part_begun_s = self._clock.now()
        self._handed_out.update(keys)
        self._learn_again(keys)
        return True

    async def _end(self) -> None:
        """Ends the backfills of which nothing is left, whoever has done the last of it."""
        for backfill_id in [each for each, place in self._places.items() if place is None]:
            while self._has_rows_to_pass(backfill_id):
                await self._store.write(partial(_advance, backfill_id=backfill_id))
        await self._look_after()

    def _has_rows_to_pass(self, backfill_id: str) -> bool:
        """Whether the next rows of a running backfill hold nothing that is not done."""
        with self._store.read() as transaction:
            if backfill_id not in transaction.backfills.running_ids():
                return False
            found = transaction.backfills.undone(backfill_id, 0, count_max=1, rows_max=LOOKED_AT_ROWS_MAX)
        return not found.keys

    def _start_over(self) -> None:
        """Hands out again what should have been through by now; nothing is lost that the store knows of."""
        self._learn_again(self._handed_out - self._put_off)
        if not self._handed_out:
            self._places = {backfill_id: 0 for backfill_id, place in self._places.items()}


def _advance(transaction: WriteTransaction, backfill_id: str) -> None:
    # It may have been dropped since it was looked at.
    if transaction.backfills.get(backfill_id) is not None:
        transaction.backfills.advance(backfill_id)
