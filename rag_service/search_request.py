"""Reads a SearchRequest by its contract: every rule that a field has, and every default.

Nothing of what a question says ends up in an error. Pure.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from errata.serving.fields import (
    InvalidFieldError,
    TooLargeError,
    check_block_id,
    check_labels,
    check_namespace,
    check_namespaces,
    duration_s,
    timestamp_us,
)
from errata.text import Query, query_from_doc, query_from_text, redact, redact_doc
from errata.v1 import block_pb2, example_pb2, rag_pb2, token_pb2
from rag_service.query import IndexQuery
from rag_service.read_your_writes import decode
from rag_service.updates import encoded_key, time_ns

QUERY_BYTES_MAX: Final = 1024 * 1024
"""Of a question, as text or as a document."""
LIMIT_DEFAULT: Final = 3
LIMIT_MAX: Final = 100
NAMESPACE_COUNT_MAX: Final = 16
EXCLUDE_COUNT_MAX: Final = 100
MAX_WAIT_S_DEFAULT: Final = 2.0

_FLOAT32_LE: Final = np.dtype("<f4")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextQuestion:
    """A question in plain text."""

    text: str
    size_bytes: int

    def query(self, *, redaction: bool = True) -> Query:
        """What is embedded of it, secrets redacted unless told otherwise; blank for a blank question."""
        return query_from_text(redact(self.text) if redaction else self.text)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DocQuestion:
    """A document to be continued."""

    doc: block_pb2.Doc
    selected_index: int | None
    """The block at the cursor, one of the document's; None for the last."""
    size_bytes: int

    def query(self, *, redaction: bool = True) -> Query:
        """What is embedded of it, secrets redacted unless told otherwise; blank without a question."""
        doc = block_pb2.Doc()
        doc.CopyFrom(self.doc)
        for block in doc.blocks:
            # Never part of a query, and often most of a document: not worth redacting.
            block.ClearField("outputs")
        if redaction:
            redact_doc(doc)
        return query_from_doc(doc, self.selected_index)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EmbeddedQuestion:
    """A question as a vector."""

    embedding: NDArray[np.float32]
    """Unit vector, of any dimension."""


Question = TextQuestion | DocQuestion | EmbeddedQuestion


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Search:
    """A request that keeps every rule."""

    question: Question
    min_token: token_pb2.StateToken | None
    """What the answer must reflect; None for whatever there is."""
    max_wait_s: float
    """The longest wait for it."""
    namespaces: tuple[str, ...]
    """At least one, each once."""
    limit: int
    min_score: float | None
    labels: Mapping[str, str]
    languages: tuple[str, ...]
    executed_since_ns: int | None
    exclude: frozenset[bytes]
    per_question_limit: int
    diversity: float

    def index_query(self, embedding: NDArray[np.float32]) -> IndexQuery:
        """The search in the terms of the index, for a question with this unit vector."""
        return IndexQuery(
            embedding=embedding,
            limit=self.limit,
            min_score=self.min_score,
            namespaces=self.namespaces,
            labels=self.labels,
            languages=self.languages,
            executed_since_ns=self.executed_since_ns,
            exclude=self.exclude,
            per_question_limit=self.per_question_limit,
            diversity=self.diversity,
        )


class _Filter(NamedTuple):
    """What a SearchFilter lets pass."""

    namespaces: tuple[str, ...] = ("",)
    labels: Mapping[str, str] = MappingProxyType({})
    languages: tuple[str, ...] = ()
    executed_since_ns: int | None = None


_NO_FILTER: Final = _Filter()
_NO_KEYS: Final[frozenset[bytes]] = frozenset()


def read_search(request: rag_pb2.SearchRequest) -> Search:
    """The search that a request asks for.

    Raises:
        InvalidFieldError: a field breaks its rule.
        TooLargeError: something is too large, or there are too many of it.
        TokenMalformedError: `min_token` is none.
    """
    # Most searches have none, and its checks would be half of all.
    passing = _filter(request.filter) if request.HasField("filter") else _NO_FILTER
    return Search(
        question=_question(request),
        min_token=decode(request.min_token) if request.min_token else None,
        max_wait_s=duration_s(
            "max_wait", request.max_wait if request.HasField("max_wait") else None, MAX_WAIT_S_DEFAULT
        ),
        namespaces=passing.namespaces,
        limit=_limit(request.limit),
        min_score=_in_range("min_score", request.min_score, -1.0) if request.HasField("min_score") else None,
        labels=passing.labels,
        languages=passing.languages,
        executed_since_ns=passing.executed_since_ns,
        exclude=_exclude(request.exclude) if request.exclude else _NO_KEYS,
        per_question_limit=_per_question_limit(request),
        diversity=_in_range("diversity", request.diversity, 0.0),
    )


