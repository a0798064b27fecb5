"""The index gives exactly the answer of the oracle, which scores every row: same examples, order and
scores."""

import math
import random
import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errata.v1.learner_pb2 import ExampleUpdate
from rag_service.filters import Selection
from rag_service.index import ExampleIndex, IndexQuery, encoded_key
from rag_service.scoring import FloatScan, exact_scores
from tests.rag_service.index_oracle import Oracle, elements, score
from tests.rag_service.index_samples import delete, found, put, unit, vector
from tests.rag_service.rankings import BuildRanking, each_ranking

NAMESPACES = ("", "a", "b")
LANGUAGES = ("bash", "sql", "")
NOT_UNIT = (b"", b"\0" * 12, struct.pack("<3f", math.nan, 0, 1), struct.pack("<3f", 1, 1, 0))


def assert_same(index: ExampleIndex, oracle: Oracle, query: IndexQuery) -> None:
    answer = index.search(query)
    assert (found(answer), answer.below_min_score_count) == oracle.search(query)
    assert answer.received_revision == oracle.received_revision


def assert_same_state(index: ExampleIndex, oracle: Oracle) -> None:
    assert index.count == len(oracle.known)
    assert index.quarantined_count == oracle.quarantined_count
    assert index.digest == oracle.digest
    assert index.received_revision == oracle.received_revision


directions = st.tuples(*[st.sampled_from([-1.0, 0.0, 1.0, 1.0000001, 0.5])] * 3).filter(any).map(unit)
embeddings = st.one_of(directions, directions, directions, st.sampled_from(NOT_UNIT))
ids = st.sampled_from(["1", "2", "3", "é", "z"])
changes = st.one_of(
    st.builds(
        lambda **fields: lambda revision: put(revision, **fields),
        example_id=ids,
        embedding=embeddings,
        namespace=st.sampled_from(NAMESPACES),
        query_text=st.sampled_from(["q", " Q", "r"]),
        languages=st.lists(st.sampled_from(LANGUAGES), max_size=2),
        labels=st.dictionaries(st.sampled_from(["k", "l"]), st.sampled_from(["1", "2"])),
        executed_ns=st.sampled_from([-1, 0, 1, 10**9]),
    ),
    st.builds(
        lambda example_id, namespace: lambda revision: delete(revision, example_id, namespace=namespace),
        ids,
        st.sampled_from(NAMESPACES),
    ),
)
queries = st.builds(
    IndexQuery,
    embedding=directions.map(vector),
    limit=st.integers(1, 12),
    min_score=st.none() | st.sampled_from([-1.0, 0.0, 0.5, 1.0]),
    namespaces=st.lists(st.sampled_from(NAMESPACES), max_size=3).map(tuple),
    labels=st.dictionaries(st.sampled_from(["k", "l"]), st.sampled_from(["1", "2"]), max_size=1),
    languages=st.lists(st.sampled_from(LANGUAGES), max_size=2).map(tuple),
    executed_since_ns=st.none() | st.sampled_from([-1, 0, 1, 10**9]),
    exclude=st.frozensets(st.builds(encoded_key, st.sampled_from(NAMESPACES), ids), max_size=3),
    per_question_limit=st.integers(1, 3),
    diversity=st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0]),
)


@each_ranking
@settings(max_examples=200, deadline=None)
@given(
    batches=st.lists(st.lists(changes, max_size=8), max_size=6),
    asked=st.lists(queries, min_size=1, max_size=4),
)
def test_any_updates_and_any_queries(
    build_ranking: BuildRanking, batches: list[list[Callable[[int], ExampleUpdate]]], asked: list[IndexQuery]
) -> None:
    index, oracle = ExampleIndex(dimension=3, capacity_max=1_000, build_ranking=build_ranking), Oracle(3)
    revision = 0
    for batch in batches:
        updates = []
        for change in batch:
            revision += 1
            updates.append(change(revision))
        index.apply(updates)
        oracle.apply(updates)
        assert_same_state(index, oracle)
        for query in asked:
            assert_same(index, oracle, query)


