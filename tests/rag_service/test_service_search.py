"""What a search finds, and how it says so."""

from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from errata.v1 import block_pb2, example_pb2, rag_pb2
from tests.rag_service.serving import markup, serving

Request = rag_pb2.SearchRequest
Filter = rag_pb2.SearchFilter
Key = example_pb2.ExampleKey

CODE, MARKUP = block_pb2.BLOCK_KIND_CODE, block_pb2.BLOCK_KIND_MARKUP


async def test_a_token_that_is_none_is_refused() -> None:
    async with serving() as it:
        end = await it.failure(text="a", min_token=b"no token")
        assert (end.code, end.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "TOKEN_MALFORMED")


async def test_before_the_first_sync_there_is_no_answer() -> None:
    async with serving(synced=False) as it:
        for _ in range(2):
            end = await it.failure(text="a")
            assert (end.code, end.reason) == (grpc.StatusCode.UNAVAILABLE, "INDEX_NOT_READY")
            it.open()
        it.bookmark()
        assert (await it.search(text="a")).results == []


async def test_the_nearest_example_comes_first_with_its_score() -> None:
    async with serving() as it:
        for example_id, text in [
            ("a", "how to list files"),
            ("b", "how to count lines"),
            ("c", "how to sort"),
        ]:
            it.learn(example_id, text, labels={"team": "infra"})
        response = await it.search(text="how to count lines")
        assert response.results[0].example.id == "b"
        assert response.results[0].score == pytest.approx(1.0)
        assert response.query_text == "how to count lines"
        found = response.results[0].example
        assert found.answer[0].contents == "echo how to count lines"
        assert found.labels["team"] == "infra"
        assert found.embedding == b""
        scores = [result.score for result in response.results]
        assert scores == sorted(scores, reverse=True)


async def test_three_results_come_unless_more_are_asked_for_and_never_more_than_a_hundred() -> None:
    async with serving() as it:
        for number in range(105):
            it.receive(it.store.put(f"e{number}", f"question {number}"))
        it.bookmark()
        assert len(await it.ids(text="a")) == 3
        assert len(await it.ids(text="a", limit=7)) == 7
        assert len(await it.ids(text="a", limit=1_000)) == 100


async def test_a_text_and_a_document_of_one_block_of_prose_are_the_same_question() -> None:
    async with serving() as it:
        it.learn("a", "how to list files")
        by_text = await it.search(text="how to list files")
        by_doc = await it.search(doc=markup("how to list files"))
        assert by_text == by_doc
        assert by_text.results[0].score == pytest.approx(1.0)


async def test_the_block_at_the_cursor_is_the_question() -> None:
    async with serving() as it:
        it.learn("a", "how to list files")
        doc = markup("how to list files")
        doc.blocks.add(kind=CODE, contents="ls")
        doc.blocks.add(kind=MARKUP, contents="how to count lines")
        at_first = await it.search(doc=doc, selected_index=0)
        at_last = await it.search(doc=doc)
        assert at_first.query_text == "how to list files"
        assert "how to count lines" in at_last.query_text


async def test_an_embedding_of_any_length_finds_what_its_direction_finds() -> None:
    async with serving() as it:
        for number in range(10):
            it.learn(f"e{number}", f"question {number}")
        unit = it.embedder.embed("question 4")
        wanted = await it.search(embedding=unit.astype("<f4").tobytes())
        assert wanted.results[0].example.id == "e4"
        assert wanted.query_text == ""
        for factor in (1e-30, 0.5, 7.0, 1e30):
            scaled = (unit.astype(np.float64) * factor).astype("<f4")
            found = await it.search(embedding=scaled.tobytes())
            assert [r.example.id for r in found.results] == [r.example.id for r in wanted.results]
            assert found.results[0].score == pytest.approx(1.0, abs=1e-6)


async def test_a_secret_in_a_question_goes_no_further() -> None:
    secret = "ghp_" + "a1B2" * 9
    async with serving() as it:
        question = f"why is {secret} refused"
        for request in (Request(text=question), Request(doc=markup(question))):
            response = await it.search(request)
            assert secret not in response.query_text
            assert response.query_text.startswith("why is")


@pytest.mark.parametrize(
    "question",
    [{"text": ""}, {"text": " \n\t "}, {"doc": block_pb2.Doc()}, {"doc": markup("", "  ")}],
    ids=["empty", "white space", "no blocks", "blank blocks"],
)
async def test_a_blank_question_has_no_results_and_is_no_error(question: dict[str, Any]) -> None:
    async with serving() as it:
        token = it.learn("a", "how to list files")
        response = await it.search(**question)
        assert response.results == []
        assert response.query_text == ""
        assert response.token == token


async def test_a_blank_question_waits_for_its_token_too() -> None:
    async with serving() as it:
        token = it.store.token_of(it.store.put("a", "how to list files"))
        end = await it.failure(text="", min_token=token, max_wait=Duration())
        assert end.reason == "TOKEN_NOT_REACHED"


async def test_filters_of_every_kind_reach_the_index() -> None:
    async with serving() as it:
        it.learn("plain", "question 1")
        it.learn("mine", "question 2", namespace="team-a")
        it.learn("labelled", "question 3", labels={"team": "infra", "tier": "1"})
        assert set(await it.ids(text="q")) == {"plain", "labelled"}
        assert await it.ids(text="q", filter=Filter(namespaces=["team-a"])) == ["mine"]
        both = Filter(namespaces=["team-a", ""])
        assert set(await it.ids(text="q", filter=both)) == {"plain", "mine", "labelled"}
        assert await it.ids(text="q", filter=Filter(labels={"tier": "1"})) == ["labelled"]
        assert await it.ids(text="q", filter=Filter(labels={"tier": "2"})) == []
        assert set(await it.ids(text="q", filter=Filter(languages=["bash"]))) == {"plain", "labelled"}
        assert await it.ids(text="q", filter=Filter(languages=["sql"])) == []
        since = Filter(executed_since=Timestamp(seconds=1_700_000_002))
        assert await it.ids(text="q", filter=since) == ["labelled"]
        assert await it.ids(text="q", exclude=[Key(id="plain"), Key(id="mine")]) == ["labelled"]


async def test_rules_of_the_ranking_reach_the_index() -> None:
    async with serving() as it:
        for example_id in ("old", "new"):
            it.learn(example_id, "how to list files")
        it.learn("other", "how to sort")
        assert await it.ids(text="how to list files") == ["new", "other"]
        twice = await it.ids(text="how to list files", per_question_limit=2)
        assert twice == ["new", "old", "other"]
        varied = await it.ids(text="how to list files", per_question_limit=2, diversity=1.0, limit=2)
        assert varied[0] == "new"
        assert varied[1] == "other"
        strict = await it.search(text="how to list files", min_score=0.999)
        assert [result.example.id for result in strict.results] == ["new"]
        assert strict.below_min_score_count == 1


@pytest.mark.parametrize(("namespaces", "wanted"), [(["team-b"], "team-b"), ([], ""), (["team-a", ""], "")])
async def test_a_namespace_that_is_not_followed_cannot_be_searched(
    namespaces: list[str], wanted: str
) -> None:
    async with serving(namespaces=("team-a",)) as it:
        end = await it.failure(text="a", filter=Filter(namespaces=namespaces))
        assert (end.code, end.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NAMESPACE_NOT_FOLLOWED")
        assert end.metadata == {"namespace": wanted}
        assert await it.ids(text="a", filter=Filter(namespaces=["team-a"])) == []
