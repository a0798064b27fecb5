"""Tokens of writes, while the Learner restarts, changes and loses its history."""

import asyncio

import pytest

from errata.v1 import learner_pb2
from rag_service.progress import Progress
from rag_service.read_your_writes import Epochs, Verdict, decode
from tests.rag_service.following import Following, following
from tests.rag_service.manual_clock import ManualClock, until
from tests.rag_service.scripted_learner import ToyStore, reset

HISTORY_LOST = learner_pb2.WATCH_RESET_REASON_HISTORY_LOST


@pytest.fixture
def store() -> ToyStore:
    store = ToyStore()
    store.put("a", "how to list files")
    store.put("b", "how to count lines")
    return store


def waiting(it: Following, token: bytes) -> asyncio.Task[Verdict]:
    return asyncio.create_task(it.progress.wait_for(decode(token), 2.0))


def verdict(it: Following, token: bytes) -> Verdict:
    return it.progress.decide(decode(token))


async def test_a_call_that_waits_goes_on_at_the_bookmark_that_holds_its_write(store: ToyStore) -> None:
    async with following() as it:
        stream = await it.synced(store)
        first, second = store.put("c", "how to sort"), store.put("d", "how to move")
        waiter = waiting(it, store.token_of(second))
        await until(lambda: it.progress.waiter_count == 1)
        stream.send(store.batch(first, bookmark=False))
        await until(lambda: "c" in it.ids)
        assert not waiter.done()
        stream.send(store.batch(second))
        async with asyncio.timeout(5):
            assert await waiter is Verdict.REACHED
        assert "d" in it.ids
        assert it.progress.waiter_count == 0


async def test_a_deletion_is_waited_for_like_any_write(store: ToyStore) -> None:
    async with following() as it:
        stream = await it.synced(store)
        deletion = store.delete("a")
        waiter = waiting(it, store.token_of(deletion))
        stream.send(store.batch(deletion))
        async with asyncio.timeout(5):
            assert await waiter is Verdict.REACHED
        assert it.ids == {"b"}


async def test_a_write_that_does_not_come_is_waited_for_only_so_long(store: ToyStore) -> None:
    async with following() as it:
        await it.synced(store)
        waiter = waiting(it, store.token_of(store.put("c", "how to sort")))
        await until(lambda: 2.0 in it.clock.sleeps_s())
        it.clock.advance(1.9)
        await asyncio.sleep(0)
        assert not waiter.done()
        it.clock.advance(0.1)
        assert await waiter is Verdict.WAIT
        assert it.progress.waiter_count == 0


async def test_a_call_that_is_cancelled_waits_no_more(store: ToyStore) -> None:
    async with following() as it:
        await it.synced(store)
        waiter = waiting(it, store.token_of(store.put("c", "how to sort")))
        await until(lambda: it.progress.waiter_count == 1)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert it.progress.waiter_count == 0
        await until(lambda: 2.0 not in it.clock.sleeps_s())


async def test_no_wait_at_all_is_decided_at_once(store: ToyStore) -> None:
    async with following() as it:
        await it.synced(store)
        there = decode(store.token_of(store.rows[b"\0b"][1]))
        missing = decode(store.token_of(store.put("c", "how to sort")))
        assert await it.progress.wait_for(there, 0.0) is Verdict.REACHED
        assert await it.progress.wait_for(missing, 0.0) is Verdict.WAIT


async def test_tokens_stay_good_when_the_learner_restarts(store: ToyStore) -> None:
    async with following() as it:
        stream = await it.synced(store)
        before = store.token_of(store.rows[b"\0b"][1])
        store.begin_epoch(102)
        after_update = store.put("c", "how to sort")
        after = store.token_of(after_update)
        assert verdict(it, before) is Verdict.REACHED
        assert verdict(it, after) is Verdict.WAIT
        stream.end()
        stream = await it.stream()
        stream.send(store.hello())
        await until(lambda: it.progress.decide(decode(before)) is Verdict.REACHED)
        waiter = waiting(it, after)
        stream.send(store.batch(after_update))
        async with asyncio.timeout(5):
            assert await waiter is Verdict.REACHED
        assert verdict(it, before) is Verdict.REACHED


