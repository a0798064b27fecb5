import asyncio
from collections.abc import Mapping, Sequence

import pytest
from structlog.testing import capture_logs

from errata.embedding import EmbedderError, EmbedderRejectedError, EmbedderUnavailableError
from errata.v1.learner_pb2 import RECONCILE_OUTCOME_CREATED, RECONCILE_OUTCOME_UNCHANGED
from learner_service.derive import Policy
from learner_service.errors import BlockNotFoundError, StoreFullError
from learner_service.keys import BlockKey
from learner_service.learning import ATTEMPTS_MAX, FEED_KEYS
from learner_service.reconciler import Reconciler, Result
from learner_service.store.store import Store
from learner_service.workqueue.lanes import Lane
from tests.block_events import correction, ran
from tests.learner_service.conftest import ManualClock
from tests.learner_service.learning_parts import IDENTITY, Parts, key_of, park


@pytest.fixture
def parts(store: Store, clock: ManualClock) -> Parts:
    return Parts(store, clock)


async def record_many(parts: Parts, ids: Sequence[str]) -> None:
    await parts.record(*(event for each in ids for event in correction(each, f"do {each}", f"run {each}")))


def numbered(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number:04}" for number in range(count)]


async def test_what_is_recorded_while_learning_runs_is_learned(parts: Parts) -> None:
    async with parts.running():
        await record_many(parts, ["a", "b"])
        await parts.learned("a", "b")
    assert (parts.answer("a"), parts.answer("b")) == ("run a", "run b")


async def test_what_waited_at_the_start_is_learned(parts: Parts, store: Store, clock: ManualClock) -> None:
    ids = numbered("b", 20)
    await record_many(parts, ids)
    restarted = Parts(store, clock)
    async with restarted.running():
        await restarted.learned(*ids)
    assert store.check() == []
    assert [restarted.answer(each) for each in ids] == [f"run {each}" for each in ids]


async def test_a_window_smaller_than_the_backlog_still_learns_all_of_it(
    store: Store, clock: ManualClock
) -> None:
    parts = Parts(store, clock, window_keys=4)
    ids = numbered("b", 2 * FEED_KEYS)
    await record_many(parts, ids[:FEED_KEYS])
    async with parts.running():
        await record_many(parts, ids[FEED_KEYS:])
        await parts.learned(*ids)
    assert sorted(parts.embedder.embedded) == [f"do {each}" for each in ids]


async def test_what_finds_no_room_behind_the_round_of_the_window_is_learned_in_the_next(
    store: Store, clock: ManualClock
) -> None:
    parts = Parts(store, clock, window_keys=4)
    ids = numbered("m", FEED_KEYS + 100)
    await record_many(parts, ids)
    parts.embedder.held = {f"do {ids[0]}"}
    async with parts.running():
        # The round has gone past `a` now, and has room for nobody.
        await parts.embedder.waiting.wait()
        await record_many(parts, numbered("a", 10))
        parts.embedder.release()
        await parts.learned(*ids, *numbered("a", 10))


async def test_waiting_for_what_is_learned_already_takes_no_time(parts: Parts) -> None:
    await parts.record(*correction("b", "list files", "ls"))
    await parts.settle("b")
    async with asyncio.timeout(5):
        await parts.learning.wait_until_learned({key_of("b"), key_of("nobody")}, 3_600)


async def test_waiting_ends_when_its_time_is_over(parts: Parts) -> None:
    await parts.record(*correction("b", "list files", "ls"))
    async with asyncio.timeout(5):
        await parts.learning.wait_until_learned({key_of("b")}, 0.01)
    assert parts.pending("b") is not None
    assert parts.learning._waiters == {}


async def test_waiting_lasts_until_the_last_of_the_blocks_is_learned(parts: Parts) -> None:
    await record_many(parts, ["a", "b"])
    waiting = asyncio.create_task(
        parts.learning.wait_until_learned({key_of("a"), key_of("b")}, timeout_s=3_600)
    )
    other = asyncio.create_task(parts.learning.wait_until_learned({key_of("a")}, timeout_s=3_600))
    # Each of the two registers in its first step.
    await asyncio.sleep(0)
    await parts.learning.reconcile_now(key_of("a"))
    await other
    assert not waiting.done()
    await parts.learning.reconcile_now(key_of("b"))
    await waiting
    assert parts.learning._waiters == {}


