"""Reads an update of an example into what the index keeps of it.

An update is malformed when its embedding is not a finite unit vector of the index's dimension. Nothing is
repaired: what is malformed cannot be found, and the Learner is where it is put right.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from errata.text import question_key
from errata.v1 import block_pb2, example_pb2, learner_pb2
from rag_service.row_lists import Facet
from rag_service.vectors import are_unit_lengths, lengths

_FLOAT32_LE: Final = np.dtype("<f4")
_TIME_NS_MAX: Final = 2**63 - 1


class Malformed(NamedTuple):
    """An example that cannot be searched."""

    key: bytes
    """See `encoded_key`."""
    revision: int
    reason: str
    """For people; holds nothing of the example's text."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Puts:
    """Examples as they now are, ready to be searched, column by column: one element an example in each."""

    keys: Sequence[bytes]
    """See `encoded_key`; each once."""
    revisions: Sequence[int]
    examples: Sequence[bytes]
    """Encoded, without their embeddings."""
    embeddings: NDArray[np.float32]
    """Unit vectors, shape (examples, dimension)."""
    executed_ns: Sequence[int]
    """Since the epoch, which is also where an unset time counts; see `time_ns`."""
    facets: Sequence[Sequence[Facet]]
    """Namespace, language, question, then the labels; each once."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Changes:
    """What some updates make of the examples that they change: each of these is in one of the three."""

    puts: Puts
    malformed: Sequence[Malformed]
    deleted: Sequence[bytes]
    """Keys of the examples that no longer exist."""


# An example as it was received: key, revision, namespace, message, embedding.
_Received: TypeAlias = tuple[bytes, int, str, example_pb2.Example, bytes]


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


def read_updates(updates: Sequence[learner_pb2.ExampleUpdate], dimension: int) -> Changes:
    """Reads updates; of several changes of one example the last decides.

    Args:
        updates: in order. One that names no example, as one of a kind that is not known here, changes none.
        dimension: of the embeddings.
    """
    # A message makes an attribute anew whenever it is asked for: each is asked for once.
    last: dict[bytes, _Received | None] = {}
    for update in updates:
        if update.HasField("put"):
            example = update.put
            namespace = example.namespace
            key = encoded_key(namespace, example.id)
            last[key] = (key, update.revision, namespace, example, example.embedding)
        elif update.HasField("deleted"):
            last[encoded_key(update.deleted.namespace, update.deleted.id)] = None
    sound, embeddings, malformed = _parted([each for each in last.values() if each is not None], dimension)
    return Changes(
        puts=_puts(sound, embeddings),
        malformed=malformed,
        deleted=[key for key, received in last.items() if received is None],
    )


def _parted(
    received: Sequence[_Received], dimension: int
) -> tuple[Sequence[_Received], NDArray[np.float32], Sequence[Malformed]]:
    """Those that can be searched, with their embeddings, and those that cannot."""
    want_bytes = _FLOAT32_LE.itemsize * dimension
    malformed = [
        Malformed(key, revision, f"its embedding has {len(embedding)} bytes, not {want_bytes}")
        for key, revision, _, _, embedding in received
        if len(embedding) != want_bytes
    ]
    if malformed:
        received = [each for each in received if len(each[-1]) == want_bytes]
    joined = b"".join([embedding for *_, embedding in received])
    embeddings = np.frombuffer(joined, dtype=_FLOAT32_LE).reshape(-1, dimension)
    # Together: one by one that takes as long as everything else.
    found = lengths(embeddings)
    sound = are_unit_lengths(found)
    if sound.all():
        return received, embeddings, malformed
    judged = list(zip(received, found.tolist(), sound.tolist(), strict=True))
    malformed += [
        Malformed(key, revision, _length_problem(length))
        for (key, revision, *_), length, is_sound in judged
        if not is_sound
    ]
    return [each for each, _, is_sound in judged if is_sound], embeddings[sound], malformed


def _length_problem(length: float) -> str:
    if not math.isfinite(length):
        return "its embedding is not finite"
    return f"its embedding has length {length:.9g}, not 1"


def _puts(received: Sequence[_Received], embeddings: NDArray[np.float32]) -> Puts:
    encoded: list[bytes] = []
    executed_ns: list[int] = []
    facets: list[Sequence[Facet]] = []
    # Few in a batch differ: each pair of them is made once.
    common: dict[tuple[str, str], tuple[Facet, Facet]] = {}
    # One for all of them: making one takes longer than filling it.
    kept = example_pb2.Example()
    for _, _, namespace, example, _ in received:
        kept.CopyFrom(example)
        kept.ClearField("embedding")
        encoded.append(kept.SerializeToString())
        executed = example.executed_time
        executed_ns.append(executed.seconds * 1_000_000_000 + executed.nanos)
        language = _answer_language(example)
        place = common.get((namespace, language))
        if place is None:
            place = common[namespace, language] = namespace_facet(namespace), language_facet(language)
        question = ("question", language, _question_hash(example.query_text))
        labels = (
            [label_facet(name, value) for name, value in found.items()] if (found := example.labels) else ()
        )
        facets.append((*place, question, *labels))
    if executed_ns and not -_TIME_NS_MAX <= min(executed_ns) <= max(executed_ns) <= _TIME_NS_MAX:
        executed_ns = [time_ns(0, nanos) for nanos in executed_ns]
    return Puts(
        keys=[each[0] for each in received],
        revisions=[each[1] for each in received],
        examples=encoded,
        embeddings=embeddings,
        executed_ns=executed_ns,
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
