"""What searches are measured on: embedded NL2Bash texts, more rows grown from them, and data made to be hard.

10,594 tasks, their 856 paraphrases and 20,000 variants of tasks are embedded with `minilm`, once: they are
kept in the folder for temporary files. More rows lie between near neighbours of these, moved by the
difference of other near neighbours, so that they are clustered as texts are. For 1,536 dimensions there is no
embedder at hand: the rows are random features, not linear ones, of those of 384.
"""

import hashlib
import json
import os
import random
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.report import progress
from errata.embedding import build_embedder
from errata.text import query_from_text

Vectors = NDArray[np.float32]

DATA: Final = Path(__file__).resolve().parent.parent / "data" / "nl2bash"
REAL_DIMENSION: Final = 384
WIDE_DIMENSION: Final = 1536

_VARIANT_COUNT: Final = 20_000
_NEIGHBOUR_COUNT: Final = 10
_CHUNK_ROWS: Final = 2_000
_SPECIFIC: Final = re.compile(r"[./\"*$]")
_NAMES: Final = [
    "report.csv",
    "data",
    "build.log",
    "main.py",
    "src",
    "backup",
    "notes.txt",
    "/var/log",
    "/etc",
    "~/projects",
    "images",
    "archive.tar",
    "config",
    "x.conf",
    "users.db",
]


class Corpus(NamedTuple):
    """Rows to be searched, and what is searched for."""

    rows: Vectors
    queries: Vectors


def unit_rows(rows: NDArray[np.floating]) -> Vectors:
    """The rows with length 1."""
    exact = rows.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    return exact.astype(np.float32)


def real(row_count: int, query_count: int, dimension: int = REAL_DIMENSION) -> Corpus:
    """Embedded texts and rows grown from them, and paraphrases as queries, in an order by chance.

    Args:
        row_count: as many as there are tasks, or fewer, are tasks alone.
        query_count: more than there are paraphrases are paraphrases moved towards a row.
        dimension: `REAL_DIMENSION` or `WIDE_DIMENSION`.
    """
    texts = _embedded_texts()
    tasks, pool = texts["tasks"], np.concatenate([texts["tasks"], texts["variants"]])
    generator = np.random.default_rng(row_count)
    if row_count <= len(tasks):
        rows = tasks[generator.permutation(len(tasks))[:row_count]]
    else:
        rows = _grown(pool, row_count, generator)
    queries = texts["paraphrases"][generator.permutation(len(texts["paraphrases"]))]
    if query_count > len(queries):
        queries = np.concatenate([queries, _between(queries, tasks, query_count - len(queries), generator)])
    queries = queries[:query_count]
    if dimension == WIDE_DIMENSION:
        rows, queries = _widened(rows), _widened(queries)
    return Corpus(np.ascontiguousarray(rows), np.ascontiguousarray(queries))


