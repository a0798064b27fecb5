"""What a search of the index promises, one promise a test."""

import math
import struct
from functools import partial

import numpy as np
import pytest

from errata.v1.example_pb2 import Example
from rag_service.index import ExampleIndex, IndexQuery, encoded_key
from rag_service.index_errors import (
    DimensionError,
    QueryLengthError,
)
from rag_service.ranking import FloatRanking
from rag_service.scoring import FloatScan, Ranked
from tests.rag_service.index_samples import found, found_ids, put, unit, vector
from tests.rag_service.rankings import RANKINGS

EAST = unit([1, 0])
NORTH = unit([0, 1])
NORTH_EAST = unit([1, 1])


def slope(degrees: float) -> bytes:
    return unit([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])


@pytest.fixture(params=RANKINGS)
def index(request: pytest.FixtureRequest) -> ExampleIndex:
    return ExampleIndex(dimension=2, build_ranking=request.param)


def test_an_empty_index_finds_nothing(index: ExampleIndex) -> None:
    answer = index.search(IndexQuery(embedding=vector(EAST), limit=5, diversity=0.5, min_score=0.1))
    assert list(answer.hits) == []
    assert answer.below_min_score_count == 0
    assert answer.received_revision == 0
    assert (index.count, index.quarantined_count, index.embedding_bytes) == (0, 0, 0)
    assert index.digest == bytes(16)


def test_the_nearest_come_first_with_their_cosine(index: ExampleIndex) -> None:
    index.apply([put(1, "north", NORTH), put(2, "east", EAST), put(3, "between", NORTH_EAST)])
    answer = index.search(IndexQuery(embedding=vector(EAST), limit=2))
    assert found(answer) == [("", "east", 1.0), ("", "between", float(vector(NORTH_EAST)[0]))]
    assert answer.received_revision == 3


def test_a_hit_is_the_example_as_it_came_without_its_embedding(index: ExampleIndex) -> None:
    update = put(1, "a", EAST, namespace="", labels={"team": "infra"}, executed_ns=1_500)
    index.apply([update])
    hit = index.search(IndexQuery(embedding=vector(EAST))).hits[0]
    expected = Example()
    expected.CopyFrom(update.put)
    expected.ClearField("embedding")
    assert Example.FromString(hit.example) == expected
    assert update.put.embedding == EAST


def test_equal_scores_stand_in_the_order_of_the_bytes_of_namespace_and_id(index: ExampleIndex) -> None:
    names = [("b", "1"), ("a", "é"), ("a", "z"), ("", "zz"), ("a", "Z"), ("ab", "0")]
    index.apply([put(at + 1, name, EAST, namespace=ns) for at, (ns, name) in enumerate(names)])
    query = IndexQuery(embedding=vector(EAST), limit=6, namespaces=("", "a", "ab", "b"), per_question_limit=9)
    assert [hit[:2] for hit in found(index.search(query))] == [
        ("", "zz"),
        ("a", "Z"),
        ("a", "z"),
        ("a", "é"),
        ("ab", "0"),
        ("b", "1"),
    ]


def test_a_score_is_never_outside_minus_one_to_one() -> None:
    # The elements of this vector are rounded up: its length, and its product with itself, are above 1.
    above = struct.pack("<2f", np.nextafter(np.float32(0.6), np.float32(1)), 0.8)
    index = ExampleIndex(dimension=2)
    index.apply([put(1, "same", above), put(2, "opposite", unit([-0.6, -0.8]))])
    scores = [score for *_, score in found(index.search(IndexQuery(embedding=vector(above))))]
    assert math.fsum(float(x) ** 2 for x in vector(above)) > 1 + 2**-24
    assert scores == [1.0, -1.0]


def test_no_namespace_means_the_default_one_alone(index: ExampleIndex) -> None:
    index.apply([put(1, "mine", EAST), put(2, "theirs", EAST, namespace="theirs")])
    assert found_ids(index.search(IndexQuery(embedding=vector(EAST)))) == ["mine"]
    assert found_ids(index.search(IndexQuery(embedding=vector(EAST), namespaces=("theirs",)))) == ["theirs"]
    assert found_ids(index.search(IndexQuery(embedding=vector(EAST), namespaces=("nobody's",)))) == []


