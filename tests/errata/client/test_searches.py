"""What a search asks for, and how it sees what its client wrote."""

from datetime import UTC, datetime

import grpc
import pytest

from errata.client import TokenLostError, TokenNotReachedError, WhenBehind, document
from errata.v1.example_pb2 import Example, ExampleKey
from errata.v1.learner_pb2 import ForgetExampleResponse, ReconcileResponse, RecordEventsResponse
from errata.v1.rag_pb2 import SearchResponse, SearchResult
from errata.v1.token_pb2 import StateToken
from tests.errata.client.scripted_services import Fails, MakesClient, ScriptedServices

NOT_REACHED = Fails(grpc.StatusCode.FAILED_PRECONDITION, "TOKEN_NOT_REACHED", {"want": "9", "applied": "4"})
LOST = Fails(grpc.StatusCode.FAILED_PRECONDITION, "TOKEN_LOST", {"want": "9", "applied": "4"})
FOUND = SearchResponse(results=[SearchResult(example=Example(id="e", query_text="q"), score=0.5)])


def token(revision: int, epoch: int = 1) -> bytes:
    return StateToken(store_id=b"s", epoch=epoch, revision=revision).SerializeToString(deterministic=True)


def sent(services: ScriptedServices) -> list[bytes]:
    """The token of each search."""
    return [request.min_token for request in services.requests["Search"]]


def test_every_option_is_asked_for(services: ScriptedServices, client_of: MakesClient) -> None:
    services.plays("Search", FOUND)
    with client_of(services.address, namespace="home") as client:
        client.search(
            document("a", "b"),
            selected_index=0,
            limit=7,
            min_score=0.25,
            namespaces=["x", "y"],
            labels={"team": "t"},
            languages=["bash"],
            executed_since=datetime(2026, 1, 1, tzinfo=UTC),
            exclude=["mine", ExampleKey(namespace="n", id="theirs")],
            diversity=0.5,
            per_question_limit=2,
        )
        client.search("plain")
        client.search(b"\0\0\0\0")
    full, plain, embedded = services.requests["Search"]
    assert (full.doc, full.selected_index, full.limit) == (document("a", "b"), 0, 7)
    assert (full.min_score, full.diversity, full.per_question_limit) == (0.25, 0.5, 2)
    assert (full.filter.namespaces, full.filter.labels) == (["x", "y"], {"team": "t"})
    assert full.filter.languages == ["bash"]
    assert full.filter.executed_since.seconds == 1_767_225_600
    assert [(key.namespace, key.id) for key in full.exclude] == [("home", "mine"), ("n", "theirs")]
    assert (plain.text, plain.filter.namespaces) == ("plain", ["home"])
    assert not any(plain.HasField(name) for name in ("selected_index", "min_score", "per_question_limit"))
    assert embedded.embedding == b"\0\0\0\0"


@pytest.mark.parametrize("name", ["namespaces", "languages", "exclude"])
def test_a_string_where_several_are_meant_is_refused(client_of: MakesClient, name: str) -> None:
    with client_of("127.0.0.1:1") as client, pytest.raises(ValueError, match=name):
        client.search("x", **{name: "bash"})


def test_the_namespace_of_the_settings_holds_for_what_is_written_too(
    services: ScriptedServices, client_of: MakesClient
) -> None:
    services.plays("RecordEvents", RecordEventsResponse())
    services.plays("Reconcile", ReconcileResponse())
    services.plays("ForgetExample", ForgetExampleResponse())
    with client_of(services.address, namespace="home") as client:
        client.record_correction(question="q", proposed="a", ran="b", labels={"k": "v"})
        client.record_proposal("q", "a", example_ids=["e"])
        client.record_run("b", block_id="x")
        client.teach("q", "a", namespace="other")
        client.learn("x")
        client.forget("x")
    requests = services.requests["RecordEvents"]
    assert [[event.namespace for event in request.events] for request in requests] == [
        ["home", "home"],
        ["home"],
        ["home"],
        ["other"],
    ]
    correction, proposal, run, _ = requests
    assert len({event.block_id for event in correction.events}) == 1
    assert correction.events[1].labels == {"k": "v"}
    assert correction.learn_wait.seconds == run.learn_wait.seconds == 5
    assert proposal.learn_wait.ToNanoseconds() == 0
    assert proposal.events[0].generated.example_ids == ["e"]
    assert (
        services.requests["Reconcile"][0].namespace
        == services.requests["ForgetExample"][0].namespace
        == "home"
    )


