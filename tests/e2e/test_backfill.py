"""Backfills over the wire, and killed: counts stay exact whatever dies."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from errata.v1.block_pb2 import BlockEvent
from errata.v1.learner_pb2 import BackfillRequest, GetBackfillRequest, GetBackfillResponse
from learner_service.recorder import record_events
from learner_service.store.store import Store
from learner_service.store.write_transaction import WriteTransaction
from tests.block_events import proposed, ran
from tests.e2e.failures import NOT_FOUND, Failed, failure_of, invalid
from tests.e2e.services import CALL_S_MAX, Learner, learner_on, metrics_of, until

FLAGS = ("--policy", "executions")
"""Under this policy every run gives an example: a block that was not learned from changes when it is."""
BLOCK_COUNT = 3_000
TOO_LARGE_COUNT = 2
LARGE_TEXT = "x" * 1_000_000


def begin(learner: Learner, request: BackfillRequest) -> int:
    """Begins a backfill; returns how many blocks match."""
    return learner.stub.Backfill(request, timeout=CALL_S_MAX).matched_block_count


def progress(learner: Learner, backfill_id: str) -> GetBackfillResponse:
    return learner.stub.GetBackfill(GetBackfillRequest(backfill_id=backfill_id), timeout=CALL_S_MAX)


def counts(found: GetBackfillResponse) -> tuple[int, int, int, int]:
    """Matched, done, changed, failed."""
    return (
        found.matched_block_count,
        found.done_block_count,
        found.changed_block_count,
        found.failed_block_count,
    )


def wait_for_end(learner: Learner, backfill_id: str) -> GetBackfillResponse:
    until(lambda: progress(learner, backfill_id).HasField("end_time"), "the backfill ends", seconds=60)
    return progress(learner, backfill_id)


def wait_until_done(learner: Learner, backfill_id: str, count: int) -> None:
    deadline_s = time.monotonic() + 60
    while progress(learner, backfill_id).done_block_count < count:
        assert time.monotonic() < deadline_s, f"{count} blocks were not done in time"


@contextmanager
def opened(store_dir: Path) -> Iterator[Store]:
    """The store in this process, while no Learner has it."""
    with Store.open(store_dir, clock_us=lambda: time.time_ns() // 1_000, bytes_max=1 << 32) as store:
        yield store


def put(store: Store, events: Sequence[BlockEvent]) -> None:
    """Stores events of which a Learner that starts on the store knows nothing to do."""

    def record(transaction: WriteTransaction) -> None:
        record_events(transaction, events)
        for key, _ in list(transaction.pending_after(None)):
            transaction.delete_pending(key)

    written: Future[None] = store.submit(record)
    written.result()


def too_large(block_id: str) -> list[BlockEvent]:
    """Question and answer together are larger than an example may be."""
    return [proposed(block_id, LARGE_TEXT, "ls"), ran(block_id, LARGE_TEXT)]


def fill(store_dir: Path) -> Timestamp:
    """Fills a store; returns the time of the block in its middle."""
    with opened(store_dir) as store:
        for number in range(TOO_LARGE_COUNT):
            put(store, too_large(f"large{number}"))
        ordinary_count = BLOCK_COUNT - TOO_LARGE_COUNT
        put(
            store,
            [ran(f"b{number}", f"run {number}", asked=f"do {number}") for number in range(ordinary_count)],
        )
        with store.read() as transaction:
            times = [modified_us for modified_us, _ in transaction.blocks_before()]
    middle = Timestamp()
    middle.FromMicroseconds(times[BLOCK_COUNT // 2 - 1])
    return middle


def check_stopped(store_dir: Path, backfill_id: str) -> int:
    """Compares counts with what is stored beside them; returns how many blocks are done."""
    with opened(store_dir) as store:
        assert store.check() == []
        with store.read() as transaction:
            record = transaction.backfills.get(backfill_id)
            assert record is not None
            parked_count = transaction.queue_summary().parked_block_count
            example_count = transaction.tally().count
    found = record.progress
    assert found.changed_block_count == example_count
    assert found.failed_block_count == parked_count
    assert found.done_block_count == example_count + parked_count
    return found.done_block_count


@pytest.mark.slow
def test_two_backfills_at_once_count_exactly_however_often_the_learner_is_killed(tmp_path: Path) -> None:
    middle = fill(tmp_path)
    requests = [
        BackfillRequest(backfill_id="all"),
        BackfillRequest(backfill_id="late", start_time=middle, namespaces=[""]),
    ]
    killed_at = []
    for wanted_count in (1, 400, 1_100, 2_000):
        with learner_on(tmp_path, *FLAGS) as learner:
            # As a client does that has not got an answer: the same again.
            assert [begin(learner, request) for request in requests] == [BLOCK_COUNT, BLOCK_COUNT // 2]
            wait_until_done(learner, "all", wanted_count)
            learner.process.kill()
        killed_at.append(check_stopped(tmp_path, "all"))
    assert killed_at == sorted(set(killed_at))
    assert killed_at[-1] < BLOCK_COUNT
    with learner_on(tmp_path, *FLAGS) as learner:
        ended = [wait_for_end(learner, request.backfill_id) for request in requests]
        assert counts(ended[0]) == (BLOCK_COUNT, BLOCK_COUNT, BLOCK_COUNT - TOO_LARGE_COUNT, TOO_LARGE_COUNT)
        assert counts(ended[1]) == (BLOCK_COUNT // 2, BLOCK_COUNT // 2, BLOCK_COUNT // 2, 0)
        assert all(each.start_time.ToMicroseconds() < each.end_time.ToMicroseconds() for each in ended)
        assert learner.status().example_count == BLOCK_COUNT - TOO_LARGE_COUNT
        assert learner.status().failed_block_count == TOO_LARGE_COUNT
        assert learner.process.terminate() == 0
    assert check_stopped(tmp_path, "all") == BLOCK_COUNT


@pytest.mark.slow
def test_a_start_under_another_policy_learns_everything_again_also_when_it_is_killed(tmp_path: Path) -> None:
    with learner_on(tmp_path, "--policy", "corrections") as learner:
        assert learner.process.terminate() == 0
    fill(tmp_path)
    with learner_on(tmp_path, *FLAGS) as learner:
        until(lambda: learner.status().example_count > 100, "something is learned")
        learner.process.kill()
    with opened(tmp_path) as store, store.read() as transaction:
        (backfill_id,) = transaction.backfills.running_ids()
    assert 100 < check_stopped(tmp_path, backfill_id) < BLOCK_COUNT
    with learner_on(tmp_path, *FLAGS, "--metrics-listen", "127.0.0.1:0") as learner:
        ended = wait_for_end(learner, backfill_id)
        assert counts(ended) == (BLOCK_COUNT, BLOCK_COUNT, BLOCK_COUNT - TOO_LARGE_COUNT, TOO_LARGE_COUNT)
        metrics = metrics_of(learner.process)
        assert metrics["errata_backfills_running"] == 0
        assert metrics['errata_reconcile_total{outcome="created",reason=""}'] > 0


def test_answers_and_refusals_over_the_wire(learner: Learner) -> None:
    learner.learn(ran("x", "ls"), *[proposed("y", "list files", "ls"), ran("y", "ls -l")])
    changed_at = learner.block("y").state.modified_time
    since = BackfillRequest(start_time=changed_at, dry_run=True)
    assert begin(learner, since) == 1
    chosen = learner.stub.Backfill(BackfillRequest(start_time=changed_at), timeout=CALL_S_MAX)
    assert chosen.matched_block_count == 1
    assert counts(wait_for_end(learner, chosen.backfill_id)) == (1, 1, 0, 0)
    named = BackfillRequest(backfill_id="named", start_time=changed_at)
    assert begin(learner, named) == begin(learner, named) == 1
    other = BackfillRequest(backfill_id="named")
    assert failure_of(lambda: begin(learner, other)) == invalid("backfill_id")
    unknown = Failed(NOT_FOUND, "BACKFILL_NOT_FOUND", {"backfill_id": "unknown"})
    assert failure_of(lambda: progress(learner, "unknown")) == unknown
