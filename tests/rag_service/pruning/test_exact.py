"""Ranking by codes gives the answers that scoring every row gives: the same examples in the same order."""

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from numpy.typing import NDArray

from rag_service.filters import Selection
from rag_service.index import ExampleIndex, IndexAnswer, IndexQuery
from rag_service.rows import Rows
from rag_service.scoring import Ranked, Scan
from rag_service.snapshot.file import SnapshotFile
from rag_service.snapshot.sections import filled_index
from tests.rag_service.pruning.traffic import KINDS, Traffic, answers_differ, difference
from tests.rag_service.rankings import AtOnce, ByHand
from tests.rag_service.snapshot.samples import written
from tests.rag_service.test_index_threads import run_threads

pytest.importorskip("numba")

from rag_service.background import BackgroundThread
from rag_service.pruning.fastest import FastestRanking, Kernel
from rag_service.pruning.ranking import PrunedRanking

CAPACITY: Final = 100_000
DIMENSIONS: Final = {"texts": 1024, "clustered": 96, "uniform": 33, "tight": 384, "one-hot": 20, "tiny": 160}


def differences(
    kind: str,
    *,
    example_count: int,
    query_count: int,
    seed: int,
    ranking: type[PrunedRanking] = PrunedRanking,
) -> list[str]:
    """How answers by codes differ from those without, over queries that are asked between updates."""
    traffic = Traffic(kind, example_count=example_count, dimension=DIMENSIONS[kind], seed=seed)
    by_hand = ByHand()
    index = ExampleIndex(
        dimension=traffic.dimension, capacity_max=CAPACITY, build_ranking=partial(ranking, background=by_hand)
    )
    reference = ExampleIndex(dimension=traffic.dimension, capacity_max=CAPACITY)
    found = []
    asked = 0
    while asked < query_count:
        updates = traffic.updates(max(example_count // 2, 2) if asked == 0 else 30)
        index.apply(updates)
        reference.apply(updates)
        for _ in range(10):
            # Codes are being built while there are updates and queries.
            by_hand.step()
            asked += 1
            differs = difference(index, reference, traffic.query())
            if differs is not None:
                found.append(differs)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_answers_by_codes_are_those_of_scoring_every_row(kind: str) -> None:
    assert differences(kind, example_count=2_000, query_count=100, seed=1) == []


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_ten_thousand_answers_by_codes_are_those_of_scoring_every_row(kind: str, seed: int) -> None:
    assert differences(kind, example_count=20_000, query_count=10_000 // 18 + 1, seed=seed) == []


class NotNoting(PrunedRanking):
    """Forgets what is written while codes are being built."""

    def wrote(self, rows: Sequence[int]) -> None:
        super().wrote(rows)
        if self._noted is not None:
            self._noted.clear()


def test_rows_that_are_not_noted_while_codes_are_built_are_missed() -> None:
    # A step of the background encodes 256 of 6,000 rows, and updates come every 10 steps.
    assert differences("clustered", example_count=12_000, query_count=60, seed=2, ranking=NotNoting)


class _WithoutFilter:
    """Finds the best by what does not pass too, and takes that out afterwards."""

    def __init__(self, scan: Scan, selection: Selection) -> None:
        self._scan = scan
        self._selection = selection

    def best(self, count: int) -> list[Ranked]:
        ranked = self._scan.best(count)
        passing = self._selection.passing(np.array([one.row for one in ranked], dtype=np.int64))
        return [one for one, passes in zip(ranked, passing.tolist(), strict=True) if passes]

    def drop(self, rows: NDArray[np.int64]) -> None:
        self._scan.drop(rows)

    def close(self) -> None:
        self._scan.close()


class SeedsThatDoNotPass(PrunedRanking):
    """Lets what does not pass decide how good a row must be."""

    def scan(self, selection: Selection, query: NDArray[np.float32]) -> Scan:
        return _WithoutFilter(
            super().scan(Selection(selection.row_count, np.arange(selection.row_count)), query), selection
        )


def test_a_threshold_from_rows_that_do_not_pass_loses_results() -> None:
    assert differences("clustered", example_count=2_000, query_count=40, seed=3, ranking=SeedsThatDoNotPass)


def test_a_whole_state_that_is_filled_in_is_searched_by_codes(tmp_path: Path) -> None:
    traffic = Traffic("clustered", example_count=3_000, dimension=96, seed=4)
    reference = ExampleIndex(dimension=96, capacity_max=CAPACITY)
    reference.apply(traffic.updates(6_000))
    rankings: list[PrunedRanking] = []

    def build_ranking(rows: Rows) -> PrunedRanking:
        rankings.append(PrunedRanking(rows, background=AtOnce()))
        return rankings[0]

    def build_index(dimension: int) -> ExampleIndex:
        return ExampleIndex(dimension=dimension, capacity_max=CAPACITY, build_ranking=build_ranking)

    with SnapshotFile.open(written(tmp_path / "snapshot", reference)) as file:
        index = filled_index(file, build_index, ())
    assert rankings[0].has_codes
    assert [differs for _ in range(60) if (differs := difference(index, reference, traffic.query()))] == []


@pytest.mark.parametrize(
    "change_count", [150, pytest.param(3_000, marks=pytest.mark.soak)], ids=["short", "long"]
)
def test_searches_beside_the_writer_and_the_building_of_codes_see_whole_states(change_count: int) -> None:
    """Each answer is that of the one state whose revision it names."""
    traffic = Traffic("clustered", example_count=3_000, dimension=48, seed=5)
    batches = [traffic.updates(2_500), *(traffic.updates(20) for _ in range(change_count))]
    queries = [traffic.query() for _ in range(40)]
    background = BackgroundThread()
    kernel = Kernel(background)
    index = ExampleIndex(
        dimension=48,
        capacity_max=CAPACITY,
        build_ranking=partial(FastestRanking, kernel=kernel, background=background, rows_min=1_000),
    )
    background.start()
    answers: list[tuple[IndexQuery, IndexAnswer]] = []
    stop, failed = threading.Event(), threading.Event()

    def read(reader: int) -> None:
        generator = np.random.default_rng(reader)
        try:
            while not stop.is_set():
                query = queries[int(generator.integers(len(queries)))]
                answers.append((query, index.search(query)))
        except BaseException:
            failed.set()
            raise

    def write() -> None:
        for batch in batches:
            index.apply(batch)
            # Two answers later at least one search has begun since: there are answers of many states.
            enough = len(answers) + 2
            while len(answers) < enough and not failed.is_set():
                time.sleep(0.0001)

    try:
        run_threads(write, [partial(read, reader) for reader in range(2)], stop)
    finally:
        background.close()
    assert kernel.works
    by_revision: dict[int, list[tuple[IndexQuery, IndexAnswer]]] = defaultdict(list)
    for query, answer in answers:
        by_revision[answer.received_revision].append((query, answer))
    assert len(by_revision) > change_count // 3
    reference = ExampleIndex(dimension=48, capacity_max=CAPACITY)
    for batch in batches:
        reference.apply(batch)
        for query, answer in by_revision.pop(reference.received_revision, []):
            assert answers_differ(answer, reference.search(query)) is None
    assert all(answer.hits == [] for some in by_revision.values() for _, answer in some)
