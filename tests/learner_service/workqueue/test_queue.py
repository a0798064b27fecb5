import asyncio
import gc
import math
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from prometheus_client import CollectorRegistry

from learner_service.clock import Clock, MonotonicClock
from learner_service.workqueue.backoff import ExponentialBackoff
from learner_service.workqueue.lanes import LIVE_KEYS_IN_A_ROW_MAX, Lane
from learner_service.workqueue.metrics import QueueMetrics
from learner_service.workqueue.queue import NotProcessingError, QueueShutDownError, WorkQueue
from tests.learner_service.manual_clock import ManualClock

ShutDown = Callable[[WorkQueue[str]], Awaitable[None]]


async def shut_down_at_once(queue: WorkQueue[str]) -> None:
    queue.shut_down()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def queue(clock: ManualClock) -> AsyncIterator[WorkQueue[str]]:
    backoff = ExponentialBackoff[str](delay_s_min=1.0, delay_s_max=10.0)
    queue = WorkQueue(name="test", clock=clock, backoff=backoff, metrics=QueueMetrics(CollectorRegistry()))
    yield queue
    assert queue.broken_invariants() == []
    queue.shut_down()


async def turns(count: int = 5) -> None:
    """Lets every task that is ready run, and those that they wake."""
    for _ in range(count):
        await asyncio.sleep(0)


async def take_all(queue: WorkQueue[str]) -> list[str]:
    """Takes what is queued, one at a time, and finishes it."""
    keys = []
    while len(queue):
        keys.append(await queue.get())
        queue.done(keys[-1])
    return keys


# Producers and consumers


@pytest.mark.parametrize("shut_down", [shut_down_at_once, WorkQueue.shut_down_with_drain])
async def test_many_producers_and_consumers_handle_every_key_and_never_two_at_once(
    queue: WorkQueue[str], shut_down: ShutDown
) -> None:
    handled: Counter[str] = Counter()
    at_work: set[str] = set()

    async def produce(key: str) -> None:
        for _ in range(50):
            queue.add(key)
            await asyncio.sleep(0)

    async def consume() -> None:
        while True:
            try:
                key = await queue.get()
            except QueueShutDownError:
                return
            assert key not in at_work
            at_work.add(key)
            await turns(3)
            at_work.remove(key)
            handled[key] += 1
            queue.done(key)

    async with asyncio.TaskGroup() as consumers:
        for _ in range(10):
            consumers.create_task(consume())
        async with asyncio.TaskGroup() as producers:
            for number in range(50):
                producers.create_task(produce(str(number)))
        await shut_down(queue)
        queue.add("added after shutting down")
    assert set(handled) == {str(number) for number in range(50)}
    assert len(queue) == 0
    assert queue.is_idle


@pytest.mark.parametrize("shut_down", [shut_down_at_once, WorkQueue.shut_down_with_drain])
async def test_consumers_that_add_what_they_are_working_on_see_it_again(
    queue: WorkQueue[str], shut_down: ShutDown
) -> None:
    handled: Counter[str] = Counter()
    finished = asyncio.Event()

    async def consume() -> None:
        while True:
            try:
                key = await queue.get()
            except QueueShutDownError:
                return
            handled[key] += 1
            if handled[key] < 3:
                queue.add(key)
            await asyncio.sleep(0)
            queue.done(key)
            if handled.total() == 150:
                finished.set()

    async with asyncio.TaskGroup() as consumers:
        for _ in range(10):
            consumers.create_task(consume())
        for number in range(50):
            queue.add(str(number))
        await finished.wait()
        await shut_down(queue)
    assert set(handled.values()) == {3}
    assert len(queue) == 0


# Stingy, exclusive, fair


async def test_a_key_that_waits_is_queued_once(queue: WorkQueue[str]) -> None:
    queue.add("foo")
    assert len(queue) == 1
    queue.add("bar")
    assert len(queue) == 2
    queue.add("foo")
    assert len(queue) == 2


