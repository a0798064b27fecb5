"""Calls to services that misbehave: what is retried, what is raised, and how long it takes."""

import time

import grpc
import pytest
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]  # the package ships no types

from errata.client import (
    CallError,
    ClosedError,
    DeadlineExceededError,
    Errata,
    InvalidRequestError,
    NotConfiguredError,
    NotFoundError,
    StoreFullError,
    UnavailableError,
)
from errata.v1.learner_pb2 import GetStatusResponse, RecordEventsResponse
from errata.v1.rag_pb2 import SearchResponse
from tests.e2e.services import free_address
from tests.errata.client.scripted_services import (
    Fails,
    Hangs,
    MakesClient,
    ScriptedServices,
    scripted_services,
)

Code = grpc.StatusCode
UNAVAILABLE = Fails(Code.UNAVAILABLE)


def test_what_passes_by_itself_is_tried_again_with_the_same_request(
    services: ScriptedServices, client_of: MakesClient
) -> None:
    services.plays(
        "RecordEvents",
        UNAVAILABLE,
        Fails(Code.CANCELLED),
        Fails(Code.RESOURCE_EXHAUSTED, "RATE_LIMITED"),
        Fails(Code.UNAVAILABLE, "REEMBEDDING"),
        RecordEventsResponse(changed_block_count=1),
    )
    with client_of(services.address) as client:
        recorded = client.record_correction(question="q", proposed="a", ran="b")
    requests = services.requests["RecordEvents"]
    assert len(requests) == 5
    assert all(request == requests[0] for request in requests)
    assert (recorded.changed_block_count, recorded.block_id) == (1, requests[0].events[0].block_id)


def test_what_is_wrong_is_raised_at_once(services: ScriptedServices, client_of: MakesClient) -> None:
    services.plays("Search", Fails(Code.INVALID_ARGUMENT, "INVALID_FIELD", {"field": "diversity"}))
    services.plays("RecordEvents", Fails(Code.RESOURCE_EXHAUSTED, "STORE_FULL"))
    services.plays("Reconcile", Fails(Code.NOT_FOUND, "BLOCK_NOT_FOUND", {"block_id": "x"}))
    with client_of(services.address) as client:
        with pytest.raises(InvalidRequestError) as invalid:
            client.search("x", diversity=7)
        with pytest.raises(StoreFullError):
            client.teach("q", "a")
        with pytest.raises(NotFoundError) as missing:
            client.learn("x")
    assert invalid.value.field == "diversity"
    assert invalid.value.failure.request_id == "r-1"
    assert invalid.value.failure.target == services.address
    assert missing.value.metadata == {"block_id": "x"}
    assert {method: len(requests) for method, requests in services.requests.items()} == {
        "Search": 1,
        "RecordEvents": 1,
        "Reconcile": 1,
    }


@pytest.mark.parametrize("details", [None, b"", b"\xff\xff", b"\x1a\x02\x0a\x09"])
def test_a_failure_without_readable_details_is_classed_by_its_code(
    services: ScriptedServices, client_of: MakesClient, details: bytes | None
) -> None:
    services.plays("GetStatus", Fails(Code.INVALID_ARGUMENT, details=details))
    services.plays("GetIndexStatus", Fails(Code.DATA_LOSS, details=details))
    with client_of(services.address) as client:
        with pytest.raises(InvalidRequestError) as invalid:
            client.learner_status()
        with pytest.raises(CallError) as other:
            client.index_status()
    assert (invalid.value.reason, invalid.value.field) == ("", "")
    assert (type(other.value), other.value.code) == (CallError, Code.DATA_LOSS)


def test_a_service_that_stays_away_is_given_up_when_the_deadline_is_near(
    services: ScriptedServices, client_of: MakesClient
) -> None:
    services.plays("GetStatus", UNAVAILABLE)
    with client_of(services.address) as client, pytest.raises(UnavailableError) as away:
        client.learner_status(deadline_s=1)
    assert len(away.value.__notes__) == 1
    assert away.value.__notes__[0].startswith("tried ")


def test_a_service_that_does_not_answer_is_given_up_at_the_deadline(
    services: ScriptedServices, client_of: MakesClient
) -> None:
    hangs = Hangs()
    services.plays("Search", hangs)
    begin_s = time.monotonic()
    with client_of(services.address) as client, pytest.raises(DeadlineExceededError):
        client.search("x", deadline_s=0.3)
    assert time.monotonic() - begin_s >= 0.3
    assert hangs.over.wait(20)


