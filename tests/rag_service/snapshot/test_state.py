"""A state that was written comes back as it was: to searches, to bookmarks, and to updates that follow."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errata.v1.learner_pb2 import ExampleUpdate
from rag_service.held_state import HeldState
from rag_service.index import ExampleIndex, IndexQuery, encoded_key
from rag_service.index_errors import IndexFullError
from rag_service.snapshot.errors import SnapshotDamagedError, SnapshotForeignError
from rag_service.snapshot.file import FORMAT_VERSION, SnapshotFile
from rag_service.snapshot.sections import filled_index
from rag_service.updates import read_updates
from tests.rag_service.index_oracle import Oracle
from tests.rag_service.index_samples import delete, found_ids, put, unit, vector
from tests.rag_service.snapshot.samples import header_of, read, small_index, written, written_held
from tests.rag_service.test_index_exact import assert_same, assert_same_state, changes, queries
from tests.rag_service.versioned_examples import DIMENSION, QUERY, torn_hits, version_of, versions

Batches = Sequence[Sequence[Callable[[int], ExampleUpdate]]]
EAST = unit([1, 0])
NORTH = unit([0, 1])


@pytest.fixture
def index() -> ExampleIndex:
    return small_index(2)


def numbered(batches: Batches, first_revision: int) -> list[list[ExampleUpdate]]:
    revisions = iter(range(first_revision, 1_000_000))
    return [[change(next(revisions)) for change in batch] for batch in batches]


@settings(max_examples=80, deadline=None)
@given(
    before=st.lists(st.lists(changes, max_size=8), max_size=4),
    after=st.lists(st.lists(changes, max_size=8), max_size=3),
    asked=st.lists(queries, min_size=1, max_size=4),
)
def test_any_state_answers_as_before_and_takes_any_updates(
    before: Batches, after: Batches, asked: list[IndexQuery]
) -> None:
    index, oracle = small_index(3), Oracle(3)
    for updates in numbered(before, 1):
        index.apply(updates)
        oracle.apply(updates)
    with TemporaryDirectory() as folder:
        restored = read(written(Path(folder) / "snapshot", index))
    assert_same_state(restored, oracle)
    for query in asked:
        assert_same(restored, oracle, query)
    for updates in numbered(after, 1_000):
        restored.apply(updates)
        oracle.apply(updates)
    assert_same_state(restored, oracle)
    for query in asked:
        assert_same(restored, oracle, query)


def test_times_come_back(index: ExampleIndex, tmp_path: Path) -> None:
    index.apply([put(1, "late", EAST, query_text="q", executed_ns=9), put(2, "early", EAST, query_text="q")])
    restored = read(written(tmp_path / "snapshot", index))
    assert found_ids(restored.search(IndexQuery(embedding=vector(EAST), limit=9))) == ["late"]
    since = IndexQuery(embedding=vector(EAST), limit=9, per_question_limit=9, executed_since_ns=9)
    assert found_ids(restored.search(since)) == ["late"]


def test_what_comes_later_is_not_taken_for_what_was_there(index: ExampleIndex, tmp_path: Path) -> None:
    index.apply([put(at + 1, f"{at}", EAST) for at in range(10)])
    restored = read(written(tmp_path / "snapshot", index))
    restored.apply([put(20, "new", EAST, namespace="n", languages=["sql"])])
    known = IndexQuery(embedding=vector(EAST), limit=99, per_question_limit=99, namespaces=("", "n"))
    for query, expected in (
        (replace(known, namespaces=("",)), 10),
        (replace(known, namespaces=("n",)), 1),
        (replace(known, languages=("bash",)), 10),
        (replace(known, languages=("sql",)), 1),
    ):
        assert len(found_ids(restored.search(query))) == expected


def test_rows_are_used_again_in_a_restored_index_as_in_any_other(tmp_path: Path) -> None:
    index = ExampleIndex(dimension=DIMENSION, capacity_max=30)
    index.apply([version_of(at + 1, f"{at}", 1) for at in range(20)])
    with SnapshotFile.open(written(tmp_path / "snapshot", index)) as file:
        restored = filled_index(file, lambda _: ExampleIndex(dimension=DIMENSION, capacity_max=30), ())
    for version in range(2, 30):
        restored.apply([version_of(version * 100 + at, f"{at % 20}", version) for at in range(8)])
    answer = restored.search(IndexQuery(embedding=vector(QUERY), limit=30))
    assert versions(answer) == {f"{at}": 29 if at < 8 else 1 for at in range(20)}
    assert torn_hits(answer) == []


def test_what_the_state_replaced_is_not_in_the_snapshot(index: ExampleIndex, tmp_path: Path) -> None:
    index.apply(
        [put(1, "a", EAST, query_text="the old secret"), put(2, "b", EAST, query_text="a secret too")]
    )
    index.apply([put(3, "a", NORTH, query_text="anew"), delete(4, "b")])
    content = written(tmp_path / "snapshot", index).read_bytes()
    assert b"anew" in content
    assert b"secret" not in content


def test_a_snapshot_is_for_the_eyes_of_its_owner(index: ExampleIndex, tmp_path: Path) -> None:
    assert written(tmp_path / "snapshot", index).stat().st_mode & 0o077 == 0


class ForgetfulState(HeldState):
    """A flaw: does not keep the rows that it reads."""

    def __init__(self, **parts: object) -> None:
        super().__init__(**parts)  # type: ignore[arg-type]  # passed on as they come
        self._publication.give_back(self._state)

    def release(self) -> None:
        pass


def read_after_many_updates(path: Path, state: type[HeldState]) -> ExampleIndex:
    """The state that was held before updates that replace, delete and add, on rows used again and again."""
    index = ExampleIndex(dimension=DIMENSION, capacity_max=1_000)
    index.apply([version_of(at + 1, f"{at}", 1) for at in range(20)] + [put(30, "malformed", b"")])
    header = header_of(index)
    held = state(rows=index._rows, publication=index._publication, quarantined=dict(index._quarantine))
    generator = random.Random(1)
    for at in range(300):
        key = f"{generator.randrange(40)}"
        index.apply(
            [version_of(100 + 2 * at, key, 2 + at), delete(101 + 2 * at, f"{generator.randrange(20)}")]
        )
    index.apply([put(10_000, "malformed", QUERY)])
    return read(written_held(path, header, held))


def test_updates_while_a_snapshot_is_written_do_not_leak_into_it(tmp_path: Path) -> None:
    restored = read_after_many_updates(tmp_path / "snapshot", HeldState)
    answer = restored.search(IndexQuery(embedding=vector(QUERY), limit=50))
    assert versions(answer) == {f"{at}": 1 for at in range(20)}
    assert torn_hits(answer) == []
    assert (restored.quarantined_count, restored.received_revision) == (1, 30)


def test_a_state_that_does_not_keep_its_rows_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(SnapshotDamagedError, match="not those of its bookmark"):
        read_after_many_updates(tmp_path / "snapshot", ForgetfulState)


def test_rows_that_a_snapshot_held_are_free_again_afterwards(tmp_path: Path) -> None:
    index = ExampleIndex(dimension=DIMENSION, capacity_max=3)
    index.apply([version_of(1, "a", 1)])
    header, held = header_of(index), index.hold()
    index.apply([version_of(2, "a", 2)])
    index.apply([version_of(3, "a", 3)])
    with pytest.raises(IndexFullError):
        index.apply([version_of(4, "a", 4)])
    written_held(tmp_path / "snapshot", header, held)
    held.release()
    for version in range(4, 9):
        index.apply([version_of(version, "a", version)])


def test_what_was_deleted_since_cannot_be_found_but_counts(index: ExampleIndex, tmp_path: Path) -> None:
    index.apply([put(1, "a", EAST), put(2, "b", EAST), put(3, "c", b"")])
    path = written(tmp_path / "snapshot", index)
    restored = read(path, [encoded_key("", "a"), encoded_key("", "c"), encoded_key("", "never there")])
    query = IndexQuery(embedding=vector(EAST), limit=9)
    assert found_ids(restored.search(query)) == ["b"]
    assert (restored.count, restored.digest) == (index.count, index.digest)
    assert (restored.withheld_count, restored.quarantined_count) == (2, 0)
    restored.apply([delete(4, "a")])
    index.apply([delete(4, "a")])
    assert (restored.count, restored.digest, restored.withheld_count) == (index.count, index.digest, 1)
    restored.apply([put(5, "c", NORTH)])
    index.apply([put(5, "c", NORTH)])
    assert (restored.count, restored.digest, restored.withheld_count) == (index.count, index.digest, 0)
    assert found_ids(restored.search(query)) == ["b", "c"]


def test_the_keys_of_an_index_are_those_of_its_live_examples(index: ExampleIndex) -> None:
    index.apply([put(1, "a", EAST, namespace="n"), put(2, "b", EAST), put(3, "c", b"")])
    index.apply([delete(4, "b"), put(5, "a", NORTH, namespace="n")])
    assert index.keys() == {b"n\0a", b"\0c"}


def test_a_snapshot_of_more_examples_than_there_is_room_for_is_foreign(
    index: ExampleIndex, tmp_path: Path
) -> None:
    index.apply([put(at + 1, f"{at}", EAST) for at in range(3)])
    path = written(tmp_path / "snapshot", index)
    with SnapshotFile.open(path) as file, pytest.raises(SnapshotForeignError, match="room for 2 rows"):
        filled_index(file, lambda dimension: ExampleIndex(dimension=dimension, capacity_max=2), ())


def test_a_state_that_is_not_that_of_its_bookmark_is_found_out(index: ExampleIndex, tmp_path: Path) -> None:
    index.apply([put(1, "a", EAST)])
    for field, wrong in (("digest", bytes(16)), ("example_count", 2)):
        header = header_of(index)
        setattr(header.bookmark, field, wrong)
        path = written_held(tmp_path / field, header, index.hold())
        with pytest.raises(SnapshotDamagedError, match="not those of its bookmark"):
            read(path)


def test_only_an_empty_index_can_be_filled(index: ExampleIndex, tmp_path: Path) -> None:
    index.apply([put(1, "a", EAST)])
    with (
        SnapshotFile.open(written(tmp_path / "snapshot", index)) as file,
        pytest.raises(SnapshotDamagedError, match="not empty"),
    ):
        filled_index(file, lambda _: index, ())
    assert found_ids(index.search(IndexQuery(embedding=vector(EAST)))) == ["a"]


def test_another_way_of_making_facets_needs_another_version_of_the_format() -> None:
    update = put(1, "a", EAST, namespace="n", query_text=" List  Files ", labels={"team": "infra"})
    (facets,) = read_updates([update], 2).puts.facets
    assert (FORMAT_VERSION, tuple(facets)) == (
        1,
        (
            ("namespace", "n"),
            ("language", "bash"),
            ("question", "bash", "29026a6c8c8809a3387ee98406111047"),
            ("label", "team", "infra"),
        ),
    )