async def test_keys_leave_in_the_order_in_which_they_came(queue: WorkQueue[str]) -> None:
    for key in ["b", "a", "c", "a", "b", "d"]:
        queue.add(key)
    assert await take_all(queue) == ["b", "a", "c", "d"]


async def test_a_key_added_while_it_is_processed_is_handed_out_again(queue: WorkQueue[str]) -> None:
    queue.add("foo")
    key = await queue.get()
    queue.add(key)
    queue.add(key)
    assert len(queue) == 0
    queue.done(key)
    assert await take_all(queue) == ["foo"]
    assert queue.is_idle


async def test_a_key_added_while_it_is_processed_goes_to_the_end_when_done(queue: WorkQueue[str]) -> None:
    queue.add("foo")
    await queue.get()
    queue.add("foo")
    queue.add("bar")
    queue.done("foo")
    assert await take_all(queue) == ["bar", "foo"]


async def test_a_key_that_is_never_done_comes_no_more_and_stops_no_other(queue: WorkQueue[str]) -> None:
    queue.add("stuck")
    await queue.get()
    for _ in range(3):
        queue.add("stuck")
        queue.add("other")
        assert await take_all(queue) == ["other"]
    assert not queue.is_idle


async def test_done_without_processing_is_refused_and_changes_nothing(queue: WorkQueue[str]) -> None:
    queue.add("queued")
    for key in ["queued", "unknown"]:
        with pytest.raises(NotProcessingError) as caught:
            queue.done(key)
        assert caught.value.key == key
    assert await take_all(queue) == ["queued"]


async def test_it_is_idle_only_while_nothing_is_queued_or_processed(queue: WorkQueue[str]) -> None:
    states = [queue.is_idle]
    queue.add("foo")
    states.append(queue.is_idle)
    await queue.get()
    states.append(queue.is_idle)
    queue.done("foo")
    states.append(queue.is_idle)
    assert states == [True, False, False, True]


async def test_a_key_that_is_done_is_not_kept_alive(clock: ManualClock) -> None:
    class Key:
        pass

    queue = WorkQueue[Key](
        name="keys", clock=clock, backoff=ExponentialBackoff(), metrics=QueueMetrics(CollectorRegistry())
    )
    key = Key()
    alive = weakref.ref(key)
    queue.add_rate_limited(key)
    queue.add(key, Lane.BACKFILL)
    queue.add(key)
    queue.done(await queue.get())
    await clock.advance(100)
    async with queue.claim(key):
        queue.add(key)
    queue.done(await queue.get())
    queue.forget(key)
    del key
    gc.collect()
    assert alive() is None


# Batches


async def test_a_batch_is_what_is_there_up_to_its_limit_in_order(queue: WorkQueue[str]) -> None:
    for key in "abcde":
        queue.add(key)
    assert await queue.get_batch(3) == ["a", "b", "c"]
    assert await queue.get_batch(100) == ["d", "e"]
    for key in "abcde":
        queue.done(key)


async def test_a_batch_waits_for_the_first_key_and_for_no_other(queue: WorkQueue[str]) -> None:
    batch = asyncio.create_task(queue.get_batch(3))
    await turns()
    assert not batch.done()
    queue.add("a")
    assert await batch == ["a"]


async def test_a_batch_has_the_order_of_single_calls(queue: WorkQueue[str]) -> None:
    for number in range(30):
        queue.add(f"backfill {number}", Lane.BACKFILL)
        queue.add(f"live {number}")
    one_by_one = [await queue.get() for _ in range(60)]
    for key in one_by_one:
        queue.done(key)
    for number in range(30):
        queue.add(f"backfill {number}", Lane.BACKFILL)
        queue.add(f"live {number}")
    assert await queue.get_batch(25) + await queue.get_batch(35) == one_by_one


