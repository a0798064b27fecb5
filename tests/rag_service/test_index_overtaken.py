"""A search that stands still at a chosen point while the index is written over and over.

It answers from the state that it began with; and each way of getting this wrong is caught by the same check.
"""

import threading
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from errata.v1.example_pb2 import Example
from rag_service.filters import Selection
from rag_service.generations import Publication, PublishedState
from rag_service.index import ExampleIndex, IndexAnswer, IndexQuery
from rag_service.ranking import FloatRanking
from rag_service.rows import NEVER, Pick, Rows
from rag_service.scoring import FloatScan
from tests.rag_service.index_samples import delete, put, vector
from tests.rag_service.versioned_examples import DIMENSION, QUERY, torn_hits, version_of, versions

WAIT_S_MAX = 30.0


class Gate:
    """Lets the test write while one search stands still."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._open = threading.Event()
        self._armed = True

    def wait_once(self) -> None:
        """Stands still, the first time only."""
        if self._armed:
            self._armed = False
            self._reached.set()
            assert self._open.wait(WAIT_S_MAX)

    def run(self, search: Callable[[], IndexAnswer], write: Callable[[], None]) -> IndexAnswer:
        """The answer of a search that stood still while `write` ran."""
        answers: list[IndexAnswer] = []
        searching = threading.Thread(target=lambda: answers.append(search()))
        searching.start()
        assert self._reached.wait(WAIT_S_MAX)
        try:
            write()
        finally:
            self._open.set()
            searching.join(WAIT_S_MAX)
        return answers[0]


class ForgetfulPublication(Publication):
    """A flaw: it does not know which searches run."""

    def oldest_seen(self) -> int:
        return self.current.generation


def pausing_publication(base: type[Publication], gate: Gate) -> Publication:
    class Pausing(base):  # type: ignore[valid-type,misc]  # either of two classes, chosen by the test
        def take(self) -> PublishedState:
            state: PublishedState = super().take()
            gate.wait_once()
            return state

    built: Publication = Pausing()
    return built


def pausing_scan(gate: Gate, *, before_reading: bool) -> type[FloatScan]:
    class Pausing(FloatScan):
        def __init__(
            self,
            embeddings: NDArray[np.float32],
            keys: Sequence[bytes],
            selection: Selection,
            query: NDArray[np.float32],
        ) -> None:
            if before_reading:
                gate.wait_once()
            super().__init__(embeddings, keys, selection, query)
            if not before_reading:
                gate.wait_once()

    return Pausing


def answer_while_written(where: str, publication: type[Publication]) -> tuple[IndexAnswer, ExampleIndex]:
    """The answer of a search that begins when every example has version 1 and is overtaken by many writes."""
    gate = Gate()
    build_scan = FloatScan
    if where != "state taken":
        build_scan = pausing_scan(gate, before_reading=where == "rows selected")
    index = ExampleIndex(
        dimension=DIMENSION,
        capacity_max=10_000,
        build_ranking=partial(FloatRanking, build_scan=build_scan),
    )
    pausing = pausing_publication(publication, gate) if where == "state taken" else publication()
    index._publication = pausing
    ids = [f"{at}" for at in range(6)]
    index.apply([version_of(at + 1, example_id, 1) for at, example_id in enumerate(ids)])

    def write() -> None:
        revision = 10
        for version in range(2, 12):
            for example_id in [*ids, f"new-{version}"]:
                revision += 1
                index.apply([version_of(revision, example_id, version)])
        index.apply([delete(revision + 1, ids[0]), put(revision + 2, ids[1], b"")])

    query = IndexQuery(embedding=vector(QUERY), limit=50, labels={"parity": "odd"})
    return gate.run(lambda: index.search(query), write), index


PLACES = ("state taken", "rows selected", "rows read")


@pytest.mark.parametrize("where", PLACES)
def test_a_search_that_is_overtaken_answers_from_the_state_it_began_with(where: str) -> None:
    answer, index = answer_while_written(where, Publication)
    assert versions(answer) == {f"{at}": 1 for at in range(6)}
    assert torn_hits(answer) == []
    assert answer.received_revision == 6
    newest = index.search(IndexQuery(embedding=vector(QUERY), limit=50))
    assert versions(newest) == {f"{at}": 11 for at in range(2, 6)} | {
        f"new-{version}": version for version in range(2, 12)
    }


@pytest.mark.parametrize("where", PLACES)
def test_an_index_that_forgets_which_searches_run_is_caught(where: str) -> None:
    answer, _ = answer_while_written(where, ForgetfulPublication)
    right = versions(answer) == {f"{at}": 1 for at in range(6)}
    assert not right or torn_hits(answer) != []


class RowsOfNow(Rows):
    """A flaw: shows what is live now, whatever the generation."""

    def visible(self, pick: Pick, generation: int) -> NDArray[np.bool_]:
        del generation
        live: NDArray[np.bool_] = self.died[pick] == NEVER
        return live


def test_an_index_that_tests_no_generation_is_caught() -> None:
    gate = Gate()
    index = ExampleIndex(dimension=DIMENSION, capacity_max=100)
    index._rows = RowsOfNow(dimension=DIMENSION, capacity=100)
    index._publication = pausing_publication(Publication, gate)
    index._ranking = FloatRanking(index._rows)
    index.apply([version_of(1, "a", 1), version_of(2, "b", 1)])
    query = IndexQuery(embedding=vector(QUERY), limit=9)

    def write() -> None:
        index.apply([version_of(3, "a", 2)])

    answer = gate.run(lambda: index.search(query), write)
    assert versions(answer) != {"a": 1, "b": 1}


def answer_of_a_slow_look(rows_type: type[Rows]) -> IndexAnswer:
    """The answer of a search that reads when rows were born, is overtaken, and then reads when they died."""
    gate = Gate()
    armed = threading.Event()

    class SlowRows(rows_type):  # type: ignore[valid-type,misc]  # either of two classes, chosen by the test
        def visible(self, pick: Pick, generation: int) -> NDArray[np.bool_]:
            seen: NDArray[np.bool_] = self.born[pick] <= generation
            if armed.is_set():
                gate.wait_once()
            seen &= self.died[pick] > generation
            return seen

    index = ExampleIndex(dimension=DIMENSION, capacity_max=100)
    index._rows = SlowRows(dimension=DIMENSION, capacity=100)
    index._ranking = FloatRanking(index._rows)
    index.apply([version_of(1, "a", 1), version_of(2, "b", 1), version_of(3, "c", 1)])
    # The first row of "a" is dead when the search begins, but not cleared.
    index.apply([version_of(4, "a", 2)])
    armed.set()

    def write() -> None:
        for version in range(3, 9):
            index.apply([version_of(version * 10, "b", version)])

    query = IndexQuery(embedding=vector(QUERY), limit=9)
    return gate.run(lambda: index.search(query), write)


class ImpatientRows(Rows):
    """A flaw: frees a row as soon as no search sees it, though one may be looking at its generations."""

    def reclaim(self, *, oldest_seen: int, next_generation: int) -> None:
        super().reclaim(oldest_seen=oldest_seen, next_generation=next_generation)
        while self._cleared:
            self._free.append(self._cleared.popleft()[1])


def test_a_row_is_not_written_again_while_a_search_looks_at_its_generations() -> None:
    answer = answer_of_a_slow_look(Rows)
    assert versions(answer) == {"a": 2, "b": 1, "c": 1}
    assert torn_hits(answer) == []


def test_an_index_that_frees_rows_too_early_is_caught() -> None:
    answer = answer_of_a_slow_look(ImpatientRows)
    examples = [Example.FromString(hit.example).query_text for hit in answer.hits]
    assert sorted(examples) != ["a 2", "b 1", "c 1"]