def test_nobody_at_the_address_is_said_with_the_address_and_a_start_there_is_noticed(
    client_of: MakesClient,
) -> None:
    address = free_address()
    with client_of(address) as client:
        assert not client.learner_serves()
        with pytest.raises(UnavailableError, match=address):
            client.learner_status(deadline_s=0.1)
        with scripted_services(address) as services:
            services.plays("GetStatus", GetStatusResponse(version="7"))
            assert client.learner_status().version == "7"


def test_health_is_asked_once_and_of_the_service_that_is_meant(
    services: ScriptedServices, client_of: MakesClient
) -> None:
    Response = health_pb2.HealthCheckResponse  # noqa: N806 - a class
    services.plays(
        "Check",
        Response(status=Response.SERVING),
        Response(status=Response.NOT_SERVING),
        UNAVAILABLE,
    )
    with client_of(services.address) as client:
        assert [client.rag_serves(), client.learner_serves(), client.rag_serves()] == [True, False, False]
    assert len(services.requests["Check"]) == 3


def test_metadata_goes_with_every_call(services: ScriptedServices, client_of: MakesClient) -> None:
    services.plays("Search", SearchResponse())
    with client_of(services.address, metadata=(("authorization", "Bearer x"),)) as client:
        client.search("x")
    assert services.metadata[0]["authorization"] == "Bearer x"


def test_a_service_without_an_address_is_an_error_that_names_the_parameter(client_of: MakesClient) -> None:
    with client_of(None) as client:
        with pytest.raises(NotConfiguredError, match="learner=HOST:PORT"):
            client.learner_status()
        with pytest.raises(NotConfiguredError, match="rag=HOST:PORT"):
            client.search("x")


def test_a_closed_client_says_so(services: ScriptedServices, client_of: MakesClient) -> None:
    services.plays("Search", SearchResponse())
    with client_of(services.address) as client:
        client.search("x")
        client.close()
        client.close()
        with pytest.raises(ClosedError):
            client.search("x")


def test_a_channel_that_was_passed_in_stays_open(services: ScriptedServices) -> None:
    services.plays("Search", SearchResponse())
    with grpc.insecure_channel(services.address) as channel:
        for _ in range(2):
            with Errata(rag=channel) as client:
                assert client.search("x").matches == ()
    assert len(services.requests["Search"]) == 2


@pytest.mark.parametrize(
    "address", ["", "localhost", "http://127.0.0.1:7411", "127.0.0.1:", "::1:7411", "h:x"]
)
def test_what_is_no_address_is_refused_before_anything_is_called(address: str) -> None:
    with pytest.raises(ValueError, match="rag: an address is HOST:PORT"):
        Errata(rag=address)


@pytest.mark.parametrize("address", ["localhost:1", "[::1]:7411", "127.0.0.1:7411", "unix:/x", "dns:///h:1"])
def test_addresses_may_be_names_and_numbers_and_what_grpc_knows(address: str) -> None:
    Errata(rag=address).close()


@pytest.mark.parametrize("deadline_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_deadline_that_is_none_is_refused(client_of: MakesClient, deadline_s: float) -> None:
    with client_of("127.0.0.1:1") as client, pytest.raises(ValueError, match="deadline_s"):
        client.learner_status(deadline_s=deadline_s)
    with pytest.raises(ValueError, match="deadline_s"), client_of("127.0.0.1:1", deadline_s=deadline_s):
        pass


def test_waits_below_zero_are_refused(client_of: MakesClient) -> None:
    with client_of("127.0.0.1:1") as client, pytest.raises(ValueError, match="learn_wait_s"):
        client.record([], learn_wait_s=-1)
    with pytest.raises(ValueError, match="token_wait_s"), client_of("127.0.0.1:1", token_wait_s=-1):
        pass


def test_addresses_come_from_the_environment_where_they_are_set() -> None:
    here = Errata.from_environment({"ERRATA_RAG": ""})
    with here, pytest.raises(NotConfiguredError):
        here.search("x")
    with pytest.raises(ValueError, match="learner"):
        Errata.from_environment({"ERRATA_LEARNER": "nonsense"})
