"""What taking in updates promises: what counts, what can be found, and what memory it takes."""

import math
import mmap
import struct
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest

from errata.v1.learner_pb2 import ExampleUpdate
from rag_service.index import ExampleIndex, IndexQuery
from rag_service.index_errors import (
    AddressSpaceError,
    IndexFullError,
    StaleUpdateError,
)
from rag_service.memory import reserved_array
from tests.rag_service.index_samples import delete, found, found_ids, put, unit, vector

EAST = unit([1, 0])
NORTH = unit([0, 1])
NORTH_EAST = unit([1, 1])


def slope(degrees: float) -> bytes:
    return unit([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])


@pytest.fixture
def index() -> ExampleIndex:
    return ExampleIndex(dimension=2)


def test_an_update_replaces_an_example_and_all_that_was_known_of_it(index: ExampleIndex) -> None:
    index.apply([put(1, "a", EAST, labels={"old": "1"}, languages=["bash"], query_text="old")])
    index.apply([put(2, "a", NORTH, labels={"new": "1"}, languages=["sql"], query_text="new")])
    assert index.count == 1
    assert found(index.search(IndexQuery(embedding=vector(EAST)))) == [("", "a", 0.0)]
    for stale in (
        IndexQuery(embedding=vector(EAST), labels={"old": "1"}),
        IndexQuery(embedding=vector(EAST), languages=("bash",)),
    ):
        assert found_ids(index.search(stale)) == []


def test_of_several_changes_of_one_example_in_one_batch_the_last_counts(index: ExampleIndex) -> None:
    index.apply([put(1, "a", EAST), delete(2, "a"), put(3, "a", NORTH), put(4, "b", EAST), delete(5, "b")])
    assert found(index.search(IndexQuery(embedding=vector(NORTH)))) == [("", "a", 1.0)]
    assert index.digest == digest_of([("", "a", 3)])
    assert (index.count, index.received_revision) == (1, 5)


def test_deleting_what_is_not_there_moves_only_the_received_revision(index: ExampleIndex) -> None:
    index.apply([put(1, "a", EAST)])
    before = index.digest
    index.apply([delete(2, "unknown"), delete(3, "a", namespace="elsewhere")])
    assert (index.count, index.digest, index.received_revision) == (1, before, 3)


def test_an_update_that_names_no_example_moves_only_the_received_revision(index: ExampleIndex) -> None:
    index.apply([ExampleUpdate(revision=7)])
    assert (index.count, index.digest, index.received_revision) == (0, bytes(16), 7)


@pytest.mark.parametrize("revisions", [(3,), (2,), (5, 5), (6, 5), (0,)])
def test_updates_out_of_order_are_refused_as_a_whole(index: ExampleIndex, revisions: tuple[int, ...]) -> None:
    index.apply([put(3, "a", EAST)])
    before = (index.count, index.digest, index.received_revision)
    with pytest.raises(StaleUpdateError) as caught:
        index.apply([put(revision, "b", EAST) for revision in revisions])
    assert caught.value.revision == revisions[-1]
    assert (index.count, index.digest, index.received_revision) == before
    assert found_ids(index.search(IndexQuery(embedding=vector(EAST)))) == ["a"]


@pytest.mark.parametrize(
    ("embedding", "problem"),
    [
        (b"", "0 bytes, not 8"),
        (EAST[:-1], "7 bytes"),
        (EAST + b"\0\0\0\0", "12 bytes"),
        (struct.pack("<2f", math.nan, 1), "not finite"),
        (struct.pack("<2f", math.inf, 0), "not finite"),
        (struct.pack("<2f", 1, -math.inf), "not finite"),
        (struct.pack("<2f", 3e38, 3e38), "length"),
        (struct.pack("<2f", 0, 0), "length 0, not 1"),
        (struct.pack("<2f", 1.00001, 0), "length 1.00001"),
        (struct.pack("<2f", 0.99999, 0), "length 0.9999"),
    ],
)
def test_a_malformed_example_counts_but_cannot_be_found(
    index: ExampleIndex, embedding: bytes, problem: str
) -> None:
    index.apply([put(1, "a", EAST), put(2, "b", EAST)])
    quarantined = index.apply([put(3, "a", embedding), put(4, "c", EAST)])
    assert [(entry.key, entry.revision) for entry in quarantined] == [(b"\0a", 3)]
    assert problem in quarantined[0].reason
    assert found_ids(index.search(IndexQuery(embedding=vector(EAST)))) == ["b", "c"]
    assert (index.count, index.quarantined_count, index.received_revision) == (3, 1, 4)
    assert index.digest == digest_of([("", "a", 3), ("", "b", 2), ("", "c", 4)])