def test_an_answer_is_in_the_language_of_its_first_code_block(index: ExampleIndex) -> None:
    index.apply(
        [
            put(1, "bash", EAST, languages=["bash", "sql"]),
            put(2, "sql", slope(1), languages=["sql", "bash"]),
            put(3, "prose", slope(2), languages=[]),
        ]
    )

    def in_languages(*languages: str) -> list[str]:
        return found_ids(index.search(IndexQuery(embedding=vector(EAST), languages=languages)))

    assert in_languages("sql") == ["sql"]
    assert in_languages("bash", "sql") == ["bash", "sql"]
    assert in_languages("") == ["prose"]
    assert in_languages("go") == []
    assert in_languages() == ["bash", "sql", "prose"]


def test_every_label_must_hold(index: ExampleIndex) -> None:
    index.apply(
        [
            put(1, "one", EAST, labels={"team": "infra"}),
            put(2, "both", slope(1), labels={"team": "infra", "tier": "1"}),
            put(3, "other", slope(2), labels={"team": "apps", "tier": "1"}),
        ]
    )

    def labelled(**labels: str) -> list[str]:
        return found_ids(index.search(IndexQuery(embedding=vector(EAST), labels=labels)))

    assert labelled(team="infra") == ["one", "both"]
    assert labelled(team="infra", tier="1") == ["both"]
    assert labelled(team="infra", tier="2") == []


def test_executed_since_includes_its_own_nanosecond(index: ExampleIndex) -> None:
    index.apply([put(1, "early", EAST, executed_ns=1_001), put(2, "late", slope(1), executed_ns=1_002)])
    since = [
        found_ids(index.search(IndexQuery(embedding=vector(EAST), executed_since_ns=ns)))
        for ns in (1_001, 1_002, 1_003, -(10**30), 10**30)
    ]
    assert since == [["early", "late"], ["late"], [], ["early", "late"], []]


def test_times_that_no_clock_shows_do_no_harm(index: ExampleIndex) -> None:
    updates = [put(1, "old", EAST), put(2, "new", slope(1))]
    updates[0].put.executed_time.seconds = -(2**63)
    updates[1].put.executed_time.seconds = 2**63 - 1
    index.apply(updates)
    query = IndexQuery(embedding=vector(EAST), executed_since_ns=10**18)
    assert found_ids(index.search(query)) == ["new"]


def test_what_is_excluded_makes_room_for_an_older_example_of_its_question(index: ExampleIndex) -> None:
    index.apply(
        [
            put(1, "older", EAST, query_text="list pods", executed_ns=1),
            put(2, "newer", EAST, query_text="List  Pods", executed_ns=2),
        ]
    )
    plain = IndexQuery(embedding=vector(EAST))
    excluding = IndexQuery(embedding=vector(EAST), exclude=frozenset({encoded_key("", "newer"), b"\0no"}))
    assert found_ids(index.search(plain)) == ["newer"]
    assert found_ids(index.search(excluding)) == ["older"]


def test_the_latest_answers_to_one_question_in_one_language_count(index: ExampleIndex) -> None:
    index.apply(
        [
            put(1, "b", EAST, query_text="q", executed_ns=7),
            put(2, "a", EAST, query_text="q", executed_ns=7),
            put(3, "older, though nearer", EAST, query_text="q", executed_ns=6),
            put(4, "in sql", slope(5), query_text="q", executed_ns=1, languages=["sql"]),
            put(5, "latest, though farther", slope(9), query_text="Q ", executed_ns=8),
        ]
    )

    def with_limit(per_question_limit: int) -> list[str]:
        query = IndexQuery(embedding=vector(EAST), limit=9, per_question_limit=per_question_limit)
        return found_ids(index.search(query))

    assert with_limit(1) == ["in sql", "latest, though farther"]
    assert with_limit(2) == ["a", "in sql", "latest, though farther"]
    assert with_limit(3) == ["a", "b", "in sql", "latest, though farther"]
    assert with_limit(4) == ["a", "b", "older, though nearer", "in sql", "latest, though farther"]


def test_a_question_asked_thousands_of_times_hides_no_other_question() -> None:
    looks: list[int] = []

    class CountedScan(FloatScan):
        def best(self, count: int) -> list[Ranked]:
            ranked = super().best(count)
            looks.append(len(ranked))
            return ranked

    index = ExampleIndex(dimension=2, build_ranking=partial(FloatRanking, build_scan=CountedScan))
    index.apply([put(at + 1, f"same {at}", EAST, query_text="q", executed_ns=at) for at in range(3_000)])
    index.apply([put(3_001, "other", slope(40)), put(3_002, "third", slope(50))])
    assert found_ids(index.search(IndexQuery(embedding=vector(EAST)))) == ["same 2999", "other", "third"]
    # Neither looks for them among all the others.
    assert sum(looks) < 100


