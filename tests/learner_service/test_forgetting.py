import pytest

from errata.store.v1.store_pb2 import BlockRecord, TraceRecord
from errata.v1.block_pb2 import Block
from learner_service.forgetting import forget
from learner_service.keys import BlockKey
from learner_service.store.store import Store
from learner_service.store.write_transaction import WriteTransaction
from tests.block_events import code, correction, document, ran
from tests.learner_service.conftest import ManualClock
from tests.learner_service.learning_parts import Parts, key_of, park

KEY = key_of("b")
ELSEWHERE = BlockKey("team-a", "b")


@pytest.fixture
def parts(store: Store, clock: ManualClock) -> Parts:
    return Parts(store, clock)


async def forget_block(parts: Parts, key: BlockKey = KEY) -> int | None:
    revision = await parts.store.write(lambda transaction: forget(transaction, key))
    assert parts.store.check() == []
    return revision


def record_of(parts: Parts, key: BlockKey = KEY) -> BlockRecord | None:
    with parts.store.read() as transaction:
        return transaction.block(key)


async def test_forgetting_erases_the_block_deletes_its_example_and_takes_it_out_of_the_queue(
    parts: Parts,
) -> None:
    await parts.record(*correction("b", "list files", "ls"))
    await parts.settle("b")
    await parts.record(ran("b", "ls -l", at_s=50))
    assert await forget_block(parts) == 2
    record = record_of(parts)
    assert record is not None
    modified = record.modified_time.ToMicroseconds()
    record.ClearField("modified_time")
    assert record == BlockRecord(forgotten=True)
    assert modified > 0
    assert parts.example("b") is None
    assert parts.pending("b") is None


async def test_forgetting_again_changes_nothing_and_names_the_same_deletion(parts: Parts) -> None:
    await parts.record(*correction("b", "list files", "ls"))
    await parts.settle("b")
    assert await forget_block(parts) == 2
    modified = parts.modified_us("b")
    assert await forget_block(parts) == 2
    assert (parts.head, parts.modified_us("b")) == (2, modified)


async def test_a_block_that_nobody_has_named_yet_can_be_forgotten_for_good(parts: Parts) -> None:
    assert await forget_block(parts) is None
    assert await parts.record(*correction("b", "list files", "ls")) == set()
    record = record_of(parts)
    assert record is not None
    assert record.forgotten
    assert not record.HasField("executed")
    assert parts.head == 0


async def test_a_parked_block_that_is_forgotten_is_parked_no_more(parts: Parts) -> None:
    await parts.record(*correction("b", "list files", "ls"))
    await parts.store.write(park("b"))
    await forget_block(parts)
    with parts.store.read() as transaction:
        assert transaction.queue_summary().parked_block_count == 0


async def test_the_block_of_the_same_id_in_another_namespace_stays(parts: Parts) -> None:
    await parts.record(
        *correction("b", "list files", "ls"), *correction("b", "list files", "dir", namespace="team-a")
    )
    await parts.reconcile("b", ELSEWHERE)
    await forget_block(parts)
    assert (parts.answer("b"), parts.answer(ELSEWHERE)) == (None, "dir")
    record = record_of(parts, ELSEWHERE)
    assert record is not None
    assert record.executed.executed.block.contents == "dir"


def trace() -> TraceRecord:
    """Of a proposal of two blocks and of a run, none of them joined yet."""
    response = [code("ls", output="total 0"), code("date", output="today")]
    response[0].id, response[1].id = "b", "c"
    return TraceRecord(response=response, run=ran("b", "ls -l"), block_ids=["b", "c"])


async def test_what_a_log_has_said_of_the_block_so_far_is_erased_too(parts: Parts) -> None:
    def put_traces(transaction: WriteTransaction) -> None:
        transaction.put_trace("", "t", trace())
        transaction.put_trace("team-a", "t", trace())
        transaction.put_trace("", "u", unrelated())

    await parts.store.write(put_traces)
    await forget_block(parts)
    with parts.store.read() as transaction:
        left, elsewhere = transaction.trace("", "t"), transaction.trace("team-a", "t")
        assert transaction.trace("", "u") == unrelated()
    assert left is not None
    assert [(block.id, block.contents, len(block.outputs)) for block in left.response] == [
        ("b", "", 0),
        ("c", "date", 1),
    ]
    assert not left.HasField("run")
    assert list(left.block_ids) == ["b", "c"]
    assert elsewhere == trace()


def unrelated() -> TraceRecord:
    return TraceRecord(request=document("show date"), response=[Block(id="d", contents="date")])
