"""Backfills as clients ask for them: beginning one, and saying how far it has come.

The work itself is fed by `feed.py`, what is done is counted by `rows.py`.
"""

import asyncio
import secrets
from collections.abc import Callable
from functools import partial
from typing import Final

from errata.serving.fields import InvalidFieldError
from errata.v1.learner_pb2 import BackfillRequest, GetBackfillResponse
from learner_service.backfill.rows import Range, range_of
from learner_service.errors import LearnerError
from learner_service.store.read_transaction import ReadTransaction
from learner_service.store.store import Store
from learner_service.store.write_transaction import WriteTransaction

RUNNING_MAX: Final = 32
"""Backfills that run at once: each block that changes is looked up in the range of every one of them."""


class BackfillNotFoundError(LearnerError):
    """The backfill is unknown, or no longer kept."""

    def __init__(self, backfill_id: str) -> None:
        super().__init__(f"no backfill {backfill_id!r} is known; those that have ended are kept for 30 days")
        self.backfill_id = backfill_id


class TooManyBackfillsError(LearnerError):
    """As many backfills run as may run at once."""

    def __init__(self) -> None:
        super().__init__(f"{RUNNING_MAX} backfills are running; try again when one of them has ended")


class Backfills:
    """Begins backfills and tells of them. What is asked for has been checked."""

    def __init__(self, store: Store, begun: Callable[[], None]) -> None:
        """Takes its parts.

        Args:
            store: keeps them.
            begun: called when there is a new one to work on.
        """
        self._store = store
        self._begun = begun

    async def begin(self, request: BackfillRequest) -> tuple[str, int]:
        """Begins a backfill, durably, unless it is known; a dry run begins nothing.

        Returns:
            Its ID, empty for a dry run, and how many blocks match.

        Raises:
            InvalidFieldError: another request had this ID.
            TooManyBackfillsError: too many are running.
            StoreFullError: there is no room.
        """
        if request.dry_run:
            return "", await asyncio.to_thread(self._dry_run, request)
        backfill_id = request.backfill_id or secrets.token_hex(8)
        await self._store.write(partial(_begin, backfill_id=backfill_id, request=request))
        progress = await self.progress(backfill_id)
        self._begun()
        return backfill_id, progress.matched_block_count

    async def progress(self, backfill_id: str) -> GetBackfillResponse:
        """How far a backfill has come.

        Raises:
            BackfillNotFoundError: it is unknown.
            StoreFullError: its blocks were not counted yet, and there is no room to note how many there are.
        """
        return await counted_progress(self._store, backfill_id)

    def _dry_run(self, request: BackfillRequest) -> int:
        with self._store.read() as transaction:
            _refuse_other_request(transaction, request.backfill_id, request)
            # What changes from now on changes later than this.
            wanted = Range.of(request, transaction.clock_us + 1)
            return transaction.backfills.match_count(wanted)


async def counted_progress(store: Store, backfill_id: str) -> GetBackfillResponse:
    """How far a backfill has come, with the number of its blocks, which is counted here if it has not been.

    Raises:
        BackfillNotFoundError: it is unknown.
        StoreFullError: there is no room to note that number.
    """
    counted, progress = await asyncio.to_thread(_count, store, backfill_id)
    if not counted:
        await store.write(
            lambda transaction: transaction.backfills.set_matched(backfill_id, progress.matched_block_count)
        )
    return progress


def _count(store: Store, backfill_id: str) -> tuple[bool, GetBackfillResponse]:
    """The progress, and whether the number of its blocks is known to the store, too."""
    with store.read() as transaction:
        record = transaction.backfills.get(backfill_id)
        if record is None:
            raise BackfillNotFoundError(backfill_id)
        if not record.counted:
            # From one state, so it does not matter what was done before.
            left_count = transaction.backfills.left_count(backfill_id)
            record.progress.matched_block_count = record.progress.done_block_count + left_count
        return record.counted, record.progress


def _begin(transaction: WriteTransaction, backfill_id: str, request: BackfillRequest) -> None:
    _refuse_other_request(transaction, backfill_id, request)
    if transaction.backfills.get(backfill_id) is not None:
        return
    if len(transaction.backfills.running_ids()) >= RUNNING_MAX:
        raise TooManyBackfillsError
    transaction.backfills.begin(backfill_id, request)


def _refuse_other_request(transaction: ReadTransaction, backfill_id: str, request: BackfillRequest) -> None:
    record = transaction.backfills.get(backfill_id) if backfill_id else None
    if record is None:
        return
    known = range_of(record)
    if request.dry_run or Range.of(request, known.until_us) != known:
        raise InvalidFieldError(
            "backfill_id",
            f"{backfill_id!r} names a backfill that was begun with another request; send that again, or "
            "choose another ID",
        )
