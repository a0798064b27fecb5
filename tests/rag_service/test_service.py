"""Requests by their fields, and the states of the service, over the wire."""

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from errata.embedding import EmbedderRejectedError, EmbedderUnavailableError
from errata.serving.statuses import errors_without_rule
from errata.v1 import example_pb2, rag_pb2
from rag_service.answer import ANSWER_BYTES_MAX
from rag_service.errors import SearchError
from rag_service.search_runner import INLINE_ROWS_MAX
from rag_service.service import STATUSES
from tests.rag_service.serving import MIB, floats, markup, serving

Request = rag_pb2.SearchRequest
Filter = rag_pb2.SearchFilter
Key = example_pb2.ExampleKey

INVALID, LARGE = "INVALID_FIELD", "TOO_LARGE"
TEN = [1.0] * 8

BAD_REQUESTS = [
    ("no query", Request(), INVALID, "query"),
    ("long text", Request(text="x" * (MIB + 1)), LARGE, "text"),
    ("text long in bytes, not in characters", Request(text="ü" * (MIB // 2 + 1)), LARGE, "text"),
    ("long document", Request(doc=markup("x" * MIB)), LARGE, "doc"),
    ("no element", Request(embedding=b""), INVALID, "embedding"),
    ("part of a float", Request(embedding=floats(*TEN)[:-1]), INVALID, "embedding"),
    ("other dimension", Request(embedding=floats(*TEN, 1.0)), INVALID, "embedding"),
    ("zeros", Request(embedding=floats(*[0.0] * 8)), INVALID, "embedding"),
    ("not a number", Request(embedding=floats(*TEN[1:], float("nan"))), INVALID, "embedding"),
    ("infinite", Request(embedding=floats(*TEN[1:], float("-inf"))), INVALID, "embedding"),
    ("cursor past the end", Request(doc=markup("a", "b"), selected_index=2), INVALID, "selected_index"),
    ("cursor before the start", Request(doc=markup("a"), selected_index=-1), INVALID, "selected_index"),
    ("cursor in an empty document", Request(doc=markup(), selected_index=0), INVALID, "selected_index"),
    ("cursor in a text", Request(text="a", selected_index=0), INVALID, "selected_index"),
    ("cursor in a vector", Request(embedding=floats(*TEN), selected_index=0), INVALID, "selected_index"),
    ("limit below 0", Request(text="a", limit=-1), INVALID, "limit"),
    ("score below -1", Request(text="a", min_score=-1.01), INVALID, "min_score"),
    ("score above 1", Request(text="a", min_score=1.01), INVALID, "min_score"),
    ("score that is no number", Request(text="a", min_score=float("nan")), INVALID, "min_score"),
    ("diversity below 0", Request(text="a", diversity=-0.1), INVALID, "diversity"),
    ("diversity above 1", Request(text="a", diversity=1.1), INVALID, "diversity"),
    ("diversity that is no number", Request(text="a", diversity=float("nan")), INVALID, "diversity"),
    ("none of a question", Request(text="a", per_question_limit=0), INVALID, "per_question_limit"),
    ("less of a question", Request(text="a", per_question_limit=-5), INVALID, "per_question_limit"),
    ("too many excluded", Request(text="a", exclude=[Key(id="x")] * 101), LARGE, "exclude"),
    ("excluded without ID", Request(text="a", exclude=[Key(id="x"), Key()]), INVALID, "exclude[1].id"),
    (
        "excluded in a bad namespace",
        Request(text="a", exclude=[Key(id="x", namespace="A")]),
        INVALID,
        "exclude[0].namespace",
    ),
    (
        "bad namespace",
        Request(text="a", filter=Filter(namespaces=["a", "Team A"])),
        INVALID,
        "filter.namespaces[1]",
    ),
    (
        "too many namespaces",
        Request(text="a", filter=Filter(namespaces=["a"] * 17)),
        LARGE,
        "filter.namespaces",
    ),
    ("label without key", Request(text="a", filter=Filter(labels={"": "x"})), INVALID, "filter.labels['']"),
    (
        "too many labels",
        Request(text="a", filter=Filter(labels={f"k{n}": "" for n in range(65)})),
        LARGE,
        "filter.labels",
    ),
    (
        "long label",
        Request(text="a", filter=Filter(labels={"team": "x" * 256})),
        LARGE,
        "filter.labels['team']",
    ),
    (
        "time outside of time",
        Request(text="a", filter=Filter(executed_since=Timestamp(seconds=2**60))),
        INVALID,
        "filter.executed_since",
    ),
    ("wait below 0", Request(text="a", max_wait=Duration(seconds=-1)), INVALID, "max_wait"),
    ("wait of mixed signs", Request(text="a", max_wait=Duration(seconds=1, nanos=-1)), INVALID, "max_wait"),
]


async def test_each_rule_that_a_request_breaks_is_named_by_its_field() -> None:
    async with serving() as it:
        ends = {name: await it.failure(request) for name, request, _, _ in BAD_REQUESTS}
    for name, _, reason, path in BAD_REQUESTS:
        end = ends[name]
        assert (end.code, end.reason, end.metadata["field"]) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            reason,
            path,
        ), name
        assert ("limit" in end.metadata) == (reason == LARGE), name


async def test_a_wrong_dimension_is_refused_before_any_wait() -> None:
    async with serving() as it:
        token = it.store.token_of(it.store.put("a", "how to list files"))
        end = await it.failure(embedding=floats(1.0), min_token=token)
        assert (end.reason, end.metadata) == ("INVALID_FIELD", {"field": "embedding"})
        assert it.clock.sleep_count == 0


FIRST_TIME = Timestamp(seconds=-62_135_596_800)

GOOD_REQUESTS = [
    ("a text of 1 MiB", Request(text="x" * MIB)),
    ("the bounds of the ranges", Request(text="a", min_score=-1, diversity=1)),
    ("the other bounds", Request(text="a", min_score=1, diversity=0)),
    ("a limit above the most", Request(text="a", limit=2**31 - 1, per_question_limit=2**31 - 1)),
    ("100 excluded", Request(text="a", exclude=[Key(id="x")] * 100)),
    ("16 namespaces, some twice", Request(text="a", filter=Filter(namespaces=["a", "b"] * 8))),
    ("the first and the last block", Request(doc=markup("a", "b"), selected_index=1)),
    ("no wait", Request(text="a", max_wait=Duration())),
    ("a wait for ever", Request(text="a", max_wait=Duration(seconds=315_576_000_000))),
    ("a vector of tiny elements", Request(embedding=floats(*[1e-45] * 8))),
    ("a vector of huge elements", Request(embedding=floats(*[3e38] * 8))),
    (
        "a time before any",
        Request(text="a", filter=Filter(executed_since=Timestamp(seconds=-62_135_596_800))),
    ),
]


@pytest.mark.parametrize("request_", [pytest.param(r, id=name) for name, r in GOOD_REQUESTS])
async def test_what_the_contract_allows_is_answered(request_: Request) -> None:
    async with serving() as it:
        it.learn("a", "how to list files")
        response = await it.search(request_)
        assert response.omitted_result_count == 0


async def test_an_answer_says_how_old_its_state_may_be() -> None:
    async with serving() as it:
        it.clock.advance(4.25)
        fresh = await it.search(text="a")
        assert fresh.staleness == Duration(seconds=4, nanos=250_000_000)
        assert not fresh.degraded
        it.clock.advance(11)
        stale = await it.search(text="a")
        assert stale.staleness.seconds == 15
        assert stale.degraded
        it.bookmark()
        again = await it.search(text="a")
        assert again.staleness == Duration()
        assert not again.degraded


async def test_an_answer_is_degraded_while_a_new_state_is_received() -> None:
    async with serving() as it:
        it.learn("a", "how to list files")
        it.mirror.reset()
        response = await it.search(text="how to list files")
        assert response.degraded
        assert [result.example.id for result in response.results] == ["a"]


async def test_an_answer_is_degraded_while_an_example_cannot_be_found() -> None:
    async with serving() as it:
        it.learn("a", "how to list files", embedding=b"broken")
        response = await it.search(text="a")
        assert response.degraded
        assert response.results == []
        it.learn("a", "how to list files")
        assert not (await it.search(text="a")).degraded


async def test_an_answer_that_would_be_too_large_leaves_out_its_end() -> None:
    async with serving() as it:
        for number in range(7):
            it.learn(f"e{number}", f"question {number}", labels={"filler": "x" * (700 * 1024)})
        response = await it.search(text="question 3", limit=7)
        assert response.ByteSize() <= ANSWER_BYTES_MAX
        assert len(response.results) == 5
        assert response.omitted_result_count == 2
        assert response.results[0].example.id == "e3"


async def test_an_embedder_that_fails_is_told_apart_from_a_question_it_refuses() -> None:
    async with serving() as it:
        it.embedder.error = EmbedderUnavailableError("gone")
        end = await it.failure(text="a")
        assert (end.code, end.reason) == (grpc.StatusCode.UNAVAILABLE, "EMBEDDER_UNAVAILABLE")
        it.embedder.error = EmbedderRejectedError("no")
        end = await it.failure(text="a")
        assert (end.code, end.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "EMBEDDER_REJECTED")
        assert (await it.search(embedding=floats(*TEN))).results == []


async def test_a_small_index_is_searched_at_once_and_a_large_one_by_a_worker_at_first() -> None:
    async with serving() as it:
        it.learn("a", "how to list files")
        assert await it.ids(text="how to list files") == ["a"]
        assert it.workers.submitted_count == 0
        for number in range(INLINE_ROWS_MAX):
            it.receive(it.store.put(f"e{number}", f"question {number}"))
        it.bookmark()
        assert (await it.ids(text="how to list files"))[0] == "a"
        assert it.workers.submitted_count == 1


async def test_a_long_question_is_prepared_by_a_worker() -> None:
    async with serving() as it:
        it.learn("a", "how to list files")
        words = "why " * 10_000
        by_text = await it.search(text=words + "how to list files")
        by_doc = await it.search(doc=markup(words + "how to list files"))
        assert it.workers.submitted_count == 2
        assert by_text.query_text == by_doc.query_text
        assert by_text.query_text.endswith("how to list files")


async def test_the_status_tells_what_the_index_holds() -> None:
    async with serving(synced=False, namespaces=("", "team-a")) as it:
        empty = await it.rag.GetIndexStatus(rag_pb2.GetIndexStatusRequest())
        assert empty.state == rag_pb2.INDEX_STATE_SYNCING
        assert empty.version == "1.2.3"
        assert list(empty.namespaces) == ["", "team-a"]
        assert not empty.HasField("staleness")
        it.open()
        it.bookmark()
        it.learn("a", "how to list files")
        it.learn("b", "how to sort", embedding=b"broken")
        it.clock.advance(1.5)
        status = await it.rag.GetIndexStatus(rag_pb2.GetIndexStatusRequest())
        assert status.state == rag_pb2.INDEX_STATE_LIVE
        assert status.example_count == 2
        assert status.quarantined_example_count == 1
        assert status.applied_revision == 2
        assert status.dimension == 8
        assert status.embedder_fingerprint == "toy/8"
        assert status.store_id == b"store-1"
        assert status.embedding_bytes == 1 * 8 * 4
        assert status.staleness == Duration(seconds=1, nanos=500_000_000)


def test_every_error_that_a_call_may_raise_has_a_status() -> None:
    assert list(errors_without_rule(STATUSES, SearchError)) == []
