"""Updates and queries in the thousands, of vectors that are easy, hard, or meant to break bounds."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from errata.embedding import build_embedder
from errata.v1.learner_pb2 import ExampleUpdate
from rag_service.index import ExampleIndex, IndexAnswer, IndexQuery, encoded_key
from tests.rag_service.index_samples import delete, put

Vectors = NDArray[np.float32]

NL2BASH: Final = Path(__file__).resolve().parents[3] / "data" / "nl2bash" / "learn.jsonl"
NAMESPACES: Final = ("", "small", "tiny")


def of_length_one(rows: NDArray[np.float64]) -> Vectors:
    unit: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def texts(count: int, _dimension: int, generator: np.random.Generator) -> Vectors:
    """Questions that people asked, embedded."""
    lines = NL2BASH.read_text(encoding="utf-8").splitlines()
    chosen = generator.integers(0, len(lines), count)
    questions = [json.loads(lines[place])["question"] for place in chosen.tolist()]
    return build_embedder("hashing").documents(questions)


def uniform(count: int, dimension: int, generator: np.random.Generator) -> Vectors:
    return of_length_one(generator.standard_normal((count, dimension)))


def clustered(count: int, dimension: int, generator: np.random.Generator) -> Vectors:
    """Near-duplicates around centres that are alike too."""
    centres = generator.standard_normal(dimension) + generator.standard_normal((count // 20 + 1, dimension))
    near = generator.choice([0.0, 0.02, 0.3], (count, 1)) * generator.standard_normal((count, dimension))
    return of_length_one(centres[generator.integers(0, len(centres), count)] + near)


def tight(count: int, dimension: int, generator: np.random.Generator) -> Vectors:
    """Scores that differ by less than any code can tell, many of them equal."""
    steps = generator.choice([0.0, 1e-7, 1e-4], (count, 1)) * generator.standard_normal((count, dimension))
    return of_length_one(generator.standard_normal(dimension) + steps)


def one_hot(count: int, dimension: int, generator: np.random.Generator) -> Vectors:
    """All ties, and elements too large for codes that were fitted to something else."""
    rows = np.eye(dimension)[generator.integers(0, dimension, count)]
    return of_length_one(rows * generator.choice([1.0, -1.0], (count, 1)))


def tiny(count: int, dimension: int, generator: np.random.Generator) -> Vectors:
    """Elements down to those that are no normal numbers."""
    return of_length_one(generator.standard_normal((count, dimension)) * np.logspace(0, -44, dimension))


KINDS: Final[Mapping[str, Callable[[int, int, np.random.Generator], Vectors]]] = {
    "texts": texts,
    "clustered": clustered,
    "uniform": uniform,
    "tight": tight,
    "one-hot": one_hot,
    "tiny": tiny,
}


class Traffic:
    """A stream of updates, and queries to be asked meanwhile; the same for the same seed."""

    def __init__(self, kind: str, *, example_count: int, dimension: int, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._vectors = KINDS[kind](2 * example_count, dimension, self._random)
        # Rows of another kind among them, so that no rotation fits all.
        strange = self._vectors[::50]
        strange[:] = uniform(len(strange), self.dimension, self._random)
        self._example_count = example_count
        self._revision = 0

    @property
    def dimension(self) -> int:
        return int(self._vectors.shape[1])

    def updates(self, count: int) -> list[ExampleUpdate]:
        return [self._update() for _ in range(count)]

    def _update(self) -> ExampleUpdate:
        self._revision += 1
        number = int(self._random.integers(self._example_count))
        example_id, namespace = f"{number:06}", NAMESPACES[2 if number % 97 == 0 else number % 5 == 0]
        if self._random.random() < 0.1:
            return delete(self._revision, example_id, namespace=namespace)
        vector = self._vectors[int(self._random.integers(len(self._vectors)))]
        return put(
            self._revision,
            example_id,
            vector.tobytes(),
            namespace=namespace,
            query_text=f"question {number // 2 if number % 3 else number % 40}",
            languages=("bash",) if number % 4 else ("sql",),
            labels={"team": f"{number % 7}", "rare": f"{number % 61}"},
            executed_ns=int(self._random.integers(1_000)),
        )

    def query(self) -> IndexQuery:
        generator = self._random
        vector = self._vectors[int(generator.integers(len(self._vectors)))].astype(np.float64)
        if generator.random() < 0.5:
            vector = vector + 0.3 * generator.standard_normal(self.dimension) / self.dimension**0.5
        elif generator.random() < 0.2:
            vector = -vector
        chosen = generator.integers(self._example_count, size=int(generator.choice([0, 20])))
        return IndexQuery(
            embedding=of_length_one(vector[None])[0],
            limit=int(generator.choice([1, 3, 10, 100])),
            min_score=None if generator.random() < 0.8 else float(generator.uniform(-0.2, 0.9)),
            namespaces=((), ("",), ("small",), ("", "tiny"), NAMESPACES)[int(generator.integers(5))],
            labels=({}, {}, {"team": "3"}, {"team": "2", "rare": "9"})[int(generator.integers(4))],
            languages=((), (), ("sql",), ("sql", "bash"))[int(generator.integers(4))],
            executed_since_ns=(None, None, 500, 995)[int(generator.integers(4))],
            exclude=frozenset(encoded_key("", f"{number:06}") for number in chosen.tolist()),
            per_question_limit=int(generator.choice([1, 1, 2, 1_000])),
            diversity=0.0 if generator.random() < 0.9 else 0.4,
        )


def difference(index: ExampleIndex, reference: ExampleIndex, query: IndexQuery) -> str | None:
    """What sets two answers apart; None when they are the same."""
    return answers_differ(index.search(query), reference.search(query))


def answers_differ(answer: IndexAnswer, wanted: IndexAnswer) -> str | None:
    """What sets two answers apart; None when they are the same."""
    if answer == wanted:
        return None
    places = [
        place for place, pair in enumerate(zip(answer.hits, wanted.hits, strict=False)) if pair[0] != pair[1]
    ]
    return f"{len(answer.hits)} hits for {len(wanted.hits)}, different at {places[:5]}"