async def test_a_wait_that_is_cancelled_leaves_nothing_behind(parts: Parts) -> None:
    await record_many(parts, ["a"])
    waiting = asyncio.create_task(parts.learning.wait_until_learned({key_of("a")}, timeout_s=3_600))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert parts.learning._waiters == {}


async def test_a_block_that_fails_unforeseen_stops_no_other_and_is_parked_after_some_attempts(
    parts: Parts,
) -> None:
    parts.embedder.errors["do poison"] = RuntimeError("a bug somewhere")
    await record_many(parts, ["a", "poison", "b"])
    async with parts.running():
        with capture_logs() as said:
            await parts.learned("a", "b", "poison")
        assert [line["attempt"] for line in said] == [1, 2, 3, 4, 5]
        assert (parts.answer("a"), parts.answer("b"), parts.answer("poison")) == ("run a", "run b", None)
        parked = parts.pending("poison")
        assert parked is not None
        assert (parked.parked, parked.failed_attempt_count) == (True, ATTEMPTS_MAX)
        assert "a bug somewhere" in parked.last_error
        assert parts.queue.num_requeues(key_of("poison")) == 0
        # A new event takes it back into the queue.
        await parts.record(ran("poison", "ls", at_s=50, asked="list files"))
        await parts.learned("poison")
    assert (parts.answer("poison"), parts.pending("poison")) == ("ls", None)
    assert parts.store.check() == []


async def test_a_text_that_is_refused_for_good_is_tried_once_and_holds_nobody_up(parts: Parts) -> None:
    parts.embedder.errors["do poison"] = EmbedderRejectedError("too strange")
    await record_many(parts, ["poison", "a"])
    async with parts.running():
        await parts.learned("poison", "a")
    parked = parts.pending("poison")
    assert parked is not None
    assert parked.parked
    # Once with the others, and once alone.
    assert parts.embedder.attempts.count("do poison") == 2
    assert parts.answer("a") == "run a"


async def test_what_may_pass_is_tried_until_it_has_and_is_noted_meanwhile(
    parts: Parts, clock: ManualClock
) -> None:
    parts.embedder.errors["do b"] = EmbedderUnavailableError("no connection")
    await record_many(parts, ["b"])
    async with parts.running():
        async with asyncio.timeout(5):
            await parts.embedder.asked("do b", 2 * ATTEMPTS_MAX)
        failing = parts.pending("b")
        assert failing is not None
        assert not failing.parked
        assert failing.failed_attempt_count > 0
        assert failing.last_error == "no connection"
        assert failing.retry_time.ToMicroseconds() > clock.now_us
        parts.embedder.errors.clear()
        await parts.learned("b")
    assert (parts.answer("b"), parts.pending("b")) == ("run b", None)
    assert parts.queue.num_requeues(key_of("b")) == 0


async def test_a_start_leaves_a_block_alone_until_its_time_for_another_attempt_has_come(
    parts: Parts, clock: ManualClock
) -> None:
    await record_many(parts, ["late", "soon"])
    waiting = parts.pending("late")
    assert waiting is not None
    waiting.retry_time.FromMicroseconds(clock.now_us + 60_000_000)
    await parts.store.write(lambda transaction: transaction.put_pending(key_of("late"), waiting))
    restarted = Parts(parts.store, clock)
    async with restarted.running():
        await restarted.learned("soon")
        assert restarted.answer("late") is None
        clock.now_us += 60_000_001
        # As at the next of the regular rounds.
        restarted.learning._feed_wanted.set()
        await restarted.learned("late")
    assert restarted.answer("late") == "run late"


async def test_a_parked_block_is_not_taken_up_by_a_start(parts: Parts, clock: ManualClock) -> None:
    await record_many(parts, ["a", "parked"])
    await parts.store.write(park("parked"))
    restarted = Parts(parts.store, clock)
    async with restarted.running():
        await restarted.learned("a")
    assert restarted.embedder.attempts == ["do a"]


async def test_reconcile_now_overtakes_all_that_waits(parts: Parts) -> None:
    ids = numbered("b", 500)
    await record_many(parts, ids)
    parts.embedder.held = {f"do {each}" for each in ids}
    async with parts.running():
        await parts.embedder.waiting.wait()
        await record_many(parts, ["urgent"])
        settled = await parts.learning.reconcile_now(key_of("urgent"))
        assert settled.outcome == RECONCILE_OUTCOME_CREATED
        assert parts.embedder.embedded == ["do urgent"]
        parts.embedder.release()
        await parts.learned(*ids)
    # What was queued of it has been done by the call.
    assert parts.embedder.attempts.count("do urgent") == 1


