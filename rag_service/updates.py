"""Reads an update of an example into what the index keeps of it.

An update is malformed when its embedding is not a finite unit vector of the index's dimension. Nothing is
repaired: what is malformed cannot be found, and the Learner is where it is put right.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from errata.text import question_key
from errata.v1 import block_pb2, example_pb2, learner_pb2
from rag_service.row_lists import Facet
from rag_service.vectors import is_unit_length, lengths

_FLOAT32_LE: Final = np.dtype("<f4")
_TIME_NS_MAX: Final = 2**63 - 1


class Put(NamedTuple):
    """An example as it now is, ready to be searched. A tuple, as one is made for every example received."""

    revision: int
    example: bytes
    """Encoded, without its embedding."""
    embedding: NDArray[np.float32]
    """Unit vector, shape (dimension,). A view of the message that was read."""
    executed_ns: int
    """Since the epoch, which is also where an unset time counts; see `time_ns`."""
    facets: Sequence[Facet]
    """Namespace, language, question, then the labels; each once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """An example that cannot be searched."""

    revision: int
    reason: str
    """For people; holds nothing of the example's text."""


class Deleted(NamedTuple):
    """An example that no longer exists."""

    revision: int


Change = Put | Malformed | Deleted


def encoded_key(namespace: str, example_id: str) -> bytes:
    """Identity of an example as the index keeps it: namespace ‖ 0x00 ‖ ID. Ties are broken by its bytes."""
    return namespace.encode() + b"\0" + example_id.encode()


def namespace_facet(namespace: str) -> Facet:
    """Rows of a namespace."""
    return ("namespace", namespace)


def language_facet(language: str) -> Facet:
    """Rows whose answer is in a language."""
    return ("language", language)


def label_facet(key: str, value: str) -> Facet:
    """Rows with a label."""
    return ("label", key, value)


def time_ns(seconds: int, nanos: int) -> int:
    """A Timestamp in nanoseconds since the epoch; outside 1677-09-22 to 2262-04-11 the nearer of these."""
    return max(-_TIME_NS_MAX, min(_TIME_NS_MAX, seconds * 1_000_000_000 + nanos))


def read_updates(updates: Sequence[learner_pb2.ExampleUpdate], dimension: int) -> dict[bytes, Change]:
    """What some updates make of each example that they change, by its key; of several changes the last.

    Args:
        updates: in order. One that names no example, as one of a kind that is not known here, changes none.
        dimension: of the embeddings.
    """
    # The last change of each example decides.
    last: dict[bytes, learner_pb2.ExampleUpdate] = {}
    for update in updates:
        kind = update.WhichOneof("change")
        if kind == "put":
            example = update.put
            last[encoded_key(example.namespace, example.id)] = update
        elif kind == "deleted":
            last[encoded_key(update.deleted.namespace, update.deleted.id)] = update
    # Checked together: one by one that takes as long as everything else.
    embeddings = [update.put.embedding for update in last.values()]
    want_bytes = _FLOAT32_LE.itemsize * dimension
    sized = [embedding for embedding in embeddings if len(embedding) == want_bytes]
    rows = np.frombuffer(b"".join(sized), dtype=_FLOAT32_LE).reshape(-1, dimension)
    checked = zip(rows, lengths(rows).tolist(), strict=True)
    changes: dict[bytes, Change] = {}
    for (key, update), encoded in zip(last.items(), embeddings, strict=True):
        if len(encoded) == want_bytes:
            changes[key] = _read_example(update.put, update.revision, *next(checked))
        elif update.HasField("put"):
            reason = f"its embedding has {len(encoded)} bytes, not {want_bytes}"
            changes[key] = Malformed(revision=update.revision, reason=reason)
        else:
            changes[key] = Deleted(update.revision)
    return changes


def _read_example(
    example: example_pb2.Example, revision: int, embedding: NDArray[np.float32], embedding_length: float
) -> Put | Malformed:
    if not is_unit_length(embedding_length):
        if not math.isfinite(embedding_length):
            return Malformed(revision=revision, reason="its embedding is not finite")
        reason = f"its embedding has length {embedding_length:.9g}, not 1"
        return Malformed(revision=revision, reason=reason)
    language = _answer_language(example)
    executed = example.executed_time
    facets = [
        namespace_facet(example.namespace),
        language_facet(language),
        ("question", language, _question_hash(example.query_text)),
    ]
    labels = example.labels
    if labels:
        facets += [label_facet(name, value) for name, value in labels.items()]
    return Put(
        revision=revision,
        example=_without_embedding(example),
        embedding=embedding,
        executed_ns=time_ns(executed.seconds, executed.nanos),
        facets=facets,
    )


def _answer_language(example: example_pb2.Example) -> str:
    """Language of the answer's first code block; empty when it has none."""
    for block in example.answer:
        if block.kind == block_pb2.BLOCK_KIND_CODE:
            return block.language
    return ""


def _question_hash(query_text: str) -> str:
    """Stands for the question: two questions share one only if they are the same."""
    return blake2b(question_key(query_text).encode(), digest_size=16).hexdigest()


def _without_embedding(example: example_pb2.Example) -> bytes:
    kept = example_pb2.Example()
    kept.CopyFrom(example)
    kept.ClearField("embedding")
    return kept.SerializeToString()
