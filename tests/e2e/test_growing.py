"""From no example at all, one by one, and while it is searched."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.block_events import correction
from tests.e2e.services import Rag, Services, services_on

pytestmark = pytest.mark.slow

ASKED = "list the files of a folder"


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with services_on(tmp_path / "store") as running:
        yield running


def test_with_no_example_and_with_each_of_the_first_a_search_finds_what_there_is(services: Services) -> None:
    learner, rag = services.learner, services.rag
    nothing = rag.search(ASKED, limit=10)
    assert (len(nothing.results), nothing.degraded, nothing.token) == (0, False, b"")
    status = rag.status()
    assert (status.example_count, status.dimension) == (0, 384)
    ids: list[str] = []
    for number in range(4):
        token = learner.learn(*correction(f"b{number}", f"{ASKED} {number}", f"ls {number}"))
        ids.append(f"b{number}")
        assert sorted(rag.found(ASKED, limit=10, min_token=token)) == ids
        assert rag.found(f"{ASKED} {number}", limit=1) == [f"b{number}"]
        assert (rag.status().example_count, learner.status().example_count) == (number + 1, number + 1)
    for block_id in ids:
        token = learner.forget(block_id).token
    assert rag.found(ASKED, limit=10, min_token=token) == []
    assert rag.status().example_count == 0
    again = learner.learn(*correction("again", ASKED, "ls"))
    assert rag.found(ASKED, min_token=again) == ["again"]


class Searching:
    """Searches on a thread of its own until it is told to end."""

    def __init__(self, rag: Rag) -> None:
        self._rag = rag
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.counts: list[tuple[int, int]] = []
        """Results of each search, and examples in the index after it."""
        self.error: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._end.is_set():
                found = self._rag.search(ASKED, limit=100, per_question_limit=100)
                self.counts.append((len(found.results), self._rag.status().example_count))
        except BaseException as error:  # noqa: BLE001 - reported by the test
            self.error = error


def test_an_index_that_grows_while_it_is_searched_never_shrinks_and_never_fails(services: Services) -> None:
    learner, rag = services.learner, services.rag
    with Searching(rag) as searching:
        for batch in range(30):
            token = learner.learn(
                *(
                    event
                    for number in range(5)
                    for event in correction(f"b{batch}-{number}", f"{ASKED} {batch} {number}", "ls")
                )
            )
        rag.search(ASKED, min_token=token)
    assert searching.error is None
    results = [count for count, _ in searching.counts]
    held = [count for _, count in searching.counts]
    # The loop has seen it grow: else nothing of this was tested.
    assert len(set(held)) > 5
    assert results == sorted(results)
    assert held == sorted(held)
    assert rag.status().example_count == learner.status().example_count == 150
    assert len(rag.found(ASKED, limit=100, per_question_limit=100)) == 100
