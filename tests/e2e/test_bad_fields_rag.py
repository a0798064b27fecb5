"""Every rule that rag.proto documents for a request, broken over the wire."""

import struct
from collections.abc import Iterator

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from errata.v1.example_pb2 import ExampleKey
from errata.v1.rag_pb2 import SearchFilter, SearchRequest
from errata.v1.token_pb2 import StateToken
from tests.block_events import correction, document
from tests.e2e.failures import FAILED_PRECONDITION, INVALID_ARGUMENT, Failed, failure_of, invalid, too_large
from tests.e2e.services import CALL_S_MAX, Learner, Rag, check_no_bug

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
DIMENSION = 384
NAN, INFINITY = float("nan"), float("inf")
MALFORMED_TOKEN = Failed(INVALID_ARGUMENT, "TOKEN_MALFORMED")


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


ZEROS = floats(*[0.0] * (DIMENSION - 1))

BAD_QUERIES: dict[str, tuple[SearchRequest, Failed]] = {
    "no question": (SearchRequest(), invalid("query")),
    "a text over a mebibyte": (SearchRequest(text="x" * (MIB + 1)), too_large("text", MIB)),
    "a document over a mebibyte": (SearchRequest(doc=document("x" * MIB)), too_large("doc", MIB)),
    "an empty embedding": (SearchRequest(embedding=b""), invalid("embedding")),
    "an embedding that ends within an element": (
        SearchRequest(embedding=ZEROS + b"\0\0\x80"),
        invalid("embedding"),
    ),
    "an embedding of another dimension": (SearchRequest(embedding=floats(1.0)), invalid("embedding")),
    "an embedding of one dimension more": (
        SearchRequest(embedding=ZEROS + floats(1.0, 1.0)),
        invalid("embedding"),
    ),
    "an embedding with NaN": (SearchRequest(embedding=ZEROS + floats(NAN)), invalid("embedding")),
    "an embedding with infinity": (SearchRequest(embedding=ZEROS + floats(INFINITY)), invalid("embedding")),
    "an embedding of all zeros": (SearchRequest(embedding=ZEROS + floats(0.0)), invalid("embedding")),
    "an index past the document": (
        SearchRequest(doc=document("a", "b"), selected_index=2),
        invalid("selected_index"),
    ),
    "a negative index": (
        SearchRequest(doc=document("a", "b"), selected_index=-1),
        invalid("selected_index"),
    ),
    "an index of an empty document": (
        SearchRequest(doc=document(), selected_index=0),
        invalid("selected_index"),
    ),
    "an index without a document": (SearchRequest(text="a", selected_index=0), invalid("selected_index")),
}