class Workload:
    """A random stream of updates and queries, heavy in duplicates, ties, near ties and clusters."""

    def __init__(self, seed: int, dimension: int) -> None:
        self.random = random.Random(seed)
        self.dimension = dimension
        self.revision = 0
        self.id_count = 40
        self.centres = [self.direction() for _ in range(5)]

    def direction(self) -> list[float]:
        return [self.random.gauss(0, 1) for _ in range(self.dimension)]

    def embedding(self) -> bytes:
        kind = self.random.random()
        centre = self.random.choice(self.centres)
        if kind < 0.3:
            return unit(centre)
        if kind < 0.6:
            # So near that the float32 product of a matrix orders them by chance.
            exact = vector(unit(centre)).copy()
            at = self.random.randrange(self.dimension)
            exact[at] = np.nextafter(exact[at], np.float32(self.random.choice([-1, 1])))
            return exact.tobytes()
        if kind < 0.7:
            return unit([float(at == self.random.randrange(3)) for at in range(self.dimension - 1)] + [1.0])
        if kind < 0.95:
            radius = self.random.choice([1e-6, 1e-3, 0.1])
            return unit([element + radius * self.random.gauss(0, 1) for element in centre])
        return self.random.choice([b"", bytes(4 * self.dimension), unit(centre)[:-4]])

    def update(self) -> ExampleUpdate:
        self.revision += 1
        example_id = f"{self.random.randrange(self.id_count)}"
        namespace = self.random.choice(["", "", "", "a"])
        if self.random.random() < 0.25:
            return delete(self.revision, example_id, namespace=namespace)
        return put(
            self.revision,
            example_id,
            self.embedding(),
            namespace=namespace,
            query_text=f"q{self.random.randrange(12)}" if self.random.random() < 0.7 else None,
            languages=self.random.choice([["bash"], ["sql"], []]),
            labels={f"{self.random.randrange(3)}": "x"},
            executed_ns=self.random.randrange(4),
        )

    def query(self) -> IndexQuery:
        pick = self.random.random
        embedding = self.embedding()
        while len(embedding) != 4 * self.dimension or not any(embedding):
            embedding = self.embedding()
        return IndexQuery(
            embedding=vector(embedding),
            limit=self.random.choice([1, 3, 10, 100]),
            min_score=self.random.uniform(-1, 1) if pick() < 0.3 else None,
            namespaces=self.random.choice([(), ("",), ("a",), ("", "a"), ("none",)]),
            labels={"0": "x"} if pick() < 0.2 else {},
            languages=self.random.choice([(), (), ("sql",), ("sql", "")]),
            executed_since_ns=self.random.randrange(5) if pick() < 0.2 else None,
            exclude=frozenset(encoded_key("", f"{self.random.randrange(self.id_count)}") for _ in range(3)),
            per_question_limit=self.random.choice([1, 1, 2, 50]),
            diversity=self.random.choice([0.0, 0.0, self.random.random()]),
        )


@each_ranking
@pytest.mark.parametrize("seed", range(8))
def test_a_long_random_stream_of_updates_and_queries(seed: int, build_ranking: BuildRanking) -> None:
    workload = Workload(seed, dimension=random.Random(seed).choice([2, 3, 5, 33]))
    dimension = workload.dimension
    index = ExampleIndex(dimension=dimension, capacity_max=10_000, build_ranking=build_ranking)
    oracle = Oracle(dimension)
    for step in range(40):
        workload.id_count = 400 if step > 30 else 40
        updates = [workload.update() for _ in range(workload.random.randrange(60))]
        index.apply(updates)
        oracle.apply(updates)
        assert_same_state(index, oracle)
        for _ in range(3):
            assert_same(index, oracle, workload.query())


@each_ranking
@pytest.mark.parametrize("row_count", [0, 1, 2, 3, 4, 100])
@pytest.mark.parametrize("limit", [1, 2, 3, 4, 100])
def test_any_number_of_equal_rows(row_count: int, limit: int, build_ranking: BuildRanking) -> None:
    workload = Workload(1, dimension=8)
    embedding = unit(workload.direction())
    index, oracle = ExampleIndex(dimension=8, build_ranking=build_ranking), Oracle(8)
    updates = [put(at + 1, f"{at * 7 % row_count}", embedding) for at in range(row_count)]
    index.apply(updates)
    oracle.apply(updates)
    for query in (embedding, unit(workload.direction())):
        assert_same(index, oracle, IndexQuery(embedding=vector(query), limit=limit))


@each_ranking
@pytest.mark.parametrize("dimension", [1, 64, 384, 1536])
def test_rows_that_float32_products_cannot_tell_apart(dimension: int, build_ranking: BuildRanking) -> None:
    workload = Workload(dimension, dimension)
    workload.centres = workload.centres[:1]
    index, oracle = ExampleIndex(dimension=dimension, build_ranking=build_ranking), Oracle(dimension)
    embeddings = [workload.embedding() for _ in range(120)]
    updates = [put(at + 1, f"{at}", embedding) for at, embedding in enumerate(embeddings)]
    index.apply(updates)
    oracle.apply(updates)
    for limit in (1, 5, 50):
        for query in (unit(workload.centres[0]), unit(workload.direction())):
            assert_same(index, oracle, IndexQuery(embedding=vector(query), limit=limit))


