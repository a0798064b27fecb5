import pytest

from errata.store.v1.store_pb2 import TraceRecord
from learner_service.keys import BlockKey
from learner_service.maintenance import DROPPED_MAX, TRACES_KEPT_S, DeletionLimits, Maintenance
from learner_service.store.store import Store
from learner_service.store.write_transaction import WriteTransaction
from tests.learner_service.conftest import ManualClock
from tests.learner_service.samples import delete, put

HOUR_US = 3_600_000_000


def keys(count: int) -> list[BlockKey]:
    return [BlockKey("", str(number)) for number in range(count)]


def delete_all(store: Store, wanted: list[BlockKey]) -> None:
    for key in wanted:
        store.submit(put(key)).result()
    for key in wanted:
        store.submit(delete(key)).result()


@pytest.mark.parametrize(
    ("count_min", "count_max", "hours", "left"),
    [
        (0, 100, 0.5, 10),  # too new to go
        (0, 100, 2, 0),  # old, and nothing keeps them
        (4, 100, 2, 4),  # old, but the newest are kept
        (0, 3, 0.5, 3),  # new, but too many
    ],
)
async def test_deletions_go_by_age_and_by_count(
    store: Store, clock: ManualClock, count_min: int, count_max: int, hours: float, left: int
) -> None:
    live = BlockKey("", "live")
    store.submit(put(live)).result()
    delete_all(store, keys(10))
    with store.read() as transaction:
        head = transaction.head_revision
    clock.now_us += int(hours * HOUR_US)
    limits = DeletionLimits(age_s_max=3_600, count_min=count_min, count_max=count_max)
    await Maintenance(store, wall_us=clock, limits=limits).make_pass()
    with store.read() as transaction:
        deleted = [revision for revision, row in transaction.log_after(0) if not row.live]
        assert deleted == list(range(head - left + 1, head + 1))
        assert transaction.compact_revision == (head - left if left < 10 else 0)
        assert transaction.head_revision == head
        assert transaction.is_learned(live)
    assert store.check() == []


async def test_a_pass_drops_more_than_fits_one_transaction(store: Store, clock: ManualClock) -> None:
    wanted = keys(DROPPED_MAX + 10)

    def put_and_delete(transaction: WriteTransaction) -> None:
        for key in wanted:
            put(key)(transaction)
            delete(key)(transaction)

    store.submit(put_and_delete).result()
    limits = DeletionLimits(age_s_max=0, count_min=0, count_max=0)
    await Maintenance(store, wall_us=clock, limits=limits).make_pass()
    with store.read() as transaction:
        assert list(transaction.log_after(0)) == []
    assert store.check() == []


async def test_a_trace_of_very_many_blocks_goes_with_all_its_rows_in_several_transactions(
    store: Store, clock: ManualClock
) -> None:
    count = 2 * DROPPED_MAX + 10

    def put_trace(transaction: WriteTransaction) -> None:
        record = TraceRecord()
        record.modified_time.FromMicroseconds(clock.now_us - (TRACES_KEPT_S + 1) * 1_000_000)
        for trace_id in ("large", "other", "small"):
            transaction.put_trace("team", trace_id, record)
        for number in range(count):
            transaction.add_trace_block("team", "large", f"block-{number}")

    store.submit(put_trace).result()
    limits = DeletionLimits(age_s_max=3_600, count_min=0, count_max=10)
    await Maintenance(store, wall_us=clock, limits=limits).make_pass()
    with store.read() as transaction:
        assert list(transaction.traces("team")) == []
    left = store.submit(lambda transaction: transaction.take_trace_blocks("team", "large", count)).result()
    assert left == []


async def test_a_trace_goes_a_day_after_its_last_line(store: Store, clock: ManualClock) -> None:
    def put_traces(transaction: WriteTransaction) -> None:
        for name, age_s in (("old", TRACES_KEPT_S + 1), ("new", TRACES_KEPT_S - 1)):
            record = TraceRecord()
            record.modified_time.FromMicroseconds(clock.now_us - age_s * 1_000_000)
            transaction.put_trace("team", name, record)

    store.submit(put_traces).result()
    limits = DeletionLimits(age_s_max=3_600, count_min=0, count_max=10)
    await Maintenance(store, wall_us=clock, limits=limits).make_pass()
    with store.read() as transaction:
        assert [trace_id for trace_id, _ in transaction.traces("team")] == ["new"]