async def test_a_batch_of_nothing_is_refused(queue: WorkQueue[str]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        await queue.get_batch(0)


# Delays


async def test_a_delayed_key_comes_when_its_time_has_come_and_once(
    queue: WorkQueue[str], clock: ManualClock
) -> None:
    queue.add_after("foo", 50)
    await clock.advance(49.9)
    assert (len(queue), queue.delayed_count) == (0, 1)
    await clock.advance(0.1)
    assert (len(queue), queue.delayed_count) == (1, 0)
    assert await take_all(queue) == ["foo"]
    await clock.advance(10_000)
    assert len(queue) == 0


async def test_a_worker_that_waits_gets_a_delayed_key(queue: WorkQueue[str], clock: ManualClock) -> None:
    worker = asyncio.create_task(queue.get())
    queue.add_after("foo", 50)
    await clock.advance(50)
    assert await worker == "foo"


async def test_a_later_deadline_of_a_delayed_key_is_ignored(
    queue: WorkQueue[str], clock: ManualClock
) -> None:
    queue.add_after("foo", 50)
    queue.add_after("foo", 70)
    await clock.advance(60)
    assert await take_all(queue) == ["foo"]
    await clock.advance(20)
    assert len(queue) == 0


async def test_an_earlier_deadline_of_a_delayed_key_replaces_the_later(
    queue: WorkQueue[str], clock: ManualClock
) -> None:
    queue.add_after("foo", 50)
    await turns()
    queue.add_after("foo", 30)
    await clock.advance(40)
    assert await take_all(queue) == ["foo"]
    await clock.advance(20)
    assert len(queue) == 0


async def test_a_short_delay_overtakes_a_long_one(queue: WorkQueue[str], clock: ManualClock) -> None:
    queue.add_after("first", 1000)
    queue.add_after("second", 50)
    await clock.advance(60)
    assert await take_all(queue) == ["second"]
    queue.add_after("third", 2000)
    await clock.advance(1000)
    assert await take_all(queue) == ["first"]
    await clock.advance(2000)
    assert await take_all(queue) == ["third"]


async def test_keys_due_at_once_come_in_the_order_of_their_deadlines(
    queue: WorkQueue[str], clock: ManualClock
) -> None:
    for key, delay_s in [("third", 1000), ("second", 500), ("first", 250), ("also third", 1000)]:
        queue.add_after(key, delay_s)
    await clock.advance(2000)
    assert await take_all(queue) == ["first", "second", "third", "also third"]


@pytest.mark.parametrize("delay_s", [0.0, -1.0, -math.inf])
async def test_no_delay_is_now(queue: WorkQueue[str], delay_s: float) -> None:
    queue.add_after("foo", delay_s)
    assert (len(queue), queue.delayed_count) == (1, 0)


async def test_a_delay_that_is_no_number_is_refused(queue: WorkQueue[str]) -> None:
    with pytest.raises(ValueError, match="delay_s"):
        queue.add_after("foo", math.nan)
    assert queue.delayed_count == 0


async def test_a_delayed_key_that_comes_while_it_is_processed_waits_for_its_worker(
    queue: WorkQueue[str], clock: ManualClock
) -> None:
    queue.add("foo")
    await queue.get()
    queue.add_after("foo", 5)
    await clock.advance(5)
    assert len(queue) == 0
    queue.done("foo")
    assert await take_all(queue) == ["foo"]


async def test_adding_a_delayed_key_now_leaves_its_deadline_alone(
    queue: WorkQueue[str], clock: ManualClock
) -> None:
    queue.add_after("foo", 5)
    queue.add("foo")
    assert await take_all(queue) == ["foo"]
    await clock.advance(5)
    assert await take_all(queue) == ["foo"]


async def test_a_delayed_key_comes_in_the_better_of_its_lanes(
    queue: WorkQueue[str], clock: ManualClock
) -> None:
    queue.add("waits", Lane.BACKFILL)
    queue.add_after("foo", 5, Lane.BACKFILL)
    queue.add_after("foo", 9, Lane.LIVE)
    queue.add_after("bar", 5, Lane.LIVE)
    queue.add_after("bar", 4, Lane.BACKFILL)
    queue.add_after("baz", 5, Lane.BACKFILL)
    await clock.advance(5)
    assert await take_all(queue) == ["bar", "foo", "waits", "baz"]


async def test_deadlines_that_move_again_and_again_take_no_memory(
    queue: WorkQueue[str], clock: ManualClock
) -> None:
    for number in range(5000):
        queue.add_after("foo", 10_000 - number)
    await turns()
    assert len(queue._delayed._heap) < 100
    assert [task.get_name() for task in asyncio.all_tasks()].count("delayed keys") == 1
    await clock.advance(5001)
    assert await take_all(queue) == ["foo"]
    await clock.advance(10_000)
    assert len(queue) == 0


async def test_delayed_keys_survive_the_end_of_the_task_that_watches_them(
    queue: WorkQueue[str], clock: ManualClock
) -> None:
    queue.add_after("foo", 5)
    await turns()
    (timer,) = (task for task in asyncio.all_tasks() if task.get_name() == "delayed keys")
    timer.cancel()
    await asyncio.wait([timer])
    queue.add_after("bar", 9)
    await clock.advance(9)
    assert await take_all(queue) == ["foo", "bar"]


async def test_shutting_down_drops_delayed_keys(queue: WorkQueue[str], clock: ManualClock) -> None:
    queue.add_after("foo", 5)
    await turns()
    queue.shut_down()
    queue.add_after("bar", 5)
    assert queue.delayed_count == 0
    await clock.advance(10)
    assert len(queue) == 0


@pytest.mark.parametrize("make_clock", [MonotonicClock, ManualClock])
async def test_a_clock_wakes_a_sleeper_at_its_time_and_no_earlier(make_clock: Callable[[], Clock]) -> None:
    clock = make_clock()
    start_s = clock.now()
    await clock.sleep_until(start_s - 1)
    await clock.sleep_until(start_s)
    sleeper = asyncio.create_task(clock.sleep_until(start_s + 0.002))
    await asyncio.sleep(0)
    if isinstance(clock, ManualClock):
        await clock.advance(0.001)
        assert not sleeper.done()
        await clock.advance(0.001)
    await sleeper
    assert clock.now() >= start_s + 0.002


# Rate limits


async def test_a_key_that_fails_comes_back_after_longer_and_longer_waits(
    queue: WorkQueue[str], clock: ManualClock
) -> None:
    for count, wait_s in enumerate([1, 2, 4, 8, 10, 10], start=1):
        assert queue.add_rate_limited("foo") == wait_s
        assert queue.num_requeues("foo") == count
        await clock.advance(wait_s - 0.01)
        assert len(queue) == 0
        await clock.advance(0.01)
        assert await take_all(queue) == ["foo"]
    queue.forget("foo")
    assert queue.num_requeues("foo") == 0
    assert queue.add_rate_limited("foo") == 1


async def test_forgetting_a_key_does_not_take_it_from_where_it_waits(
    queue: WorkQueue[str], clock: ManualClock
) -> None:
    queue.add_rate_limited("foo")
    queue.add("bar")
    queue.forget("foo")
    queue.forget("bar")
    await clock.advance(1)
    assert await take_all(queue) == ["bar", "foo"]


async def test_a_failed_key_comes_back_in_the_lane_it_was_taken_from(
    queue: WorkQueue[str], clock: ManualClock
) -> None:
    for key, lane in [("backfill", Lane.BACKFILL), ("raised", Lane.BACKFILL), ("live", Lane.LIVE)]:
        queue.add(key, lane)
        await queue.get()
        queue.add_rate_limited(key, Lane.LIVE if key == "raised" else None)
        queue.done(key)
    await clock.advance(1)
    assert await take_all(queue) == ["raised", "live", "backfill"]


async def test_what_a_claim_could_not_do_comes_back_live(queue: WorkQueue[str], clock: ManualClock) -> None:
    queue.add("foo", Lane.BACKFILL)
    await queue.get()

    async def claim() -> None:
        async with queue.claim("foo"):
            queue.add_rate_limited("foo")

    claimer = asyncio.create_task(claim())
    await turns()
    queue.done("foo")
    await claimer
    queue.add("waits", Lane.BACKFILL)
    await clock.advance(1)
    assert await take_all(queue) == ["foo", "waits"]


# Lanes


async def test_live_keys_leave_before_backfill(queue: WorkQueue[str]) -> None:
    queue.add("old", Lane.BACKFILL)
    queue.add("older", Lane.BACKFILL)
    queue.add("new")
    assert await take_all(queue) == ["new", "old", "older"]


async def test_backfill_is_not_starved_by_live_keys(queue: WorkQueue[str]) -> None:
    for number in range(3):
        queue.add(f"backfill {number}", Lane.BACKFILL)
    lanes = ""
    for number in range(3 * LIVE_KEYS_IN_A_ROW_MAX + 10):
        # A live key always waits.
        queue.add(f"live {number}")
        queue.add(f"live {number} too")
        key = await queue.get()
        lanes += key[0]
        queue.done(key)
    ten = "l" * LIVE_KEYS_IN_A_ROW_MAX + "b"
    assert lanes == ten + ten + ten + "l" * 7


async def test_live_keys_before_there_was_backfill_do_not_count_against_them(queue: WorkQueue[str]) -> None:
    for number in range(2 * LIVE_KEYS_IN_A_ROW_MAX):
        queue.add(str(number))
    await take_all(queue)
    queue.add("backfill", Lane.BACKFILL)
    queue.add("live")
    assert await take_all(queue) == ["live", "backfill"]


async def test_a_backfill_key_that_is_added_live_moves_to_the_end_of_the_live_lane(
    queue: WorkQueue[str],
) -> None:
    queue.add("a", Lane.BACKFILL)
    queue.add("b", Lane.BACKFILL)
    queue.add("c")
    queue.add("b")
    assert len(queue) == 3
    assert await take_all(queue) == ["c", "b", "a"]


async def test_a_live_key_that_is_added_as_backfill_keeps_its_place(queue: WorkQueue[str]) -> None:
    queue.add("a")
    queue.add("b")
    queue.add("a", Lane.BACKFILL)
    assert await take_all(queue) == ["a", "b"]


async def test_a_key_added_in_both_lanes_while_it_is_processed_comes_back_live(queue: WorkQueue[str]) -> None:
    queue.add("foo", Lane.BACKFILL)
    await queue.get()
    queue.add("foo", Lane.BACKFILL)
    queue.add("foo", Lane.LIVE)
    queue.add("foo", Lane.BACKFILL)
    queue.add("waits", Lane.BACKFILL)
    queue.done("foo")
    assert await take_all(queue) == ["foo", "waits"]


# Shutting down


async def test_shutting_down_hands_out_what_is_queued_and_then_ends_the_workers(
    queue: WorkQueue[str],
) -> None:
    queue.add("foo")
    queue.shut_down()
    queue.add("late")
    assert queue.shutting_down
    assert await queue.get() == "foo"
    with pytest.raises(QueueShutDownError):
        await queue.get()
    with pytest.raises(QueueShutDownError):
        await queue.get_batch(5)
    queue.done("foo")


async def test_shutting_down_ends_the_workers_that_wait(queue: WorkQueue[str]) -> None:
    workers = [asyncio.create_task(queue.get()) for _ in range(3)]
    await turns()
    queue.shut_down()
    results = await asyncio.gather(*workers, return_exceptions=True)
    assert [type(result) for result in results] == [QueueShutDownError] * 3


async def test_a_drain_waits_for_what_is_being_processed(queue: WorkQueue[str]) -> None:
    queue.add("foo")
    queue.add("bar")
    await queue.get_batch(2)
    drain = asyncio.create_task(queue.shut_down_with_drain())
    await turns()
    with pytest.raises(QueueShutDownError):
        await queue.get()
    queue.done("foo")
    await turns()
    assert not drain.done()
    queue.done("bar")
    await drain


async def test_a_drain_waits_for_what_is_queued_even_if_nobody_works(queue: WorkQueue[str]) -> None:
    queue.add("foo")
    drain = asyncio.create_task(queue.shut_down_with_drain())
    await turns()
    assert not drain.done()
    assert await queue.get() == "foo"
    await turns()
    assert not drain.done()
    queue.done("foo")
    await drain


async def test_a_drain_of_an_idle_queue_ends_at_once(queue: WorkQueue[str], clock: ManualClock) -> None:
    queue.add_after("foo", 5)
    await queue.shut_down_with_drain()
    await clock.advance(5)
    assert queue.is_idle


async def test_shutting_down_waits_for_nobody(queue: WorkQueue[str]) -> None:
    queue.add("foo")
    await queue.get()
    queue.shut_down()
    assert not queue.is_idle


async def test_shutting_down_ends_a_drain(queue: WorkQueue[str]) -> None:
    queue.add("foo")
    queue.add("bar")
    await queue.get()
    drain = asyncio.create_task(queue.shut_down_with_drain())
    await turns()
    assert not drain.done()
    queue.shut_down()
    await drain
    assert len(queue) == 1


async def test_shutting_down_ends_the_workers_that_wait_in_a_drain(queue: WorkQueue[str]) -> None:
    queue.add("foo")
    await queue.get()
    queue.add("foo")
    drain = asyncio.create_task(queue.shut_down_with_drain())
    worker = asyncio.create_task(queue.get())
    await turns()
    assert not worker.done()
    queue.shut_down()
    with pytest.raises(QueueShutDownError):
        await worker
    await drain


async def test_a_drain_can_follow_a_shut_down(queue: WorkQueue[str]) -> None:
    queue.add("foo")
    await queue.get()
    queue.shut_down()
    drain = asyncio.create_task(queue.shut_down_with_drain())
    await turns()
    assert not drain.done()
    queue.done("foo")
    await drain


async def test_a_drain_waits_for_a_key_that_was_added_while_it_was_processed(queue: WorkQueue[str]) -> None:
    queue.add("foo")
    await queue.get()
    queue.add("foo")
    drain = asyncio.create_task(queue.shut_down_with_drain())
    second_worker, third_worker = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await turns()
    # Ignored: the queue is shutting down.
    queue.add("foo")
    queue.done("foo")
    assert await second_worker == "foo"
    # Nothing can come any more, whatever the second worker does.
    with pytest.raises(QueueShutDownError):
        await third_worker
    assert not drain.done()
    queue.done("foo")
    await drain
    assert queue.is_idle


async def test_during_a_drain_a_worker_is_there_for_what_a_claim_leaves(queue: WorkQueue[str]) -> None:
    async with queue.claim("foo"):
        queue.add("foo")
        drain = asyncio.create_task(queue.shut_down_with_drain())
        worker = asyncio.create_task(queue.get())
        await turns()
        assert not worker.done()
    assert await worker == "foo"
    assert not drain.done()
    queue.done("foo")
    await drain


async def test_during_a_drain_a_claim_that_does_the_last_work_ends_the_workers(queue: WorkQueue[str]) -> None:
    queue.add("foo")
    await queue.get()
    queue.add("foo")
    claimed = asyncio.Event()
    finish = asyncio.Event()

    async def claim() -> None:
        async with queue.claim("foo"):
            claimed.set()
            await finish.wait()

    claimer = asyncio.create_task(claim())
    drain = asyncio.create_task(queue.shut_down_with_drain())
    worker = asyncio.create_task(queue.get())
    await turns()
    assert not worker.done()
    queue.done("foo")
    await claimed.wait()
    with pytest.raises(QueueShutDownError):
        await worker
    assert not drain.done()
    finish.set()
    await drain
    await claimer


async def test_a_drain_that_is_no_longer_waited_for_goes_on(queue: WorkQueue[str]) -> None:
    queue.add("foo")
    drain = asyncio.create_task(queue.shut_down_with_drain())
    await turns()
    drain.cancel()
    await asyncio.wait([drain])
    assert drain.cancelled()
    queue.add("late")
    assert await take_all(queue) == ["foo"]
    assert queue.is_idle


# Cancelled workers


async def test_a_worker_cancelled_while_it_waits_takes_nothing(queue: WorkQueue[str]) -> None:
    worker = asyncio.create_task(queue.get())
    await turns()
    worker.cancel()
    await asyncio.wait([worker])
    assert len(queue._getters) == 0
    queue.add("foo")
    assert await take_all(queue) == ["foo"]


@pytest.mark.parametrize("cancel_first", [False, True])
async def test_a_worker_cancelled_at_the_moment_of_hand_over_leaves_the_key_to_the_next(
    queue: WorkQueue[str], *, cancel_first: bool
) -> None:
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await turns()
    if cancel_first:
        first.cancel()
        queue.add("foo")
    else:
        queue.add("foo")
        first.cancel()
    assert queue.broken_invariants() == []
    assert await second == "foo"
    assert first.cancelled()


async def test_a_worker_cancelled_at_the_moment_of_hand_over_leaves_the_key_queued(
    queue: WorkQueue[str],
) -> None:
    worker = asyncio.create_task(queue.get())
    await turns()
    queue.add("foo")
    worker.cancel()
    await asyncio.wait([worker])
    assert worker.cancelled()
    assert await take_all(queue) == ["foo"]


async def test_a_key_survives_any_number_of_workers_cancelled_at_its_hand_over(queue: WorkQueue[str]) -> None:
    workers = [asyncio.create_task(queue.get_batch(9)) for _ in range(100)]
    await turns()
    queue.add("foo")
    for worker in workers[:99]:
        # Called by now, and not yet run.
        worker.cancel()
        await asyncio.sleep(0)
        assert queue.broken_invariants() == []
    assert await workers[99] == ["foo"]
    assert all(worker.cancelled() for worker in workers[:99])


async def test_a_worker_that_finds_its_key_taken_waits_on(queue: WorkQueue[str]) -> None:
    sleeper = asyncio.create_task(queue.get())
    await turns()
    queue.add("foo")
    # The sleeper has been called, but this task runs first.
    assert await queue.get() == "foo"
    await turns()
    assert not sleeper.done()
    queue.add("bar")
    assert await sleeper == "bar"


# Claims


async def test_a_claim_takes_a_queued_key_out_of_the_line(queue: WorkQueue[str]) -> None:
    queue.add("foo")
    queue.add("bar")
    async with queue.claim("foo"):
        assert len(queue) == 1
        assert await take_all(queue) == ["bar"]
        assert not queue.is_idle
    assert queue.is_idle


async def test_a_key_added_during_its_claim_is_queued_when_the_claim_ends(queue: WorkQueue[str]) -> None:
    async with queue.claim("foo"):
        queue.add("foo", Lane.BACKFILL)
        assert len(queue) == 0
    assert await take_all(queue) == ["foo"]


async def test_a_claim_waits_until_the_worker_is_done_and_does_what_was_added_meanwhile(
    queue: WorkQueue[str],
) -> None:
    queue.add("foo")
    await queue.get()
    entered = asyncio.Event()
    leave = asyncio.Event()

    async def claim() -> None:
        async with queue.claim("foo"):
            entered.set()
            await leave.wait()

    claimer = asyncio.create_task(claim())
    await turns()
    queue.add("foo")
    assert not entered.is_set()
    queue.done("foo")
    # Between done and the claim's first step the key is with the claim, and what is added is its work.
    queue.add("foo")
    assert len(queue) == 0
    await entered.wait()
    leave.set()
    await claimer
    assert queue.is_idle


async def test_claims_of_one_key_are_served_in_order_and_before_any_worker(queue: WorkQueue[str]) -> None:
    served = []

    async def claim(number: int) -> None:
        async with queue.claim("foo"):
            served.append(f"claim {number}")
            # Somebody always wants more work done.
            queue.add("foo")
            await turns()

    async def work() -> None:
        served.append(f"worker got {await queue.get()}")
        queue.done("foo")

    queue.add("foo")
    await queue.get()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(work())
        for number in range(3):
            tasks.create_task(claim(number))
        await turns()
        queue.done("foo")
    assert served == ["claim 0", "claim 1", "claim 2", "worker got foo"]


async def test_claims_of_other_keys_do_not_wait(queue: WorkQueue[str]) -> None:
    async with queue.claim("foo"), queue.claim("bar"):
        assert not queue.is_idle
    assert queue.is_idle


async def test_a_claim_cancelled_while_it_waits_leaves_everything_as_it_was(queue: WorkQueue[str]) -> None:
    queue.add("foo")
    await queue.get()
    claimer = asyncio.create_task(enter_claim(queue, "foo"))
    await turns()
    queue.add("foo")
    claimer.cancel()
    await asyncio.wait([claimer])
    assert len(queue) == 0
    queue.done("foo")
    assert await take_all(queue) == ["foo"]


@pytest.mark.parametrize("added", [False, True])
async def test_a_claim_cancelled_at_the_moment_of_hand_over_passes_the_key_on(
    queue: WorkQueue[str], *, added: bool
) -> None:
    queue.add("foo")
    await queue.get()
    first = asyncio.create_task(enter_claim(queue, "foo"))
    second = asyncio.create_task(enter_claim(queue, "foo"))
    await turns()
    if added:
        queue.add("foo")
    queue.done("foo")
    first.cancel()
    await asyncio.wait([first, second])
    assert first.cancelled()
    assert second.result() == "entered"
    assert queue.is_idle


@pytest.mark.parametrize("added", [False, True])
async def test_a_claim_cancelled_at_the_moment_of_hand_over_returns_the_key_to_the_line(
    queue: WorkQueue[str], *, added: bool
) -> None:
    queue.add("foo")
    await queue.get()
    claimer = asyncio.create_task(enter_claim(queue, "foo"))
    await turns()
    queue.done("foo")
    if added:
        queue.add("foo")
    assert not queue.is_idle
    claimer.cancel()
    await asyncio.wait([claimer])
    assert claimer.cancelled()
    assert await take_all(queue) == (["foo"] if added else [])
    assert queue.is_idle


async def test_a_claim_that_was_cancelled_but_has_not_left_yet_is_not_handed_the_key(
    queue: WorkQueue[str],
) -> None:
    queue.add("foo")
    await queue.get()
    claimer = asyncio.create_task(enter_claim(queue, "foo"))
    await turns()
    claimer.cancel()
    queue.done("foo")
    assert queue.is_idle
    assert queue.broken_invariants() == []
    async with queue.claim("foo"):
        await turns()
        assert claimer.cancelled()
        assert not queue.is_idle


async def test_a_claim_that_fails_is_over(queue: WorkQueue[str]) -> None:
    queue.add("foo")
    with pytest.raises(ZeroDivisionError):
        async with queue.claim("foo"):
            raise ZeroDivisionError
    assert queue.is_idle


async def test_a_claim_cancelled_at_work_is_over(queue: WorkQueue[str]) -> None:
    async def claim_for_ever() -> None:
        async with queue.claim("foo"):
            queue.add("foo")
            await asyncio.Event().wait()

    claimer = asyncio.create_task(claim_for_ever())
    await turns()
    assert len(queue) == 0
    claimer.cancel()
    await asyncio.wait([claimer])
    assert await take_all(queue) == ["foo"]


async def test_a_key_may_be_claimed_while_the_queue_shuts_down(queue: WorkQueue[str]) -> None:
    queue.add("foo")
    drain = asyncio.create_task(queue.shut_down_with_drain())
    await turns()
    async with queue.claim("foo"):
        await turns()
        assert not drain.done()
    await drain


async def enter_claim(queue: WorkQueue[str], key: str) -> str:
    async with queue.claim(key):
        return "entered"
