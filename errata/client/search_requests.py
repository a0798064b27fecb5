"""A SearchRequest from what people pass."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TypeAlias

from google.protobuf.duration_pb2 import Duration

from errata.client.blocks import Question
from errata.client.events import timestamp
from errata.v1.block_pb2 import Doc
from errata.v1.example_pb2 import ExampleKey
from errata.v1.rag_pb2 import SearchFilter, SearchRequest

SearchQuestion: TypeAlias = Question | bytes
"""Text, a document to be continued, or an embedding: float32, little-endian, 4 bytes for each dimension."""


def search_request(
    question: SearchQuestion,
    *,
    selected_index: int | None,
    limit: int,
    min_score: float | None,
    namespaces: Iterable[str],
    labels: Mapping[str, str] | None,
    languages: Iterable[str],
    executed_since: datetime | None,
    exclude: Iterable[str | ExampleKey],
    exclude_namespace: str,
    diversity: float,
    per_question_limit: int | None,
) -> SearchRequest:
    """The request, without a token. See SearchRequest for what the fields mean.

    Args:
        question: see SearchQuestion.
        selected_index: of a document.
        limit: 0 leaves the choice to the service.
        min_score: None leaves out no result.
        namespaces: at least one; the empty string is the default one.
        labels: that an example must have.
        languages: of which one must be that of the answer; none takes all.
        executed_since: with a time zone.
        exclude: examples to leave out, by ID or by key.
        exclude_namespace: of those that are given by ID.
        diversity: in [0, 1].
        per_question_limit: None leaves the choice to the service.

    Raises:
        ValueError: `executed_since` has no time zone.
    """
    check_several("namespaces", namespaces)
    check_several("languages", languages)
    check_several("exclude", exclude)
    request = SearchRequest(
        selected_index=selected_index,
        limit=limit,
        min_score=min_score,
        filter=SearchFilter(namespaces=namespaces, labels=labels, languages=languages),
        exclude=[
            ExampleKey(namespace=exclude_namespace, id=key) if isinstance(key, str) else key
            for key in exclude
        ],
        diversity=diversity,
        per_question_limit=per_question_limit,
    )
    if executed_since is not None:
        request.filter.executed_since.CopyFrom(timestamp(executed_since))
    if isinstance(question, str):
        request.text = question
    elif isinstance(question, Doc):
        request.doc.CopyFrom(question)
    else:
        request.embedding = question
    return request


def duration(seconds: float) -> Duration:
    """A length of time as the contract has it."""
    made = Duration()
    made.FromMicroseconds(round(seconds * 1_000_000))
    return made


def check_several(name: str, values: object) -> None:
    """Passes what is no single string.

    Raises:
        ValueError: it is one.
    """
    # A string is a sequence of strings, and would be taken for as many as it has characters.
    if isinstance(values, str):
        raise ValueError(f"{name}: several, such as [{values!r}], not one string")  # noqa: TRY004 - see Raises