BAD_FIELDS: dict[str, tuple[SearchRequest, Failed]] = {
    "a negative limit": (SearchRequest(limit=-1), invalid("limit")),
    "a score above 1": (SearchRequest(min_score=2), invalid("min_score")),
    "a score below -1": (SearchRequest(min_score=-1.001), invalid("min_score")),
    "a score that is no number": (SearchRequest(min_score=NAN), invalid("min_score")),
    "a negative diversity": (SearchRequest(diversity=-0.001), invalid("diversity")),
    "a diversity above 1": (SearchRequest(diversity=1.001), invalid("diversity")),
    "a diversity that is no number": (SearchRequest(diversity=NAN), invalid("diversity")),
    "no answer a question": (SearchRequest(per_question_limit=0), invalid("per_question_limit")),
    "less than no answer a question": (SearchRequest(per_question_limit=-1), invalid("per_question_limit")),
    "a negative wait": (SearchRequest(max_wait=Duration(nanos=-1)), invalid("max_wait")),
    "a wait of two signs": (SearchRequest(max_wait=Duration(seconds=1, nanos=-1)), invalid("max_wait")),
    "a token of no message": (SearchRequest(min_token=b"\xff"), MALFORMED_TOKEN),
    "a token without a store": (
        SearchRequest(min_token=StateToken(revision=1).SerializeToString()),
        MALFORMED_TOKEN,
    ),
    "a token of no revision": (
        SearchRequest(min_token=StateToken(store_id=b"s").SerializeToString()),
        MALFORMED_TOKEN,
    ),
    "a token of a negative revision": (
        SearchRequest(min_token=StateToken(store_id=b"s", revision=-1).SerializeToString()),
        MALFORMED_TOKEN,
    ),
    "101 exclusions": (
        SearchRequest(exclude=[ExampleKey(id=f"e{number}") for number in range(101)]),
        too_large("exclude", 100),
    ),
    "an exclusion without an ID": (
        SearchRequest(exclude=[ExampleKey(id="a"), ExampleKey()]),
        invalid("exclude[1].id"),
    ),
    "an exclusion of a bad namespace": (
        SearchRequest(exclude=[ExampleKey(id="a", namespace="A")]),
        invalid("exclude[0].namespace"),
    ),
    "a bad namespace": (
        SearchRequest(filter=SearchFilter(namespaces=["", "a/b"])),
        invalid("filter.namespaces[1]"),
    ),
    "17 namespaces": (
        SearchRequest(filter=SearchFilter(namespaces=[f"n{number}" for number in range(17)])),
        too_large("filter.namespaces", 16),
    ),
    "65 labels": (
        SearchRequest(filter=SearchFilter(labels={f"k{number}": "v" for number in range(65)})),
        too_large("filter.labels", 64),
    ),
    "a label without a key": (
        SearchRequest(filter=SearchFilter(labels={"": "v"})),
        invalid("filter.labels['']"),
    ),
    "a label with a long value": (
        SearchRequest(filter=SearchFilter(labels={"k": "v" * 256})),
        too_large("filter.labels['k']", 255),
    ),
    "a time that is none": (
        SearchRequest(filter=SearchFilter(executed_since=Timestamp(nanos=-1))),
        invalid("filter.executed_since"),
    ),
    "a time after the year 9999": (
        SearchRequest(filter=SearchFilter(executed_since=Timestamp(seconds=300_000_000_000))),
        invalid("filter.executed_since"),
    ),
}
"""The question is added by the test: it is not what is wrong."""


@pytest.fixture(scope="module", autouse=True)
def _something_is_held(learner: Learner, rag: Rag) -> None:
    token = learner.learn(*correction("b", "list files", "ls"))
    assert rag.found("list files", min_token=token) == ["b"]


@pytest.fixture(autouse=True)
def _the_process_still_answers_and_met_no_bug(rag: Rag) -> Iterator[None]:
    yield
    assert rag.found("list files") == ["b"]
    check_no_bug(rag.process)


@pytest.mark.parametrize("name", BAD_QUERIES)
def test_a_bad_question_is_refused(rag: Rag, name: str) -> None:
    request, wanted = BAD_QUERIES[name]
    assert failure_of(lambda: rag.stub.Search(request, timeout=CALL_S_MAX)) == wanted


@pytest.mark.parametrize("name", BAD_FIELDS)
def test_a_bad_field_is_refused_with_its_path(rag: Rag, name: str) -> None:
    request, wanted = SearchRequest(text="list files"), BAD_FIELDS[name][1]
    request.MergeFrom(BAD_FIELDS[name][0])
    assert failure_of(lambda: rag.stub.Search(request, timeout=CALL_S_MAX)) == wanted


def test_a_token_of_another_store_is_waited_for_no_longer_than_asked(rag: Rag) -> None:
    token = StateToken(store_id=b"another store", epoch=1, revision=7).SerializeToString()
    failed = failure_of(lambda: rag.search("list files", min_token=token, wait_s=0.05))
    applied = str(rag.status().applied_revision)
    assert failed == Failed(FAILED_PRECONDITION, "TOKEN_NOT_REACHED", {"want": "7", "applied": applied})


def test_a_wait_for_a_token_ends_before_the_deadline_of_the_call_with_the_reason(rag: Rag) -> None:
    token = StateToken(store_id=b"another store", epoch=1, revision=7).SerializeToString()
    request = SearchRequest(text="list files", min_token=token, max_wait=Duration(seconds=3_600))
    failed = failure_of(lambda: rag.stub.Search(request, timeout=0.3))
    assert failed.reason == "TOKEN_NOT_REACHED"
