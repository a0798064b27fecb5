"""The index against numpy alone: time of a search, and of taking in an update.

    python -m bench.search_index [--rows 1000 10000 100000] [--dimension 384] [--queries 60]

`numpy` is the float32 product of the whole matrix with the query and an argpartition: what an index
without filters, questions, generations or proof would do. The two take turns, query by query, in one
process, so a busy machine slows both; ratios are of medians. Set OPENBLAS_NUM_THREADS=1 to compare single
threads.
"""

import argparse
import mmap
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from errata.v1.block_pb2 import BLOCK_KIND_CODE, BLOCK_KIND_MARKUP
from errata.v1.learner_pb2 import ExampleUpdate
from rag_service.index import ExampleIndex, IndexQuery, encoded_key

BATCH_ROWS = 150
"""About as many as the Learner sends in one batch."""
LIMIT = 3

Vectors = NDArray[np.float32]


def clustered(generator: np.random.Generator, count: int, dimension: int) -> Vectors:
    """Unit vectors in clusters of about 20, whose centres are alike too, as embedded commands are."""
    centres = generator.standard_normal((max(1, count // 20), dimension)) + generator.standard_normal(
        dimension
    )
    rows = centres[generator.integers(0, len(centres), count)]
    rows = rows + generator.standard_normal((count, dimension)) * generator.choice([0.1, 0.5], (count, 1))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Vectors = rows.astype(np.float32)
    return unit


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


def batches(rows: Vectors, first_revision: int) -> Iterator[list[ExampleUpdate]]:
    """Batches that came over the wire: decoded, as the subscriber gets them."""
    for start in range(0, len(rows), BATCH_ROWS):
        some = range(start, min(start + BATCH_ROWS, len(rows)))
        yield [update(first_revision + row, row, rows[row]) for row in some]


def apply_us(index: ExampleIndex, rows: Vectors, first_revision: int) -> float:
    """Applies a put of every row; the median over the batches of the microseconds a row."""
    costs = []
    for batch in batches(rows, first_revision):
        begin = time.perf_counter()
        index.apply(batch)
        costs.append((time.perf_counter() - begin) / len(batch) * 1e6)
    return statistics.median(costs)


def numpy_search(rows: Vectors, query: Vectors) -> NDArray[np.int64]:
    """The rows with the greatest products."""
    products = rows @ query
    best = np.argpartition(products, len(products) - LIMIT)[-LIMIT:]
    return best[np.argsort(-products[best])]


def medians_ms(queries: Vectors, searches: Sequence[Callable[[Vectors], object]]) -> list[float]:
    """Median milliseconds of each search, taking turns query by query."""
    times: list[list[float]] = [[] for _ in searches]
    for query in queries:
        for search, taken in zip(searches, times, strict=True):
            begin = time.perf_counter()
            search(query)
            taken.append((time.perf_counter() - begin) * 1e3)
    return [statistics.median(taken) for taken in times]


def resident_bytes() -> int:
    """Memory that the process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def measure(row_count: int, dimension: int, query_count: int) -> None:
    """Prints the figures for one size."""
    generator = np.random.default_rng(row_count)
    rows = clustered(generator, row_count + query_count, dimension)
    rows, queries = rows[:row_count], rows[row_count:]
    index = ExampleIndex(dimension=dimension)
    before_bytes = resident_bytes()
    fresh_us = apply_us(index, rows, 1)
    grown_bytes = resident_bytes() - before_bytes
    excluded = frozenset(encoded_key("", f"block-{row:012d}") for row in range(1, 100, 10))
    cases: dict[str, Callable[[Vectors], object]] = {
        "numpy": lambda query: numpy_search(rows, query),
        "index": lambda query: index.search(IndexQuery(embedding=query, limit=LIMIT)),
        "index, limit 100": lambda query: index.search(IndexQuery(embedding=query, limit=100)),
        "index, diversity": lambda query: index.search(
            IndexQuery(embedding=query, limit=LIMIT, diversity=0.3, exclude=excluded)
        ),
        "index, label 1 in 7": lambda query: index.search(
            IndexQuery(embedding=query, limit=LIMIT, labels={"team": "team-3"})
        ),
        "index, namespace 1 in 100": lambda query: index.search(
            IndexQuery(embedding=query, limit=LIMIT, namespaces=("small",))
        ),
    }
    medians = dict(zip(cases, medians_ms(queries, list(cases.values())), strict=True))
    again_us = apply_us(index, rows[: 10 * BATCH_ROWS], row_count + 1)
    print(f"{row_count} x {dimension}")
    for name, median_ms in medians.items():
        print(f"  {name:28}{median_ms:10.3f} ms   x {median_ms / medians['numpy']:.2f} of numpy's time")
    print(f"  apply: new {fresh_us:.1f} us a row, replaced {again_us:.1f} us a row")
    print(f"  memory: {grown_bytes / row_count:.0f} bytes a row, of which {dimension * 4} are embedding")


def main() -> None:
    """Measures every size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--queries", type=int, default=60)
    arguments = parser.parse_args()
    for row_count in arguments.rows:
        measure(row_count, arguments.dimension, arguments.queries)


if __name__ == "__main__":
    main()
