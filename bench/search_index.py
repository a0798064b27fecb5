"""The index against numpy alone: time of a search, exactness, time of taking in an update, and memory.

    python -m bench.search_index --rows 1000 10000 100000 [--dimension 384] [--queries 60]
    python -m bench.search_index --rows 1000000 --queries 30
    python -m bench.search_index --rows 100000 --dimension 1536
    python -m bench.search_index --hard --rows 100000 [--queries 24]

`numpy` is the float32 product of the whole matrix with the query and an argpartition: what an index without
filters, questions, generations or proof would do. It and the index take turns, a dozen queries each; figures
are medians of CPU time in one thread, because on a busy machine the clock tells of the others, and ratios are
of these medians. The first answers are compared with the scores of all rows. See `search_data` for the rows.
"""

import os

# Read when numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import mmap
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.search_data import REAL_DIMENSION, Corpus, Vectors, hard, real
from errata.v1.block_pb2 import BLOCK_KIND_CODE, BLOCK_KIND_MARKUP
from errata.v1.example_pb2 import Example
from errata.v1.learner_pb2 import ExampleUpdate
from rag_service.index import ExampleIndex, IndexAnswer, IndexQuery, encoded_key
from rag_service.pruning.fastest import FastestRanking, Kernel
from rag_service.scoring import exact_scores

BATCH_ROWS: Final = 150
"""About as many as the Learner sends in one batch."""
TURN_QUERIES: Final = 12
LIMIT: Final = 10
CHECKED_COUNT: Final = 20
"""So many answers are compared with the scores of all rows."""
_CHUNK_ROWS: Final = 20_000


class Later:
    """Keeps jobs of the background until they are wanted."""

    def __init__(self) -> None:
        self._jobs: list[Iterator[None]] = []

    def run(self, job: Iterator[None]) -> None:
        """Keeps a job."""
        self._jobs.append(job)

    def finish(self) -> float:
        """Runs all, and what they begin; returns the seconds it took."""
        begin = time.thread_time()
        while self._jobs:
            for _ in self._jobs.pop(0):
                pass
        return time.thread_time() - begin


def update(revision: int, row: int, embedding: Vectors) -> ExampleUpdate:
    """An example of usual size; one in a hundred belongs to a small namespace, one in twenty asks again."""
    made = ExampleUpdate(revision=revision)
    example = made.put
    example.id = f"block-{row:012d}"
    example.namespace = "small" if row % 100 == 0 else ""
    example.embedding = embedding.tobytes()
    example.query_text = (
        f"how do I list the pods of namespace {row - row % 20 // 19} and then delete them all"
    )
    example.query.blocks.add(kind=BLOCK_KIND_MARKUP, contents=example.query_text)
    example.answer.add(kind=BLOCK_KIND_CODE, language="bash", contents=f"kubectl get pods -n {row} | sort")
    example.labels["team"] = f"team-{row % 7}"
    example.executed_time.seconds = 1_700_000_000 + row
    return made


def kept(row_count: int) -> NDArray[np.int64]:
    """The rows that a query without a filter may find: the last of each question of the default namespace."""
    rows = np.arange(row_count)
    again = (rows % 20 == 18) & (rows + 1 < row_count)
    return np.flatnonzero((rows % 100 != 0) & ~again)


def batches(rows: Vectors, first_revision: int, first_row: int = 0) -> Iterator[list[ExampleUpdate]]:
    """Batches that came over the wire: decoded, as the subscriber gets them."""
    for start in range(0, len(rows), BATCH_ROWS):
        some = range(start, min(start + BATCH_ROWS, len(rows)))
        yield [update(first_revision + row, first_row + row, rows[row]) for row in some]


def apply_us(index: ExampleIndex, rows: Vectors, first_revision: int, first_row: int = 0) -> float:
    """Applies a put of every row; the median over the batches of the microseconds a row."""
    costs = []
    for batch in batches(rows, first_revision, first_row):
        begin = time.thread_time()
        index.apply(batch)
        costs.append((time.thread_time() - begin) / len(batch) * 1e6)
    return statistics.median(costs)


def numpy_search(rows: Vectors, limit: int, query: Vectors) -> NDArray[np.int64]:
    """The rows with the greatest products."""
    products = rows @ query
    best = np.argpartition(products, len(products) - limit)[-limit:]
    return best[np.argsort(-products[best])]


def medians_ms(queries: Vectors, searches: Mapping[str, Callable[[Vectors], object]]) -> dict[str, float]:
    """Median milliseconds of each search; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in searches}
    for start in range(0, len(queries), TURN_QUERIES):
        for name, search in searches.items():
            # The first of a turn finds the caches full of what another search read.
            search(queries[start])
            for query in queries[start : start + TURN_QUERIES]:
                begin = time.thread_time()
                search(query)
                times[name].append((time.thread_time() - begin) * 1e3)
    return {name: statistics.median(taken) for name, taken in times.items()}


def resident_bytes() -> int:
    """Memory that the process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def wrong_count(rows: Vectors, queries: Vectors, search: Callable[[Vectors], IndexAnswer]) -> int:
    """How many answers have other examples, or another order, than the scores of all rows give."""
    may = kept(len(rows))
    wrong = 0
    for query in queries:
        scores = np.concatenate(
            [
                exact_scores(
                    rows[may[start : start + _CHUNK_ROWS]].astype(np.float64), query.astype(np.float64)
                )
                for start in range(0, len(may), _CHUNK_ROWS)
            ]
        )
        # Keys rise with rows.
        want = [f"block-{row:012d}" for row in may[np.lexsort((may, -scores))[:LIMIT]].tolist()]
        wrong += [Example.FromString(hit.example).id for hit in search(query).hits] != want
    return wrong