async def test_what_a_restored_backup_lacks_is_lost_as_soon_as_the_hello_tells(store: ToyStore) -> None:
    async with following() as it:
        stream = await it.synced(store)
        backup = ToyStore()
        kept = backup.put("a", "how to list files")
        backup.begin_epoch(777)
        lost = store.token_of(store.rows[b"\0b"][1])
        in_future = store.token_of(store.put("c", "how to sort"))
        assert verdict(it, lost) is Verdict.REACHED
        waiter = waiting(it, in_future)
        await until(lambda: it.progress.waiter_count == 1)
        stream.end()

        stream = await it.stream()
        stream.send(backup.hello())
        async with asyncio.timeout(5):
            assert await waiter is Verdict.LOST
        assert verdict(it, lost) is Verdict.LOST
        assert verdict(it, backup.token_of(kept)) is Verdict.REACHED
        assert it.ids == {"a", "b"}

        # The revision is given out again, for another change.
        anew = backup.put("z", "how to zip")
        assert anew.revision == decode(lost).revision
        assert verdict(it, backup.token_of(anew)) is Verdict.WAIT
        stream.send(reset(HISTORY_LOST), backup.everything())
        await until(lambda: it.ids == {"a", "z"})
        assert verdict(it, backup.token_of(anew)) is Verdict.REACHED
        assert verdict(it, lost) is Verdict.LOST


async def test_an_epoch_of_which_only_the_index_knows_is_lost_with_it(store: ToyStore) -> None:
    async with following() as it:
        backup_epochs = list(store.epochs)
        store.begin_epoch(102)
        store.put("c", "how to sort")
        stream = await it.synced(store)
        lost = store.token_of(store.rows[b"\0c"][1])
        assert verdict(it, lost) is Verdict.REACHED
        backup = ToyStore(head=2, epochs=[*backup_epochs, (777, 2)])
        stream.end()
        stream = await it.stream()
        stream.send(backup.hello())
        await until(lambda: verdict(it, lost) is Verdict.LOST)


async def test_a_token_of_another_store_is_only_waited_for(store: ToyStore) -> None:
    async with following() as it:
        await it.synced(store)
        other = ToyStore(store_id=b"store-2")
        assert verdict(it, other.token_of(other.put("a", "how to list files"))) is Verdict.WAIT


async def test_a_new_store_takes_the_place_of_the_old_one(store: ToyStore) -> None:
    async with following() as it:
        stream = await it.synced(store)
        old = store.token_of(store.rows[b"\0a"][1])
        stream.end()
        other = ToyStore(store_id=b"store-2", epochs=[(555, 0)])
        new = other.token_of(other.put("x", "how to compare"))
        stream = await it.stream()
        waiter = waiting(it, new)
        stream.send(other.hello(), reset(learner_pb2.WATCH_RESET_REASON_STORE_CHANGED), other.everything())
        async with asyncio.timeout(5):
            assert await waiter is Verdict.REACHED
        assert it.ids == {"x"}
        assert it.progress.store_id == b"store-2"
        assert verdict(it, old) is Verdict.WAIT


async def test_the_token_of_a_state_names_its_newest_change_in_the_history_it_came_from(
    store: ToyStore,
) -> None:
    async with following() as it:
        stream = await it.synced(store)
        live = it.mirror.live
        assert live is not None
        assert live.token(live.index.received_revision) == store.token_of(store.rows[b"\0b"][1])
        # After a restart, a change that no bookmark has confirmed yet is of the new epoch.
        store.begin_epoch(102)
        stream.end()
        stream = await it.stream()
        fresh = store.put("c", "how to sort")
        stream.send(store.hello(), store.batch(fresh, bookmark=False))
        await until(lambda: "c" in it.ids)
        assert live.token(live.index.received_revision) == store.token_of(fresh)
        assert decode(live.token(live.index.received_revision)).epoch == 102


async def test_a_state_that_has_received_nothing_has_no_token() -> None:
    async with following() as it:
        await it.synced(ToyStore())
        assert it.mirror.live is not None
        assert it.mirror.live.token(it.mirror.live.index.received_revision) == b""


async def test_without_a_hello_the_own_history_decides(store: ToyStore) -> None:
    progress = Progress(clock=ManualClock())
    token = decode(store.token_of(store.rows[b"\0a"][1]))
    assert progress.decide(token) is Verdict.WAIT
    progress.bookmark(store.store_id, store.history, 2)
    assert progress.store_id == store.store_id
    assert progress.decide(token) is Verdict.REACHED
    progress.hello(b"store-2", Epochs())
    assert progress.decide(token) is Verdict.WAIT