async def test_reconcile_now_waits_for_the_worker_that_has_the_block(parts: Parts) -> None:
    parts.embedder.held = {"do b"}
    async with parts.running():
        await record_many(parts, ["b"])
        await parts.embedder.waiting.wait()
        now = asyncio.create_task(parts.learning.reconcile_now(key_of("b")))
        await asyncio.sleep(0)
        parts.embedder.release()
        assert (await now).outcome == RECONCILE_OUTCOME_UNCHANGED
    assert parts.embedder.attempts == ["do b"]


async def test_reconcile_now_answers_for_the_block_as_it_is_when_it_changes_meanwhile(parts: Parts) -> None:
    await record_many(parts, ["b"])
    parts.embedder.held = {"do b"}
    now = asyncio.create_task(parts.learning.reconcile_now(key_of("b")))
    await parts.embedder.waiting.wait()
    await parts.record(ran("b", "something newer", at_s=50))
    parts.embedder.release()
    assert (await now).outcome == RECONCILE_OUTCOME_CREATED
    assert parts.answer("b") == "something newer"


async def test_reconcile_now_learns_from_a_parked_block(parts: Parts) -> None:
    await record_many(parts, ["b"])
    await parts.store.write(park("b"))
    assert (await parts.learning.reconcile_now(key_of("b"))).outcome == RECONCILE_OUTCOME_CREATED
    assert parts.pending("b") is None
    assert parts.store.check() == []


async def test_reconcile_now_of_an_unknown_block_is_refused(parts: Parts) -> None:
    with pytest.raises(BlockNotFoundError) as caught:
        await parts.learning.reconcile_now(BlockKey("team-a", "nobody"))
    assert caught.value.key == BlockKey("team-a", "nobody")
    assert parts.queue.is_idle


async def test_a_block_for_which_reconcile_now_failed_in_passing_is_learned_all_the_same(
    parts: Parts,
) -> None:
    await record_many(parts, ["b"])
    parts.embedder.errors["do b"] = EmbedderUnavailableError("no connection")
    with pytest.raises(EmbedderError, match="no connection"):
        await parts.learning.reconcile_now(key_of("b"))
    parts.embedder.errors.clear()
    # The call had taken the block out of the queue, and the round of the window may be over already.
    parts.learning._feed_wanted.clear()
    async with parts.running():
        await parts.learned("b")


async def test_a_success_of_reconcile_now_ends_the_count_of_failures(parts: Parts) -> None:
    parts.embedder.errors["do b"] = EmbedderUnavailableError("no connection")
    await record_many(parts, ["b"])
    with pytest.raises(EmbedderError):
        await parts.learning.reconcile_now(key_of("b"))
    parts.embedder.errors.clear()
    await parts.learning.reconcile_now(key_of("b"))
    assert parts.queue.num_requeues(key_of("b")) == 0


async def test_a_block_that_changes_while_it_is_learned_from_is_learned_from_again(parts: Parts) -> None:
    parts.embedder.held = {"do b"}
    async with parts.running():
        await record_many(parts, ["b"])
        await parts.embedder.waiting.wait()
        await parts.record(ran("b", "something newer", at_s=50))
        parts.embedder.release()
        await parts.learned("b")
    assert parts.answer("b") == "something newer"


async def test_learning_that_is_cancelled_has_lost_nothing(parts: Parts, clock: ManualClock) -> None:
    parts.embedder.held = {"do b"}
    async with parts.running():
        await record_many(parts, ["b"])
        await parts.embedder.waiting.wait()
    assert parts.pending("b") is not None
    restarted = Parts(parts.store, clock)
    async with restarted.running():
        await restarted.learned("b")
    assert restarted.answer("b") == "run b"


class FullAtFirst(Reconciler):
    """Finds the store full some times, then has room."""

    full_count = 3

    async def reconcile(self, keys: Sequence[BlockKey], lane: Lane = Lane.LIVE) -> Mapping[BlockKey, Result]:
        if self.full_count:
            self.full_count -= 1
            raise StoreFullError("no room")
        return await super().reconcile(keys, lane)


async def test_learning_waits_for_room_in_a_full_store_and_parks_nothing(parts: Parts) -> None:
    parts.learning._reconciler = FullAtFirst(
        store=parts.store, embedder=parts.embedder, identity=IDENTITY, policy=Policy.CORRECTIONS
    )
    async with parts.running():
        await record_many(parts, ["b"])
        await parts.learned("b")
    assert parts.answer("b") == "run b"