def test_a_malformed_example_leaves_quarantine_when_it_is_put_right_or_deleted(index: ExampleIndex) -> None:
    index.apply([put(1, "a", b""), put(2, "b", b""), put(3, "c", b"")])
    assert index.apply([put(4, "a", EAST), delete(5, "b"), put(6, "c", b"?")]) != []
    assert (index.count, index.quarantined_count) == (2, 1)
    assert index.digest == digest_of([("", "a", 4), ("", "c", 6)])
    assert found_ids(index.search(IndexQuery(embedding=vector(EAST)))) == ["a"]


def test_rounding_to_float32_leaves_a_vector_well_formed() -> None:
    generator = np.random.default_rng(7)
    for dimension in (1, 2, 384, 1536):
        index = ExampleIndex(dimension=dimension, capacity_max=64)
        rows = generator.standard_normal((50, dimension))
        assert index.apply([put(at + 1, f"{at}", unit(row)) for at, row in enumerate(rows.tolist())]) == []


def test_a_full_index_says_so_and_stays_as_it_was() -> None:
    index = ExampleIndex(dimension=2, capacity_max=3)
    index.apply([put(1, "a", EAST), put(2, "b", EAST)])
    before = (index.count, index.digest, index.received_revision)
    with pytest.raises(IndexFullError) as caught:
        index.apply([delete(3, "a"), put(4, "c", EAST), put(5, "d", EAST)])
    assert (caught.value.capacity, caught.value.want) == (3, 1)
    assert (index.count, index.digest, index.received_revision) == before
    assert found_ids(index.search(IndexQuery(embedding=vector(EAST)))) == ["a", "b"]


def test_a_full_index_has_room_again_when_examples_are_replaced_or_deleted() -> None:
    index = ExampleIndex(dimension=2, capacity_max=2)
    for revision in range(1, 200):
        index.apply([put(revision, "a", slope(revision % 90))])
    index.apply([delete(200, "a")])
    index.apply([put(201, "b", EAST), put(202, "c", EAST)])
    assert found_ids(index.search(IndexQuery(embedding=vector(EAST)))) == ["b", "c"]


def test_rows_that_no_search_sees_are_used_again() -> None:
    index = ExampleIndex(dimension=2)
    for revision in range(1, 500):
        index.apply([put(revision, f"{revision % 5}", slope(revision % 90))])
    assert index.count == 5
    assert index.embedding_bytes <= (5 + 3) * 2 * 4


def test_what_no_example_has_any_more_is_forgotten() -> None:
    index = ExampleIndex(dimension=2)
    for revision in range(1, 300):
        labels = {"run": f"{revision}"}
        index.apply([put(revision, "a", EAST, namespace="n", labels=labels, query_text=f"q {revision}")])
    # Namespace and language are shared; label and question stay for the rows that await reuse.
    assert len(index._rows.lists._lists) <= 2 + 2 * 3
    assert len(index._rows._rows_by_key) == 1


def test_an_index_takes_memory_only_for_the_rows_it_holds() -> None:
    before_bytes = resident_bytes()
    indexes = [ExampleIndex(dimension=1536) for _ in range(8)]
    for index in indexes:
        index.apply([put(1, "a", unit([1.0] * 1536))])
    assert [index.embedding_bytes for index in indexes] == [1536 * 4] * 8
    reserved_bytes = sum(index._rows.embeddings.nbytes for index in indexes)
    assert resident_bytes() - before_bytes < reserved_bytes / 5_000


def test_address_space_that_there_is_not_is_refused_with_its_size() -> None:
    with pytest.raises(AddressSpaceError) as caught:
        reserved_array((2**40, 2**10), np.float32)
    assert caught.value.size_bytes == 2**52


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * mmap.PAGESIZE


def digest_of(rows: list[tuple[str, str, int]]) -> bytes:
    total = 0
    for namespace, example_id, revision in rows:
        text = namespace.encode() + b"\0" + example_id.encode() + b"\0" + revision.to_bytes(8, "big")
        total += int.from_bytes(blake2b(text, digest_size=16).digest(), "big")
    return (total % 2**128).to_bytes(16, "big")
