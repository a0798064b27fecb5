"""Examples that tell which embedding is theirs, so that an answer shows whether a row was torn."""

import random
from functools import cache

from errata.v1.example_pb2 import Example
from errata.v1.learner_pb2 import ExampleUpdate
from rag_service.index import IndexAnswer
from tests.rag_service.index_oracle import elements, score
from tests.rag_service.index_samples import put, unit

DIMENSION = 24
QUERY = unit([1.0] * DIMENSION)


def embedding_of(example_id: str, version: int) -> bytes:
    """A vector of its own for each version of each example."""
    generator = random.Random(f"{example_id} {version}")
    return unit([generator.gauss(0.3, 1) for _ in range(DIMENSION)])


def version_of(revision: int, example_id: str, version: int) -> ExampleUpdate:
    """An update whose text and label say which embedding belongs to it."""
    return put(
        revision,
        example_id,
        embedding_of(example_id, version),
        query_text=f"{example_id} {version}",
        labels={"parity": "odd" if version % 2 else "even"},
        executed_ns=version,
    )


@cache
def score_of(example_id: str, version: int) -> float:
    return score(elements(embedding_of(example_id, version)), elements(QUERY))


def torn_hits(answer: IndexAnswer) -> list[str]:
    """The hits whose score is not that of the embedding which belongs to their text."""
    torn = []
    for hit in answer.hits:
        example = Example.FromString(hit.example)
        if hit.score != score_of(example.id, int(example.query_text.partition(" ")[2])):
            torn.append(example.query_text)
    return torn


def versions(answer: IndexAnswer) -> dict[str, int]:
    """Version by ID."""
    examples = [Example.FromString(hit.example) for hit in answer.hits]
    assert len({example.id for example in examples}) == len(examples)
    return {example.id: int(example.query_text.partition(" ")[2]) for example in examples}
