"""What the model keeps in memory behaves as the real thing does."""

from pathlib import Path
from random import Random

import pytest

from errata.v1.example_pb2 import Example, ExampleKey
from errata.v1.learner_pb2 import ExampleUpdate
from learner_service.errors import StoreCorruptError
from learner_service.keys import BlockKey
from learner_service.store.store import Store
from learner_service.store.tables import Table
from learner_service.store.write_transaction import WriteTransaction
from rag_service.index import ExampleIndex
from rag_service.index_errors import StaleUpdateError
from tests.model.held_examples import HeldExamples
from tests.model.memory_tables import MemoryTable, copy_tables, empty_tables
from tests.model.steps import example

GIB = 1 << 30
STEP_COUNT = 2_000


def do_something(chance: Random, table: Table) -> object:
    """One random operation; what it answers."""
    key, value = chance.randbytes(1), chance.randbytes(2)
    answer: object = None
    match chance.randrange(7):
        case 0:
            answer = table.delete(key)
        case 1:
            answer = table.get(key)
        case 2:
            answer = list(table.scan(chance.choice((b"", key))))
        case 3:
            answer = list(table.scan_down(chance.choice((None, key))))
        case 4:
            try:
                table.append(key, value)
            except StoreCorruptError:
                answer = "out of order"
        case _:
            table.put(key, value)
    return answer, len(table)


def test_a_table_in_memory_answers_as_one_of_lmdb(tmp_path: Path) -> None:
    def on_lmdb(transaction: WriteTransaction) -> list[object]:
        chance = Random(7)
        return [do_something(chance, transaction._tables["files"]) for _ in range(STEP_COUNT)]

    with Store.open(tmp_path / "store", clock_us=lambda: 1, bytes_max=GIB) as store:
        wanted = store.submit(on_lmdb).result()
    chance, table = Random(7), MemoryTable()
    assert [do_something(chance, table) for _ in range(STEP_COUNT)] == wanted


def test_a_copy_of_tables_and_the_original_do_not_know_of_each_other() -> None:
    tables = empty_tables()
    tables["meta"].put(b"a", b"1")
    first, second = copy_tables(tables), copy_tables(tables)
    first["meta"].put(b"b", b"2")
    second["meta"].delete(b"a")
    rows = [list(each["meta"].scan()) for each in (tables, first, second)]
    assert rows == [[(b"a", b"1")], [(b"a", b"1"), (b"b", b"2")], []]


def random_update(chance: Random, revision: int) -> ExampleUpdate:
    key = BlockKey(chance.choice(("", "one")), chance.choice("abc"))
    if chance.random() < 0.4:
        return ExampleUpdate(revision=revision, deleted=ExampleKey(namespace=key.namespace, id=key.id))
    return ExampleUpdate(revision=revision, put=example(key, str(revision)))


def test_examples_are_held_as_the_real_index_holds_them() -> None:
    chance = Random(7)
    held, index = HeldExamples(), ExampleIndex(dimension=2, capacity_max=64)
    revision = 0
    for _ in range(200):
        updates = []
        for _ in range(chance.randrange(4)):
            revision += chance.choice((1, 1, 5))
            updates.append(random_update(chance, revision))
        assert held.apply(updates) == tuple(index.apply(updates))
        assert (held.count, held.digest) == (index.count, index.digest)
        assert (held.received_revision, held.quarantined_count) == (
            index.received_revision,
            index.quarantined_count,
        )
    assert held.count > 0


@pytest.mark.parametrize("revision", [4, 5])
def test_a_change_that_is_not_newer_is_refused_as_by_the_real_index(revision: int) -> None:
    for index in (HeldExamples(), ExampleIndex(dimension=2, capacity_max=64)):
        index.apply([ExampleUpdate(revision=5, put=Example(id="a"))])
        with pytest.raises(StaleUpdateError):
            index.apply([ExampleUpdate(revision=revision, put=Example(id="a"))])
