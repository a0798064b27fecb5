"""Runs each search where it costs least: a short one on the event loop, a long one on a thread.

To hand a search to a thread and its answer back costs 0.4 ms of CPU, more than a search of 10,000 rows: two
wake-ups, and a fight over the interpreter's lock with the event loop. But what runs on the loop holds up
every other call. How long a search will take is told by those before it of the same kind.
"""

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, Protocol

from rag_service.query import IndexAnswer, IndexQuery

INLINE_S_MAX: Final = 0.001
"""A search that is expected to take no longer runs on the event loop, and holds up others for so long."""
INLINE_ROWS_MAX: Final = 1_024
"""An index of so few rows is always searched there."""
LIMIT_SMALL: Final = 10
"""More hits than that take longer to find, and count as another kind of search."""

_WEIGHT: Final = 1 / 16
"""Of the newest search in what is expected."""

_Kind = tuple[bool, bool, bool]


class SearchedIndex(Protocol):
    """What is searched; see `ExampleIndex`."""

    @property
    def count(self) -> int:
        """Live examples."""
        ...

    def search(self, query: IndexQuery) -> IndexAnswer:
        """The examples nearest to a question."""
        ...


class SearchRunner:
    """See the module. Used on one event loop."""

    def __init__(self, workers: Executor, *, cpu_s: Callable[[], float] = time.thread_time) -> None:
        """Expects nothing yet: the first search of each kind goes to a thread.

        Args:
            workers: threads for long searches.
            cpu_s: the CPU time that the calling thread has used; waiting for others is no part of a search.
        """
        self._workers = workers
        self._cpu_s = cpu_s
        self._expected_s: dict[_Kind, float] = {}

    async def search(self, index: SearchedIndex, query: IndexQuery) -> IndexAnswer:
        """Searches an index; raises what its `search` raises."""
        if index.count <= INLINE_ROWS_MAX:
            # Says nothing of a larger one that may take its place.
            return index.search(query)
        kind = _kind(query)
        if self._expected_s.get(kind, math.inf) <= INLINE_S_MAX:
            answer, took_s = self._timed(index, query)
        else:
            answer, took_s = await asyncio.get_running_loop().run_in_executor(
                self._workers, self._timed, index, query
            )
        expected_s = self._expected_s.get(kind, took_s)
        self._expected_s[kind] = expected_s + (took_s - expected_s) * _WEIGHT
        return answer

    def _timed(self, index: SearchedIndex, query: IndexQuery) -> tuple[IndexAnswer, float]:
        begin_s = self._cpu_s()
        answer = index.search(query)
        return answer, self._cpu_s() - begin_s


def _kind(query: IndexQuery) -> _Kind:
    """What makes a search long or short, besides the index."""
    is_filtered = bool(
        query.labels or query.languages or query.exclude or query.executed_since_ns is not None
    )
    return query.diversity > 0, query.limit > LIMIT_SMALL, is_filtered
