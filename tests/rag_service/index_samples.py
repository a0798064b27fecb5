"""Small updates and queries for tests of the index."""

import math
import struct
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from errata.v1.block_pb2 import BLOCK_KIND_CODE, BLOCK_KIND_MARKUP, Block
from errata.v1.example_pb2 import Example, ExampleKey
from errata.v1.learner_pb2 import ExampleUpdate
from rag_service.index import IndexAnswer


def unit(elements: Iterable[float]) -> bytes:
    """The encoded unit vector in a direction."""
    values = list(elements)
    length = math.sqrt(math.fsum(value * value for value in values))
    return struct.pack(f"<{len(values)}f", *[value / length for value in values])


def vector(embedding: bytes) -> NDArray[np.float32]:
    return np.frombuffer(embedding, dtype=np.float32)


def put(
    revision: int,
    example_id: str,
    embedding: bytes,
    *,
    namespace: str = "",
    query_text: str | None = None,
    languages: Sequence[str] = ("bash",),
    labels: Mapping[str, str] | None = None,
    executed_ns: int = 0,
) -> ExampleUpdate:
    """An update that puts an example, whose answer is prose and then a code block of each language.

    Without a query text it has a question that no other ID has.
    """
    seconds, nanos = divmod(executed_ns, 1_000_000_000)
    example = Example(
        id=example_id,
        namespace=namespace,
        embedding=embedding,
        query_text=f"question {example_id}" if query_text is None else query_text,
        labels=labels or {},
        answer=[Block(kind=BLOCK_KIND_MARKUP, language="markdown", contents="so:")],
    )
    example.executed_time.seconds, example.executed_time.nanos = seconds, nanos
    example.answer.extend(Block(kind=BLOCK_KIND_CODE, language=language) for language in languages)
    return ExampleUpdate(revision=revision, put=example)


def delete(revision: int, example_id: str, *, namespace: str = "") -> ExampleUpdate:
    return ExampleUpdate(revision=revision, deleted=ExampleKey(namespace=namespace, id=example_id))


def found(answer: IndexAnswer) -> list[tuple[str, str, float]]:
    """Namespace, ID and score of each hit."""
    examples = [(Example.FromString(hit.example), hit.score) for hit in answer.hits]
    return [(example.namespace, example.id, score) for example, score in examples]


def found_ids(answer: IndexAnswer) -> list[str]:
    return [example_id for _, example_id, _ in found(answer)]