def indexed(rows: Vectors, later: Later) -> tuple[ExampleIndex, float]:
    """An index of the rows, without codes yet, and the microseconds that it took to apply one."""
    ranking = partial(FastestRanking, kernel=Kernel(later), background=later)
    index = ExampleIndex(dimension=rows.shape[1], build_ranking=ranking)
    return index, apply_us(index, rows, 1)


def asking(index: ExampleIndex, limit: int, query: Vectors) -> IndexAnswer:
    """Asks without a filter."""
    return index.search(IndexQuery(embedding=query, limit=limit))


def _searched(index: ExampleIndex, ask: Callable[[Vectors], IndexQuery], query: Vectors) -> IndexAnswer:
    return index.search(ask(query))


def measure(corpus: Corpus) -> None:
    """Prints the figures for one size."""
    rows, queries = corpus
    row_count, dimension = rows.shape
    later = Later()
    before_bytes = resident_bytes()
    index, plain_us = indexed(rows, later)
    codes_s = later.finish()
    grown_bytes = resident_bytes() - before_bytes
    excluded = frozenset(encoded_key("", f"block-{row:012d}") for row in range(1, 100, 10))
    asked: dict[str, Callable[[Vectors], IndexQuery]] = {
        "limit 3": lambda query: IndexQuery(embedding=query, limit=3),
        "limit 10": lambda query: IndexQuery(embedding=query, limit=10),
        "limit 100": lambda query: IndexQuery(embedding=query, limit=100),
        "diversity": lambda query: IndexQuery(embedding=query, limit=3, diversity=0.3, exclude=excluded),
        "label 1 in 7": lambda query: IndexQuery(embedding=query, limit=3, labels={"team": "team-3"}),
        "namespace 1 in 100": lambda query: IndexQuery(embedding=query, limit=3, namespaces=("small",)),
        "the last 50": lambda query: IndexQuery(
            embedding=query, limit=3, executed_since_ns=(1_700_000_000 + row_count - 50) * 10**9
        ),
        "a label that none has": lambda query: IndexQuery(embedding=query, labels={"no": "one"}),
    }
    searches: dict[str, Callable[[Vectors], object]] = {"numpy": partial(numpy_search, rows, LIMIT)}
    searches.update({name: partial(_searched, index, ask) for name, ask in asked.items()})
    medians = medians_ms(queries, searches)
    print(f"{row_count} x {dimension}")
    for name, median_ms in medians.items():
        print(f"  {name:24}{median_ms:10.3f} ms   numpy takes x {medians['numpy'] / median_ms:.1f}")
    checked = queries[:CHECKED_COUNT]
    wrong = wrong_count(rows, checked, partial(asking, index, LIMIT))
    print(f"  other answers than the scores of all rows give: {wrong} of {len(checked)}")
    some = rows[: 20 * BATCH_ROWS]
    new_us = apply_us(index, some, row_count + 1, row_count)
    again_us = apply_us(index, some, 2 * row_count + 1, row_count)
    print(f"  apply, us a row: new without codes {plain_us:.1f}, with {new_us:.1f}, replaced {again_us:.1f}")
    print(f"  building codes: {codes_s:.1f} s of one core, loading the kernel included")
    print(f"  memory: {grown_bytes / row_count:.0f} bytes a row, of which {dimension * 4} are embedding")


def measure_hard(row_count: int, query_count: int, dimension: int) -> None:
    """Prints the figures for data that bounds conclude little about."""
    print(f"{row_count} x {dimension}, limit {LIMIT}")
    for name, (rows, queries) in hard(row_count, query_count, dimension).items():
        later = Later()
        index, _ = indexed(rows, later)
        later.finish()
        searches: dict[str, Callable[[Vectors], object]] = {
            "numpy": partial(numpy_search, rows, LIMIT),
            "index": partial(asking, index, LIMIT),
        }
        medians = medians_ms(queries, searches)
        wrong = wrong_count(rows, queries[:3], partial(asking, index, LIMIT))
        print(
            f"  {name:36}{medians['index']:8.2f} ms   numpy takes x {medians['numpy'] / medians['index']:.1f}"
            f"   wrong: {wrong} of 3"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures every size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--dimension", type=int, default=REAL_DIMENSION)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--hard", action="store_true", help="data on which bounds conclude little")
    chosen = parser.parse_args(arguments)
    print(f"load: {os.getloadavg()[0]:.1f}")
    for row_count in chosen.rows:
        if chosen.hard:
            measure_hard(row_count, chosen.queries, chosen.dimension)
        else:
            measure(real(row_count, chosen.queries, chosen.dimension))


if __name__ == "__main__":
    main()
