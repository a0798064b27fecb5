"""Backfills as clients see them: a real store, real learning, and an embedder that does what a test says."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from errata.embedding import EmbedderRejectedError, EmbedderUnavailableError
from errata.serving.fields import InvalidFieldError, TooLargeError
from errata.v1.learner_pb2 import BackfillRequest, BackfillResponse, GetBackfillRequest
from learner_service.backfill.calls import RUNNING_MAX, BackfillNotFoundError, TooManyBackfillsError
from learner_service.backfill.feed import PART_KEYS
from learner_service.forgetting import forget
from learner_service.learner_metrics import ReconcileMetrics
from learner_service.maintenance import BACKFILLS_KEPT_MAX, BACKFILLS_KEPT_S, DeletionLimits, Maintenance
from learner_service.service import BACKFILL_NAMESPACES_MAX
from learner_service.store.store import Store
from learner_service.store.write_transaction import WriteTransaction
from tests.block_events import ran
from tests.learner_service.backfilling import Filled, numbered, remove_all_pending, run, until
from tests.learner_service.conftest import GIB, ManualClock
from tests.learner_service.learning_parts import key_of, park
from tests.learner_service.serving import call


def forgetting(block_id: str) -> Callable[[WriteTransaction], int | None]:
    return lambda transaction: forget(transaction, key_of(block_id))


@pytest.fixture
def filled(store: Store, clock: ManualClock) -> Filled:
    return Filled(store, clock)


async def test_a_backfill_learns_again_from_every_block_and_counts_what_changed(filled: Filled) -> None:
    await filled.fill(numbered(100))
    for each in numbered(30):
        await filled.parts.settle(each)
    async with filled.running():
        begun = await filled.begin("all")
        assert (begun.backfill_id, begun.matched_block_count) == ("all", 100)
        await filled.ended("all")
    assert filled.learned() == set(numbered(100))
    assert await filled.counts("all") == (100, 100, 70, 0)
    progress = await filled.progress("all")
    assert progress.start_time.ToMicroseconds() < progress.end_time.ToMicroseconds()


async def test_nothing_is_queued_or_touched_that_does_not_match(filled: Filled) -> None:
    await filled.fill(numbered(20, "old"))
    start_us = filled.parts.modified_us("old15")
    async with filled.running():
        begun = await filled.begin("late", start_us=start_us)
        assert begun.matched_block_count == 5
        await filled.ended("late")
    # The block that changed at the start time itself is the first.
    assert filled.learned() == {f"old{number}" for number in range(15, 20)}
    assert sorted(filled.parts.embedder.attempts) == [f"do old{number}" for number in range(15, 20)]


async def test_only_blocks_of_the_namespaces_are_learned_from(filled: Filled) -> None:
    for namespace in ("", "team-a", "team-b"):
        await filled.fill(numbered(10), namespace)
    async with filled.running():
        begun = await filled.begin("some", namespaces=["team-b", "", "team-b"])
        assert begun.matched_block_count == 20
        await filled.ended("some")
    assert (len(filled.learned()), len(filled.learned("team-a")), len(filled.learned("team-b"))) == (
        10,
        0,
        10,
    )
    assert await filled.counts("some") == (20, 20, 20, 0)


async def test_a_dry_run_counts_and_does_nothing_else(filled: Filled) -> None:
    await filled.fill(numbered(20))
    start_us = filled.parts.modified_us("b5")
    with filled.parts.store.read() as transaction:
        before = {name: list(table.scan()) for name, table in transaction._tables.items()}
    async with filled.running():
        response = await filled.begin("dry", start_us=start_us, dry_run=True)
        assert (response.backfill_id, response.matched_block_count) == ("", 15)
        assert (await filled.begin(start_us=start_us, dry_run=True)).matched_block_count == 15
    with filled.parts.store.read() as transaction:
        assert {name: list(table.scan()) for name, table in transaction._tables.items()} == before
    with pytest.raises(BackfillNotFoundError):
        await filled.progress("dry")


async def test_the_same_request_again_is_the_same_backfill_also_after_its_end(filled: Filled) -> None:
    await filled.fill(numbered(10))
    async with filled.running():
        first = await filled.begin("again", start_us=5, namespaces=["", "team-a"])
        await filled.ended("again")
        head = filled.parts.head
        await filled.fill(["later"])
        assert await filled.begin("again", start_us=5, namespaces=["team-a", "", ""]) == first
        await filled.ended("again")
    assert filled.parts.head == head
    assert await filled.counts("again") == (10, 10, 10, 0)


async def test_the_same_id_with_another_request_is_refused(filled: Filled) -> None:
    await filled.begin("taken", start_us=5, namespaces=["team-a"])
    others: list[Callable[[], Awaitable[BackfillResponse]]] = [
        lambda: filled.begin("taken", start_us=6, namespaces=["team-a"]),
        lambda: filled.begin("taken", namespaces=["team-a"]),
        lambda: filled.begin("taken", start_us=5),
        lambda: filled.begin("taken", start_us=5, namespaces=["team-b"]),
        lambda: filled.begin("taken", start_us=5, namespaces=["team-a"], dry_run=True),
    ]
    for other in others:
        with pytest.raises(InvalidFieldError) as caught:
            await other()
        assert caught.value.field == "backfill_id"


async def test_without_an_id_each_backfill_gets_one_of_its_own(filled: Filled) -> None:
    await filled.fill(["b"])
    ids = [(await filled.begin()).backfill_id for _ in range(3)]
    assert len(set(ids)) == 3
    async with filled.running():
        await filled.ended(*ids)
    for each in ids:
        assert await filled.counts(each) == (1, 1, 1, 0)


async def test_fields_that_break_a_rule_are_named(filled: Filled) -> None:
    servicer = filled.serving.servicer
    malformed = BackfillRequest()
    malformed.start_time.nanos = -1
    for request, field in [
        (malformed, "start_time"),
        (BackfillRequest(namespaces=["ok", "Not ok"]), "namespaces[1]"),
        (BackfillRequest(backfill_id="Not ok"), "backfill_id"),
        (BackfillRequest(backfill_id="x" * 64), "backfill_id"),
    ]:
        with pytest.raises(InvalidFieldError) as caught:
            await servicer.backfill(request, call())
        assert caught.value.field == field
    with pytest.raises(TooLargeError) as too_large:
        await servicer.backfill(
            BackfillRequest(namespaces=[f"n{number}" for number in range(BACKFILL_NAMESPACES_MAX + 1)]),
            call(),
        )
    assert (too_large.value.field, too_large.value.limit) == ("namespaces", BACKFILL_NAMESPACES_MAX)
    with pytest.raises(InvalidFieldError) as caught:
        await servicer.get_backfill(GetBackfillRequest(), call())
    assert caught.value.field == "backfill_id"
    with pytest.raises(BackfillNotFoundError) as unknown:
        await servicer.get_backfill(GetBackfillRequest(backfill_id="unknown"), call())
    assert unknown.value.backfill_id == "unknown"


async def test_more_backfills_at_once_than_the_bound_are_refused_and_known_ones_are_not(
    filled: Filled,
) -> None:
    await filled.fill(["b"])
    for number in range(RUNNING_MAX):
        await filled.begin(f"f{number}")
    with pytest.raises(TooManyBackfillsError):
        await filled.begin("one-more")
    assert (await filled.begin("f0")).matched_block_count == 1


# --- Several at once, and other work beside them


async def test_two_overlapping_backfills_count_each_block_once_each_and_learn_from_it_once(
    filled: Filled,
) -> None:
    await filled.fill(numbered(200))
    await filled.fill(numbered(50, "t"), "team-a")
    start_us = filled.parts.modified_us("b120")
    async with filled.running():
        await filled.begin("all")
        await filled.begin("late", start_us=start_us, namespaces=[""])
        await filled.ended("all", "late")
    assert await filled.counts("all") == (250, 250, 250, 0)
    assert await filled.counts("late") == (80, 80, 80, 0)
    assert len(filled.parts.embedder.attempts) == 250


async def test_a_backfill_that_begins_while_another_runs_counts_what_is_done_from_then_on(
    filled: Filled,
) -> None:
    await filled.fill(numbered(100))
    filled.parts.embedder.held = {f"do b{number}" for number in range(60, 100)}
    async with filled.running():
        await filled.begin("first")
        await filled.parts.embedder.waiting.wait()
        learned_count = len(filled.learned())
        assert 0 < learned_count < 100
        await filled.begin("second")
        filled.parts.embedder.release()
        await filled.ended("first", "second")
    assert await filled.counts("first") == (100, 100, 100, 0)
    matched, done, changed, _ = await filled.counts("second")
    assert (matched, done) == (100, 100)
    # What was in flight when it began counts or not, depending on which came first; nothing else is open.
    assert 100 - learned_count - PART_KEYS <= changed <= 100 - learned_count


async def test_reconcile_of_a_block_counts_for_the_backfill_that_has_not_come_to_it(filled: Filled) -> None:
    await filled.fill(numbered(10))
    await filled.begin("all")
    await filled.parts.learning.reconcile_now(key_of("b7"))
    await filled.parts.learning.reconcile_now(key_of("b7"))
    assert await filled.counts("all") == (10, 1, 1, 0)
    async with filled.running():
        await filled.ended("all")
    assert await filled.counts("all") == (10, 10, 10, 0)
    assert filled.parts.embedder.attempts.count("do b7") == 1


async def test_a_block_that_changes_meanwhile_is_live_work_and_counts_as_done(filled: Filled) -> None:
    await filled.fill(numbered(10))
    await filled.begin("all")
    await filled.parts.record(run("b3", at_s=50), run("new"))
    assert await filled.counts("all") == (10, 1, 0, 0)
    async with filled.running():
        await filled.ended("all")
        await filled.parts.learned("b3", "new")
    # The example of the one that changed was made by live work.
    assert await filled.counts("all") == (10, 10, 9, 0)
    assert filled.learned() == {*numbered(10), "new"}


async def test_a_block_that_changes_while_it_is_embedded_is_done_once(filled: Filled) -> None:
    await filled.fill(["b"])
    filled.parts.embedder.held = {"do b"}
    async with filled.running():
        await filled.begin("all")
        await filled.parts.embedder.waiting.wait()
        await filled.parts.record(ran("b", "something newer", asked="do b", at_s=50))
        filled.parts.embedder.release()
        await filled.ended("all")
        await filled.parts.learned("b")
    assert await filled.counts("all") == (1, 1, 0, 0)
    assert filled.parts.answer("b") == "something newer"


async def test_blocks_that_are_forgotten_match_are_done_and_change_nothing(filled: Filled) -> None:
    await filled.fill(numbered(5))
    await filled.parts.store.write(forgetting("b1"))
    await filled.begin("all")
    await filled.parts.store.write(forgetting("b2"))
    await filled.parts.store.write(forgetting("never heard of"))
    assert await filled.counts("all") == (5, 1, 0, 0)
    async with filled.running():
        await filled.ended("all")
    assert await filled.counts("all") == (5, 5, 3, 0)
    assert filled.learned() == {"b0", "b3", "b4"}


async def test_live_work_overtakes_a_backfill_and_waits_for_nothing_that_it_embeds(filled: Filled) -> None:
    await filled.fill(numbered(500))
    filled.parts.embedder.held = {f"do {each}" for each in numbered(500)}
    feeding = asyncio.create_task(filled.feed.run())
    await filled.begin("all")
    await until(partial(filled.has_queued, PART_KEYS))
    await filled.parts.record(run("live"))
    async with filled.parts.running():
        await filled.parts.learned("live")
        assert filled.parts.embedder.embedded == ["do live"]
        await filled.parts.embedder.waiting.wait()
        await filled.parts.record(run("later"))
        await filled.parts.learned("later")
        assert filled.parts.embedder.embedded == ["do live", "do later"]
        # The rest of the backfill waits in the store.
        assert len(filled.parts.queue) == 0
        filled.parts.embedder.release()
        await filled.ended("all")
    feeding.cancel()
    await asyncio.gather(feeding, return_exceptions=True)


async def test_what_was_embedded_before_another_failed_is_not_embedded_again(filled: Filled) -> None:
    await filled.fill(numbered(5))
    filled.parts.embedder.errors["do b4"] = EmbedderUnavailableError("no connection")
    async with filled.running():
        await filled.begin("all")
        await until(partial(filled.has_done, "all", 4))
        filled.parts.embedder.errors.clear()
        await filled.ended("all")
    assert sorted(filled.parts.embedder.embedded) == [f"do b{number}" for number in range(5)]


# --- Failures


async def test_parked_blocks_come_back_and_those_that_fail_again_are_counted(filled: Filled) -> None:
    await filled.fill(numbered(5))
    for each in ("b1", "b2"):
        await filled.parts.store.write(park(each))
    filled.parts.embedder.errors["do b2"] = EmbedderRejectedError("too long")
    async with filled.running():
        await filled.begin("all")
        await filled.ended("all")
    assert await filled.counts("all") == (5, 5, 4, 1)
    assert filled.parts.pending("b1") is None
    parked = filled.parts.pending("b2")
    assert parked is not None
    assert (parked.parked, parked.last_error) == (True, "too long")


async def test_a_block_that_breaks_its_batch_is_parked_and_counted_as_failed(filled: Filled) -> None:
    await filled.fill(numbered(20))
    filled.parts.embedder.errors["do b7"] = RuntimeError("a bug")
    with capture_logs():
        async with filled.running():
            await filled.begin("all")
            await filled.ended("all")
    assert await filled.counts("all") == (20, 20, 19, 1)
    parked = filled.parts.pending("b7")
    assert parked is not None
    assert parked.parked
    assert "a bug" in parked.last_error


async def test_a_block_that_fails_in_passing_holds_up_no_other_and_is_not_given_up(filled: Filled) -> None:
    await filled.fill(numbered(200))
    stuck = [f"b{number}" for number in range(PART_KEYS + 5)]
    for each in stuck:
        filled.parts.embedder.errors[f"do {each}"] = EmbedderUnavailableError("no connection")
    async with filled.running():
        await filled.begin("all")
        await until(lambda: filled.has_done("all", 200 - len(stuck)))
        assert not await filled.has_ended("all")
        filled.parts.embedder.errors.clear()
        await filled.ended("all")
    assert await filled.counts("all") == (200, 200, 200, 0)


async def test_a_parked_block_that_fails_in_passing_waits_for_its_turn_again(filled: Filled) -> None:
    await filled.fill(["b"])
    await filled.parts.store.write(park("b"))
    filled.parts.embedder.errors["do b"] = EmbedderUnavailableError("no connection")
    async with filled.running():
        await filled.begin("all")
        await filled.parts.embedder.asked("do b", times=3)
        waiting = filled.parts.pending("b")
        assert waiting is not None
        assert (waiting.parked, waiting.last_error) == (False, "no connection")
        assert waiting.enqueued_time.ToMicroseconds() == filled.parts.clock.now_us
        filled.parts.embedder.errors.clear()
        await filled.ended("all")
    assert await filled.counts("all") == (1, 1, 1, 0)


async def test_a_block_that_got_lost_on_its_way_is_handed_out_again(filled: Filled) -> None:
    await filled.fill(numbered(3))
    # Nobody takes what is handed out here.
    lost = asyncio.create_task(filled.feed.run())
    await filled.begin("all")
    await until(partial(filled.has_queued, 3))
    async with filled.parts.queue.claim(key_of("b1")):
        pass
    async with filled.parts.running():
        await filled.ended("all")
    lost.cancel()
    await asyncio.gather(lost, return_exceptions=True)
    assert await filled.counts("all") == (3, 3, 3, 0)


# --- Restarts and time


@pytest.mark.parametrize("done_count", [0, 10, 40, 64])
async def test_a_restart_resumes_where_it_was_and_the_counts_stay_exact(
    store_dir: Path, clock: ManualClock, done_count: int
) -> None:
    held = {f"do b{number}" for number in range(done_count, 100)}
    with Store.open(store_dir, clock_us=clock, bytes_max=GIB) as store:
        first = Filled(store, clock)
        await first.fill(numbered(100))
        first.parts.embedder.held = held
        async with first.running():
            await first.begin("all")
            await first.parts.embedder.waiting.wait()
    with Store.open(store_dir, clock_us=clock, bytes_max=GIB) as store:
        second = Filled(store, clock)
        _, done, changed, _ = await second.counts("all")
        assert done == changed == len(second.learned()) <= done_count
        async with second.running():
            await second.ended("all")
        assert await second.counts("all") == (100, 100, 100, 0)
        # What was done is not done again.
        assert len(second.parts.embedder.attempts) == 100 - done


async def test_blocks_that_were_not_counted_before_a_crash_are_counted_after_it(
    filled: Filled, store: Store, clock: ManualClock
) -> None:
    await filled.fill(numbered(10))
    # The first of the two transactions of a Backfill.
    await store.write(lambda transaction: transaction.backfills.begin("all", BackfillRequest()))
    await filled.parts.learning.reconcile_now(key_of("b4"))
    await filled.parts.record(run("b5", at_s=50))
    restarted = Filled(store, clock)
    assert await restarted.counts("all") == (10, 2, 1, 0)
    async with restarted.running():
        await restarted.ended("all")
    assert await restarted.counts("all") == (10, 10, 9, 0)


async def test_a_clock_that_goes_back_never_makes_a_backfill_miss_a_block(
    filled: Filled, clock: ManualClock
) -> None:
    begin_us = clock.now_us
    await filled.fill(["before"])
    clock.now_us -= 3_600_000_000
    back_us = clock.now_us
    await filled.fill(["after-1", "after-2"])
    async with filled.running():
        for name, start_us in (("long-ago", back_us), ("now", back_us + 1), ("then", begin_us)):
            matched = (await filled.begin(name, start_us=start_us)).matched_block_count
            # What changed before the clock went back may come along; what changed since, must.
            assert matched == 3
            await filled.ended(name)
        await filled.fill(["last"])
        await filled.begin("all")
        await filled.ended("all")
    assert filled.learned() == {"before", "after-1", "after-2", "last"}


async def test_backfills_that_have_ended_are_kept_thirty_days_and_running_ones_for_ever(
    filled: Filled, clock: ManualClock
) -> None:
    await filled.fill(["b"])
    async with filled.running():
        await filled.begin("ended")
        await filled.ended("ended")
    await filled.begin("runs")
    limits = DeletionLimits(age_s_max=1, count_min=0, count_max=0)
    maintenance = Maintenance(filled.parts.store, wall_us=clock, limits=limits)
    for days, known in ((29, ["ended", "runs"]), (2, ["runs"])):
        clock.now_us += days * 24 * 3_600_000_000
        await maintenance.make_pass()
        with filled.parts.store.read() as transaction:
            assert [backfill_id for backfill_id, _ in transaction.backfills.all()] == known
    assert BACKFILLS_KEPT_S == 30 * 24 * 3_600
    with pytest.raises(BackfillNotFoundError):
        await filled.progress("ended")
    # Its name is free again.
    assert (await filled.begin("ended")).matched_block_count == 1


async def test_of_too_many_backfills_those_that_ended_first_are_dropped(
    filled: Filled, clock: ManualClock
) -> None:
    def begin_many(transaction: WriteTransaction) -> None:
        for number in range(BACKFILLS_KEPT_MAX + 5):
            transaction.backfills.begin(f"f{number}", BackfillRequest())

    await filled.parts.store.write(begin_many)
    limits = DeletionLimits(age_s_max=1, count_min=0, count_max=0)
    await Maintenance(filled.parts.store, wall_us=clock, limits=limits).make_pass()
    with filled.parts.store.read() as transaction:
        known = {backfill_id for backfill_id, _ in transaction.backfills.all()}
    assert known == {f"f{number}" for number in range(5, BACKFILLS_KEPT_MAX + 5)}


# --- Metrics


async def test_results_are_counted_by_outcome_and_reason(filled: Filled) -> None:
    registry = CollectorRegistry()
    filled.parts.learning.listen(ReconcileMetrics(registry))
    await filled.fill(["a", "b"])
    await filled.record(ran("no-question", "ls"))
    await filled.parts.store.write(remove_all_pending)
    filled.parts.embedder.errors["do b"] = EmbedderRejectedError("too long")
    async with filled.running():
        for backfill_id in ("one", "two"):
            await filled.begin(backfill_id)
            await filled.ended(backfill_id)

    def total(outcome: str, reason: str) -> float | None:
        return registry.get_sample_value("errata_reconcile_total", {"outcome": outcome, "reason": reason})

    assert total("created", "") == 1
    assert total("unchanged", "") == 1
    assert total("not_learned", "no_context") == 2
    assert total("failed", "error") == 2