def test_a_search_waits_for_the_newest_of_what_was_recorded_learned_and_forgotten(
    services: ScriptedServices, client_of: MakesClient
) -> None:
    services.plays("Search", FOUND)
    services.plays(
        "RecordEvents", RecordEventsResponse(token=token(5)), RecordEventsResponse(pending_block_count=1)
    )
    services.plays("Reconcile", ReconcileResponse(token=token(3)))
    services.plays("ForgetExample", ForgetExampleResponse(token=token(8)))
    with client_of(services.address) as client:
        client.search("x")
        client.teach("q", "a")
        client.search("x")
        client.learn("x")
        client.search("x")
        client.forget("x")
        answer = client.search("x")
        client.teach("q", "a")
        client.search("x", min_token=b"")
        client.search("x", min_token=token(2))
        assert client.token == token(8)
        client.remember(token(11))
        client.search("x")
    assert sent(services) == [b"", token(5), token(5), token(8), b"", token(2), token(11)]
    assert answer.sees_own_writes
    assert (answer.matches[0].block_id, answer.matches[0].score) == ("e", 0.5)


def test_what_is_not_reached_in_time_is_searched_without_and_waited_for_again(
    services: ScriptedServices, client_of: MakesClient
) -> None:
    services.plays("Search", NOT_REACHED, FOUND)
    with client_of(services.address) as client:
        client.remember(token(9))
        answer = client.search("x")
        assert (answer.sees_own_writes, len(answer.matches)) == (False, 1)
        assert client.search("x").sees_own_writes
    assert sent(services) == [token(9), b"", token(9)]


def test_what_is_not_reached_in_time_is_raised_where_that_is_wanted(
    services: ScriptedServices, client_of: MakesClient
) -> None:
    services.plays("Search", NOT_REACHED)
    with client_of(services.address, when_behind=WhenBehind.RAISE) as client:
        client.remember(token(9))
        with pytest.raises(TokenNotReachedError) as behind:
            client.search("x")
        assert client.token == token(9)
    assert (behind.value.want, behind.value.applied) == (9, 4)
    assert sent(services) == [token(9)]


def test_what_is_lost_is_dropped_and_what_is_not_takes_its_place(
    services: ScriptedServices, client_of: MakesClient
) -> None:
    services.plays("Search", LOST, FOUND)
    with client_of(services.address) as client:
        client.remember(token(9, epoch=1))
        client.remember(token(4, epoch=2))
        assert not client.search("x").sees_own_writes
        assert client.search("x").sees_own_writes
    assert sent(services) == [token(9, epoch=1), token(4, epoch=2), token(4, epoch=2)]


def test_what_is_lost_is_raised_once_where_that_is_wanted(
    services: ScriptedServices, client_of: MakesClient
) -> None:
    services.plays("Search", LOST, FOUND)
    with client_of(services.address, when_behind=WhenBehind.RAISE) as client:
        client.remember(token(9))
        with pytest.raises(TokenLostError):
            client.search("x")
        assert client.search("x").sees_own_writes
    assert sent(services) == [token(9), b""]


def test_a_service_that_loses_what_nobody_asked_for_is_not_asked_for_ever(
    services: ScriptedServices, client_of: MakesClient
) -> None:
    services.plays("Search", LOST)
    with client_of(services.address) as client, pytest.raises(TokenLostError):
        client.search("x", min_token=token(9))
    assert sent(services) == [token(9), b""]


def test_few_shot_asks_for_ten_and_writes_what_fits(
    services: ScriptedServices, client_of: MakesClient
) -> None:
    services.plays("Search", FOUND, SearchResponse())
    with client_of(services.address) as client:
        prompt = client.few_shot("x", max_tokens=500, introduction="Look, {place}:", best_last=False)
        assert prompt.startswith("Look, first:\n\nQuestion:\n\n```markdown\nq\n```")
        assert client.few_shot("x", max_tokens=500) == ""
        with pytest.raises(ValueError, match="max_tokens"):
            client.few_shot("x", max_tokens=0)
    assert [request.limit for request in services.requests["Search"]] == [10, 10]