@each_ranking
@pytest.mark.parametrize(("direction", "others", "first"), [(1, 1 + 9e-7, 1 + 1e-7), (-1, 1.0, 1 + 9e-7)])
def test_products_beyond_one_and_minus_one_are_ties(
    direction: int, others: float, first: float, build_ranking: BuildRanking
) -> None:
    index, oracle = ExampleIndex(dimension=2, build_ranking=build_ranking), Oracle(2)
    lengths = [first, *[others] * 20]
    updates = [
        put(at + 1, f"{at:02}", struct.pack("<2f", direction * length, 0))
        for at, length in enumerate(lengths)
    ]
    index.apply(updates)
    oracle.apply(updates)
    query = IndexQuery(embedding=vector(unit([1, 0])), limit=1)
    assert oracle.search(query)[0] == [("", "00", float(direction))]
    assert_same(index, oracle, query)


@each_ranking
@pytest.mark.parametrize("share", [1, 3, 30])
def test_few_rows_of_many_and_many_of_many(share: int, build_ranking: BuildRanking) -> None:
    workload = Workload(share, dimension=16)
    index, oracle = ExampleIndex(dimension=16, build_ranking=build_ranking), Oracle(16)
    updates = []
    for at in range(600):
        rare = at % share == 0
        updates.append(
            put(
                at + 1,
                f"{at}",
                unit(workload.direction()),
                namespace="rare" if rare else "common",
                labels={"rare": "yes"} if rare else {},
                languages=["rare" if rare else "common"],
                executed_ns=int(rare),
            )
        )
    index.apply(updates)
    oracle.apply(updates)
    everywhere = ("rare", "common")
    for query in (
        IndexQuery(embedding=vector(unit(workload.direction())), namespaces=("rare",)),
        IndexQuery(
            embedding=vector(unit(workload.direction())), namespaces=everywhere, labels={"rare": "yes"}
        ),
        IndexQuery(embedding=vector(unit(workload.direction())), namespaces=everywhere, languages=("rare",)),
        IndexQuery(embedding=vector(unit(workload.direction())), namespaces=everywhere, executed_since_ns=1),
        IndexQuery(embedding=vector(unit(workload.direction())), namespaces=everywhere, limit=100),
    ):
        assert_same(index, oracle, query)


def test_scores_are_those_of_the_rule_also_where_rounding_is_a_close_thing() -> None:
    generator = random.Random(5)
    dimension = 24
    rows = []
    query = [generator.choice([-1.0, 0.0, 1.0]) for _ in range(dimension)]
    for _ in range(300):
        row = [generator.choice([0.0, 0.0, 1.0, -1.0]) for _ in range(dimension)]
        # Sums of exactly 0, of almost 0, and of what lies half-way between two float32.
        row[0] += generator.choice([0.0, 2.0**-24, 2.0**-25, 2.0**-40])
        rows.append(elements(unit([*row, 1.0])))
    wanted = elements(unit([*query, 0.0]))
    scores = exact_scores(np.array(rows), np.array(wanted))
    assert scores.tolist() == [score(row, wanted) for row in rows]
    assert 0.0 in scores.tolist()


class HastyScan(FloatScan):
    """Takes the float32 products for the scores when it chooses the rows to score."""

    def _threshold(self, count: int) -> np.float32:
        self._error = 0.0
        return super()._threshold(count)


def wrong_scan_count(build_scan: Callable[..., FloatScan]) -> int:
    """Of 2,000 rankings of rows that float32 products cannot tell apart, those that are not by the rule."""
    wrong = 0
    for seed in range(50):
        workload = Workload(seed, dimension=384)
        workload.centres = workload.centres[:1]
        centre = vector(unit(workload.centres[0]))
        rows = np.tile(centre, (41, 1))
        for row in rows:
            at = workload.random.randrange(384)
            row[at] = np.nextafter(row[at], np.float32(workload.random.choice([-1, 1])))
        keys = [b"%d" % at for at in range(41)]
        query = vector(unit(workload.direction()))
        scores = exact_scores(rows.astype(np.float64), query.astype(np.float64)).tolist()
        order = sorted(range(41), key=lambda row: (-scores[row], keys[row]))
        scan = build_scan(rows, keys, Selection(41, np.arange(41)), query)
        wrong += sum([ranked.row for ranked in scan.best(count)] != order[:count] for count in range(1, 41))
    return wrong


def test_rankings_of_rows_that_float32_products_cannot_tell_apart_are_by_the_rule() -> None:
    assert wrong_scan_count(FloatScan) == 0


def test_a_scan_without_its_margin_of_error_is_caught() -> None:
    assert wrong_scan_count(HastyScan) > 0