def test_a_list_of_rows_that_is_copied_while_a_row_leaves_it_changes_no_answer(index: ExampleIndex) -> None:
    index.apply([put(at, f"{at}", slope(at), query_text="q", executed_ns=-at) for at in range(1, 4)])
    entries = index._rows.question_list(0).entries
    # In mid-removal the last row stands twice.
    entries.insert(1, entries[-1])
    entries.insert(1, entries[0])
    query = IndexQuery(embedding=vector(EAST), per_question_limit=2)
    assert found_ids(index.search(query)) == ["1", "2"]


def test_low_scores_are_left_out_and_counted_among_the_limit_best(index: ExampleIndex) -> None:
    index.apply([put(at + 1, f"{at}", slope(degrees)) for at, degrees in enumerate([0, 30, 70, 80, 85])])
    answer = index.search(IndexQuery(embedding=vector(EAST), limit=4, min_score=0.5))
    assert found_ids(answer) == ["0", "1"]
    assert answer.below_min_score_count == 2


def test_a_score_equal_to_the_least_one_is_kept(index: ExampleIndex) -> None:
    index.apply([put(1, "a", NORTH_EAST)])
    exactly = float(vector(NORTH_EAST)[0])
    for min_score, want in [(exactly, ["a"]), (math.nextafter(exactly, 2), [])]:
        assert found_ids(index.search(IndexQuery(embedding=vector(EAST), min_score=min_score))) == want


def test_diversity_prefers_what_is_unlike_the_chosen() -> None:
    index = ExampleIndex(dimension=3)
    near, nearer, aside = unit([1, 0.1, 0]), unit([1, 0.09, 0]), unit([1, 0, 0.5])
    index.apply([put(1, "near", near), put(2, "nearer", nearer), put(3, "aside", aside)])
    by_score = IndexQuery(embedding=vector(unit([1, 0, 0])), limit=2)
    diverse = IndexQuery(embedding=vector(unit([1, 0, 0])), limit=2, diversity=0.6)
    assert found_ids(index.search(by_score)) == ["nearer", "near"]
    assert found_ids(index.search(diverse)) == ["nearer", "aside"]


def test_diversity_chooses_from_a_thousand_at_most(index: ExampleIndex) -> None:
    index.apply([put(at + 1, f"{at}", slope(at / 30)) for at in range(1_005)])
    ids = found_ids(index.search(IndexQuery(embedding=vector(EAST), limit=1_003, diversity=0.1)))
    assert sorted(ids, key=int) == [f"{at}" for at in range(1_000)]


def test_diversity_counts_low_scores_among_the_limit_best_only(index: ExampleIndex) -> None:
    index.apply([put(at + 1, f"{at}", slope(degrees)) for at, degrees in enumerate([0, 10, 70, 80, 85])])
    answer = index.search(IndexQuery(embedding=vector(EAST), limit=3, min_score=0.5, diversity=0.3))
    assert found_ids(answer) == ["0", "1"]
    assert answer.below_min_score_count == 1


@pytest.mark.parametrize("shape", [(3,), (1,), (0,), (1, 2), ()])
def test_a_query_of_another_shape_is_refused(index: ExampleIndex, shape: tuple[int, ...]) -> None:
    with pytest.raises(DimensionError):
        index.search(IndexQuery(embedding=np.ones(shape, dtype=np.float32)))


@pytest.mark.parametrize("elements", [(0, 0), (2, 0), (math.nan, 0), (math.inf, 0)])
def test_a_query_that_is_no_unit_vector_is_refused(index: ExampleIndex, elements: tuple[float, ...]) -> None:
    with pytest.raises(QueryLengthError):
        index.search(IndexQuery(embedding=np.array(elements, dtype=np.float32)))


@pytest.mark.parametrize(
    ("limit", "per_question_limit", "diversity"), [(0, 1, 0), (1, 0, 0), (1, 1, math.nan), (1, 1, 1.1)]
)
def test_a_query_outside_its_bounds_is_refused(limit: int, per_question_limit: int, diversity: float) -> None:
    with pytest.raises(ValueError, match="limit"):
        IndexQuery(
            embedding=vector(EAST), limit=limit, per_question_limit=per_question_limit, diversity=diversity
        )


def test_an_index_of_no_dimension_is_refused() -> None:
    with pytest.raises(ValueError, match="dimension 0"):
        ExampleIndex(dimension=0)