def _question(request: rag_pb2.SearchRequest) -> Question:
    kind = request.WhichOneof("query")
    if kind is None:
        raise InvalidFieldError("query", "required; set text, doc or embedding")
    if kind != "doc" and request.HasField("selected_index"):
        raise InvalidFieldError("selected_index", "goes with doc alone; leave it out")
    if kind == "text":
        size_bytes = len(request.text.encode())
        _check_size("text", size_bytes)
        return TextQuestion(text=request.text, size_bytes=size_bytes)
    if kind == "doc":
        size_bytes = request.doc.ByteSize()
        _check_size("doc", size_bytes)
        return DocQuestion(doc=request.doc, selected_index=_selected_index(request), size_bytes=size_bytes)
    return EmbeddedQuestion(embedding=_unit_vector(request.embedding))


def _check_size(field: str, size_bytes: int) -> None:
    if size_bytes > QUERY_BYTES_MAX:
        raise TooLargeError(field, QUERY_BYTES_MAX, "bytes", size_bytes)


def _selected_index(request: rag_pb2.SearchRequest) -> int | None:
    if not request.HasField("selected_index"):
        return None
    selected_index, block_count = request.selected_index, len(request.doc.blocks)
    if not 0 <= selected_index < block_count:
        raise InvalidFieldError(
            "selected_index",
            f"one of the document's {block_count} blocks, from 0; got {selected_index}",
        )
    return selected_index


def _unit_vector(encoded: bytes) -> NDArray[np.float32]:
    if not encoded or len(encoded) % _FLOAT32_LE.itemsize:
        raise InvalidFieldError(
            "embedding", f"float32, 4 bytes for each dimension and at least one; got {len(encoded)} bytes"
        )
    # In float64, where neither the squares of large elements overflow nor those of small ones vanish.
    exact = np.frombuffer(encoded, dtype=_FLOAT32_LE).astype(np.float64)
    length = math.sqrt(float(exact @ exact))
    if not math.isfinite(length):
        raise InvalidFieldError("embedding", "every element is a finite number; got NaN or infinity")
    if length == 0.0:
        raise InvalidFieldError("embedding", "all zeros have no direction; leave a blank question unasked")
    return (exact / length).astype(np.float32)


def _filter(search_filter: rag_pb2.SearchFilter) -> _Filter:
    check_namespaces("filter.namespaces", search_filter.namespaces, NAMESPACE_COUNT_MAX)
    labels = dict(search_filter.labels)
    check_labels("filter.labels", labels)
    return _Filter(
        namespaces=tuple(dict.fromkeys(search_filter.namespaces)) or _NO_FILTER.namespaces,
        labels=labels,
        languages=tuple(dict.fromkeys(search_filter.languages)),
        executed_since_ns=(
            _executed_since_ns(search_filter.executed_since)
            if search_filter.HasField("executed_since")
            else None
        ),
    )


def _limit(limit: int) -> int:
    if limit < 0:
        raise InvalidFieldError("limit", f"at least 0, got {limit}; 0 means {LIMIT_DEFAULT}")
    return min(limit, LIMIT_MAX) or LIMIT_DEFAULT


def _per_question_limit(request: rag_pb2.SearchRequest) -> int:
    if not request.HasField("per_question_limit"):
        return 1
    if request.per_question_limit < 1:
        raise InvalidFieldError(
            "per_question_limit", f"at least 1, got {request.per_question_limit}; leave it out for 1"
        )
    return request.per_question_limit


def _in_range(field: str, value: float, least: float) -> float:
    # NaN is in no range.
    if not least <= value <= 1.0:
        raise InvalidFieldError(field, f"in [{least:g}, 1], got {value:g}")
    return value


def _executed_since_ns(executed_since: Timestamp) -> int:
    timestamp_us("filter.executed_since", executed_since)
    return time_ns(executed_since.seconds, executed_since.nanos)


def _exclude(keys: Sequence[example_pb2.ExampleKey]) -> frozenset[bytes]:
    if len(keys) > EXCLUDE_COUNT_MAX:
        raise TooLargeError("exclude", EXCLUDE_COUNT_MAX, "keys", len(keys))
    for position, key in enumerate(keys):
        check_namespace(f"exclude[{position}].namespace", key.namespace)
        check_block_id(f"exclude[{position}].id", key.id)
    return frozenset(encoded_key(key.namespace, key.id) for key in keys)