def clustered(generator: np.random.Generator, count: int, dimension: int) -> Vectors:
    """Unit vectors in clusters of about 20, whose centres are alike too: no text is embedded for them."""
    centres = generator.standard_normal((max(1, count // 20), dimension)) + generator.standard_normal(
        dimension
    )
    rows = centres[generator.integers(0, len(centres), count)]
    return unit_rows(
        rows + generator.standard_normal((count, dimension)) * generator.choice([0.1, 0.5], (count, 1))
    )


def hard(row_count: int, query_count: int, dimension: int = REAL_DIMENSION) -> dict[str, Corpus]:
    """By name, data on which bounds conclude little or nothing, and some that only seem so."""
    generator = np.random.default_rng(row_count)

    def uniform(count: int) -> Vectors:
        return unit_rows(generator.standard_normal((count, dimension), dtype=np.float32))

    sphere, few = uniform(row_count), uniform(max(1, row_count // 100))
    common, queries = real(row_count, query_count, dimension)
    mixed = common.copy()
    mixed[::10] = sphere[::10]
    one = np.repeat(uniform(1), row_count, axis=0)
    copies = np.repeat(few, -(-row_count // len(few)), axis=0)[:row_count]
    ball = unit_rows(one + 1e-4 * sphere)
    one_hot = np.zeros((row_count, dimension), dtype=np.float32)
    one_hot[np.arange(row_count), np.arange(row_count) % dimension] = 1
    return {
        "uniform on the sphere": Corpus(sphere, uniform(query_count)),
        "all rows equal": Corpus(one, uniform(query_count)),
        "all rows equal, one of them asked": Corpus(one, one[:query_count]),
        "1,000 rows x 100 copies": Corpus(generator.permutation(copies), few[:query_count]),
        "one-hot rows": Corpus(one_hot, uniform(query_count)),
        "one ball of radius 1e-4": Corpus(ball, ball[:query_count]),
        "real + 10 % uniform rows": Corpus(mixed, queries),
        "real rows, uniform queries": Corpus(common, uniform(query_count)),
    }


def _embedded_texts() -> dict[str, Vectors]:
    embedder_spec = "minilm"
    tasks = [_question(line) for line in (DATA / "learn.jsonl").read_text(encoding="utf-8").splitlines()]
    paraphrases = [
        _question(line) for line in (DATA / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    texts = {"tasks": tasks, "paraphrases": paraphrases, "variants": _variants(tasks)}
    named = hashlib.sha256(repr((embedder_spec, texts)).encode()).hexdigest()[:16]
    cached = Path(tempfile.gettempdir()) / f"errata-bench-{named}.npz"
    if not cached.exists():
        progress(f"embedding {sum(map(len, texts.values()))} texts, some minutes, kept in {cached}")
        embedder = build_embedder(embedder_spec)
        made = {
            name: embedder.documents([query_from_text(text).text for text in some])
            for name, some in texts.items()
        }
        half = cached.with_suffix(f".{os.getpid()}.npz")
        with half.open("wb") as file:
            np.savez(file, allow_pickle=False, **made)
        half.replace(cached)
    with np.load(cached) as loaded:
        return {name: loaded[name] for name in texts}


def _question(line: str) -> str:
    question: str = json.loads(line)["question"]
    return question


def _variants(tasks: Sequence[str]) -> list[str]:
    """Tasks with other names in them, with words left out, and with a second task behind."""
    chance = random.Random(1)  # noqa: S311 - nothing secret

    def renamed(word: str) -> str:
        if chance.random() < 0.3:
            return word
        if word.isdigit():
            return f"{chance.randint(1, 99)}"
        return chance.choice(_NAMES) if _SPECIFIC.search(word) else word

    def variant(task: str) -> str:
        kind = chance.random()
        if kind < 0.4:
            return " ".join(map(renamed, task.split()))
        if kind < 0.7:
            return " ".join(word for word in task.split() if chance.random() > 0.2) or task
        return f"{task} and then {chance.choice(tasks)}"

    return [variant(chance.choice(tasks)) for _ in range(_VARIANT_COUNT)]


def _grown(pool: Vectors, row_count: int, generator: np.random.Generator) -> Vectors:
    """The pool, and rows between near neighbours of it, in an order by chance."""
    neighbours = _neighbours(pool)
    rows = np.empty((row_count, pool.shape[1]), dtype=np.float32)
    first_count = min(len(pool), row_count)
    rows[:first_count] = pool[:first_count]
    for start in range(first_count, row_count, _CHUNK_ROWS):
        count = min(_CHUNK_ROWS, row_count - start)
        here, there = generator.integers(0, len(pool), (2, count))
        beside_here, beside_there = neighbours[
            [here, there], generator.integers(0, _NEIGHBOUR_COUNT, (2, count))
        ]
        step, shift = generator.uniform(0, [[[0.5]], [[0.6]]], (2, count, 1))
        rows[start : start + count] = unit_rows(
            (1 - step) * pool[here] + step * pool[beside_here] + shift * (pool[there] - pool[beside_there])
        )
    return rows[generator.permutation(row_count)]


def _neighbours(pool: Vectors) -> NDArray[np.int64]:
    """The numbers of the nearest rows of each row of the pool."""
    near = np.empty((len(pool), _NEIGHBOUR_COUNT), dtype=np.int64)
    for start in range(0, len(pool), _CHUNK_ROWS):
        alike = pool[start : start + _CHUNK_ROWS] @ pool.T
        alike[np.arange(len(alike)), np.arange(start, start + len(alike))] = -2
        near[start : start + len(alike)] = np.argpartition(-alike, _NEIGHBOUR_COUNT, axis=1)[
            :, :_NEIGHBOUR_COUNT
        ]
    return near


def _between(queries: Vectors, rows: Vectors, count: int, generator: np.random.Generator) -> Vectors:
    share = generator.uniform(0.1, 0.6, (count, 1))
    some = queries[generator.integers(0, len(queries), count)]
    return unit_rows((1 - share) * some + share * rows[generator.integers(0, len(rows), count)])


def _widened(rows: Vectors) -> Vectors:
    weights = np.random.default_rng(5).standard_normal((rows.shape[1], WIDE_DIMENSION)).astype(np.float32)
    wide = np.empty((len(rows), WIDE_DIMENSION), dtype=np.float32)
    for start in range(0, len(rows), _CHUNK_ROWS):
        wide[start : start + _CHUNK_ROWS] = unit_rows(
            np.tanh(1.2 * (rows[start : start + _CHUNK_ROWS] @ weights))
        )
    return wide
