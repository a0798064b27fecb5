"""Which searches run on the event loop, and which on a thread."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rag_service.query import IndexAnswer, IndexQuery
from rag_service.search_runner import INLINE_ROWS_MAX, INLINE_S_MAX, LIMIT_SMALL, SearchRunner

QUERY = IndexQuery(embedding=np.array([1, 0], dtype=np.float32))
LONG_S = 10 * INLINE_S_MAX
SHORT_S = INLINE_S_MAX / 10


class TimedIndex:
    """Takes as long as it is told, by a clock of its own, and knows who asked last."""

    def __init__(self, count: int = INLINE_ROWS_MAX + 1) -> None:
        self.count = count
        self.takes_s = SHORT_S
        self.now_s = 0.0
        self.thread: threading.Thread | None = None

    def search(self, query: IndexQuery) -> IndexAnswer:
        self.thread = threading.current_thread()
        self.now_s += self.takes_s
        return IndexAnswer(hits=(), below_min_score_count=query.limit, received_revision=0)

    @property
    def was_on_loop(self) -> bool:
        return self.thread is threading.main_thread()


@pytest.fixture
def index() -> TimedIndex:
    return TimedIndex()


@pytest.fixture
def runner(index: TimedIndex) -> Iterator[SearchRunner]:
    with ThreadPoolExecutor(1) as workers:
        yield SearchRunner(workers, cpu_s=lambda: index.now_s)


async def test_a_search_of_unknown_length_goes_to_a_thread_and_short_ones_then_run_at_once(
    runner: SearchRunner, index: TimedIndex
) -> None:
    assert (await runner.search(index, QUERY)).below_min_score_count == QUERY.limit
    assert not index.was_on_loop
    assert (await runner.search(index, QUERY)).below_min_score_count == QUERY.limit
    assert index.was_on_loop


async def test_searches_that_become_long_go_to_a_thread_until_they_are_short_again(
    runner: SearchRunner, index: TimedIndex
) -> None:
    await runner.search(index, QUERY)
    index.takes_s = LONG_S
    held_up_count = 0
    for _ in range(20):
        await runner.search(index, QUERY)
        held_up_count += index.was_on_loop
    assert held_up_count <= 2
    assert not index.was_on_loop
    index.takes_s = SHORT_S
    for _ in range(100):
        await runner.search(index, QUERY)
    assert index.was_on_loop


async def test_a_rare_long_search_does_not_send_the_short_ones_to_a_thread(
    runner: SearchRunner, index: TimedIndex
) -> None:
    for _ in range(20):
        await runner.search(index, QUERY)
    index.takes_s = 2 * INLINE_S_MAX
    await runner.search(index, QUERY)
    index.takes_s = SHORT_S
    await runner.search(index, QUERY)
    assert index.was_on_loop


@pytest.mark.parametrize(
    "other",
    [
        IndexQuery(embedding=QUERY.embedding, diversity=0.5),
        IndexQuery(embedding=QUERY.embedding, limit=LIMIT_SMALL + 1),
        IndexQuery(embedding=QUERY.embedding, labels={"team": "infra"}),
        IndexQuery(embedding=QUERY.embedding, languages=("bash",)),
        IndexQuery(embedding=QUERY.embedding, exclude=frozenset([b"x"])),
        IndexQuery(embedding=QUERY.embedding, executed_since_ns=0),
    ],
    ids=["diversity", "limit", "labels", "languages", "exclude", "since"],
)
async def test_each_kind_of_search_is_expected_to_take_what_its_own_kind_took(
    runner: SearchRunner, index: TimedIndex, other: IndexQuery
) -> None:
    await runner.search(index, QUERY)
    index.takes_s = LONG_S
    await runner.search(index, other)
    assert not index.was_on_loop
    await runner.search(index, other)
    assert not index.was_on_loop
    index.takes_s = SHORT_S
    await runner.search(index, QUERY)
    assert index.was_on_loop


async def test_a_small_index_is_searched_at_once_however_long_others_took(
    runner: SearchRunner, index: TimedIndex
) -> None:
    index.takes_s = LONG_S
    await runner.search(index, QUERY)
    small = TimedIndex(INLINE_ROWS_MAX)
    await runner.search(small, QUERY)
    assert small.was_on_loop


async def test_a_small_index_says_nothing_of_a_large_one(runner: SearchRunner, index: TimedIndex) -> None:
    await runner.search(TimedIndex(INLINE_ROWS_MAX), QUERY)
    await runner.search(index, QUERY)
    assert not index.was_on_loop


async def test_what_a_search_raises_reaches_who_asked(runner: SearchRunner) -> None:
    class Broken(TimedIndex):
        def search(self, query: IndexQuery) -> IndexAnswer:
            raise ZeroDivisionError(query.limit)

    with pytest.raises(ZeroDivisionError):
        await runner.search(Broken(), QUERY)
    with pytest.raises(ZeroDivisionError):
        await runner.search(Broken(1), QUERY)
