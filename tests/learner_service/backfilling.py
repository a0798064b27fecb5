"""A Learner with backfills, on a real store, around an embedder that does what a test says."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial

from errata.v1.block_pb2 import BlockEvent
from errata.v1.learner_pb2 import BackfillRequest, BackfillResponse, GetBackfillRequest, GetBackfillResponse
from learner_service.backfill.calls import Backfills
from learner_service.backfill.feed import BackfillFeed
from learner_service.clock import MonotonicClock
from learner_service.derive import Policy
from learner_service.recorder import Recorder
from learner_service.store.store import Store
from learner_service.store.write_transaction import WriteTransaction
from tests.block_events import ran
from tests.learner_service.conftest import ManualClock
from tests.learner_service.learning_parts import Parts
from tests.learner_service.serving import Serving, call


class Filled:
    """A Learner with backfills. Unless told otherwise it learns whatever was run, so that a block that it has
    not learned from gives an example when it does."""

    def __init__(self, store: Store, clock: ManualClock, policy: Policy = Policy.EXECUTIONS) -> None:
        self.parts = Parts(store, clock, policy=policy)
        self.feed = BackfillFeed(
            store, self.parts.learning.learn_again, MonotonicClock(), look_interval_s=0.1
        )
        self.parts.learning.listen(self.feed)
        self.serving = Serving(self.parts)
        self.serving.servicer._backfills = Backfills(store, self.feed.wake)

    async def fill(self, ids: Iterable[str], namespace: str = "") -> None:
        """Records runs, and lets nothing wait: only a backfill comes back to them."""
        await self.record(*(run(each, namespace) for each in ids))
        await self.parts.store.write(remove_all_pending)

    async def record(self, *events: BlockEvent) -> None:
        """Records events and tells nobody."""
        await Recorder(self.parts.store, lambda _: None).record(events)

    async def begin(
        self,
        backfill_id: str = "",
        *,
        start_us: int | None = None,
        namespaces: Iterable[str] = (),
        dry_run: bool = False,
    ) -> BackfillResponse:
        request = BackfillRequest(backfill_id=backfill_id, namespaces=namespaces, dry_run=dry_run)
        if start_us is not None:
            request.start_time.FromMicroseconds(start_us)
        return await self.serving.servicer.backfill(request, call())

    async def progress(self, backfill_id: str) -> GetBackfillResponse:
        return await self.serving.servicer.get_backfill(GetBackfillRequest(backfill_id=backfill_id), call())

    async def counts(self, backfill_id: str) -> tuple[int, int, int, int]:
        """Matched, done, changed, failed."""
        found = await self.progress(backfill_id)
        return (
            found.matched_block_count,
            found.done_block_count,
            found.changed_block_count,
            found.failed_block_count,
        )

    async def ended(self, *backfill_ids: str) -> None:
        """Returns once the backfills have ended."""
        for backfill_id in backfill_ids:
            await until(partial(self.has_ended, backfill_id))

    async def has_ended(self, backfill_id: str) -> bool:
        return (await self.progress(backfill_id)).HasField("end_time")

    async def has_done(self, backfill_id: str, count: int) -> bool:
        return (await self.progress(backfill_id)).done_block_count >= count

    async def has_queued(self, count: int) -> bool:
        return len(self.parts.queue) == count

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with self.parts.running():
            task = asyncio.create_task(self.feed.run())
            try:
                yield
                assert not task.done(), "the feed never ends by itself"
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        assert self.parts.store.check() == []

    def learned(self, namespace: str = "") -> set[str]:
        with self.parts.store.read() as transaction:
            return {
                key.id
                for _, key in transaction.blocks_before()
                if key.namespace == namespace and transaction.is_learned(key)
            }


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    """Asks again and again, as clients do: there is no event for what only the store knows."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.001)


def run(block_id: str, namespace: str = "", *, at_s: float = 1) -> BlockEvent:
    return ran(block_id, f"run {block_id}", asked=f"do {block_id}", at_s=at_s, namespace=namespace)


def numbered(count: int, prefix: str = "b") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def remove_all_pending(transaction: WriteTransaction) -> None:
    for key, _ in list(transaction.pending_after(None)):
        transaction.delete_pending(key)
