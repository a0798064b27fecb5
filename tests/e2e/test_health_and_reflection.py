"""What operators and load balancers ask."""

from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # ships no types
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (  # type: ignore[import-untyped]
    ProtoReflectionDescriptorDatabase,  # ships no types either
)

from errata.v1.rag_pb2 import (
    INDEX_STATE_LIVE,
    INDEX_STATE_SYNCING,
    GetIndexStatusRequest,
    SearchRequest,
)
from errata.v1.rag_pb2_grpc import RagServiceStub
from scripts.processes import start
from tests.block_events import correction
from tests.e2e.failures import NOT_FOUND, Failed, failure_of
from tests.e2e.services import CALL_S_MAX, Services, check_no_bug, free_address, learner_on

pytestmark = pytest.mark.slow

LEARNER, RAG, HEALTH = "errata.v1.LearnerService", "errata.v1.RagService", "grpc.health.v1.Health"
REFLECTION = "grpc.reflection.v1alpha.ServerReflection"
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def health(channel: grpc.Channel, service: str) -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    status: int = health_pb2_grpc.HealthStub(channel).Check(request, timeout=CALL_S_MAX).status
    return status


def health_changes(channel: grpc.Channel, service: str) -> Any:
    request = health_pb2.HealthCheckRequest(service=service)
    return health_pb2_grpc.HealthStub(channel).Watch(request, timeout=CALL_S_MAX)


def test_a_rag_service_that_starts_before_its_learner_serves_from_the_first_bookmark_on(
    tmp_path: Path,
) -> None:
    address = free_address()
    process = start("rag_service", "--learner", address, until="listening")
    with process, process.sync_channel() as channel:
        stub = RagServiceStub(channel)
        assert [health(channel, service) for service in (RAG, "")] == [NOT_SERVING, NOT_SERVING]
        changes = health_changes(channel, RAG)
        assert next(changes).status == NOT_SERVING
        failed = failure_of(lambda: stub.Search(SearchRequest(text="x"), timeout=CALL_S_MAX))
        assert failed == Failed(grpc.StatusCode.UNAVAILABLE, "INDEX_NOT_READY")
        syncing = stub.GetIndexStatus(GetIndexStatusRequest(), timeout=CALL_S_MAX)
        assert (syncing.state, syncing.example_count) == (INDEX_STATE_SYNCING, 0)
        with learner_on(tmp_path / "store", "--listen", address) as learner:
            assert health(learner.channel, LEARNER) == SERVING
            token = learner.learn(*correction("b", "list files", "ls"))
            assert next(changes).status == SERVING
            assert health(channel, "") == SERVING
            found = stub.Search(SearchRequest(text="list files", min_token=token), timeout=CALL_S_MAX)
            assert [result.example.id for result in found.results] == ["b"]
            assert stub.GetIndexStatus(GetIndexStatusRequest()).state == INDEX_STATE_LIVE
        # The Learner is gone: what there is, is served on.
        assert health(channel, RAG) == SERVING
        assert len(stub.Search(SearchRequest(text="list files"), timeout=CALL_S_MAX).results) == 1
        changes.cancel()
        check_no_bug(process)


def test_the_health_of_a_service_that_there_is_not_is_not_found(services: Services) -> None:
    for channel in (services.learner.channel, services.rag.channel):
        assert failure_of(partial(health, channel, "errata.v1.NoService")) == Failed(NOT_FOUND)


def test_reflection_lists_the_services_and_knows_their_methods(services: Services) -> None:
    for channel, service in ((services.learner.channel, LEARNER), (services.rag.channel, RAG)):
        database = ProtoReflectionDescriptorDatabase(channel)
        assert sorted(database.get_services()) == sorted([service, HEALTH, REFLECTION])
        assert database.FindFileContainingSymbol(service).package == "errata.v1"


@pytest.mark.parametrize("symbol", [f"{LEARNER}.RecordEvents", "errata.v1.Block.contents"])
def test_reflection_finds_methods_and_fields_by_name(services: Services, symbol: str) -> None:
    database = ProtoReflectionDescriptorDatabase(services.learner.channel)
    assert database.FindFileContainingSymbol(symbol).package == "errata.v1"


@pytest.mark.parametrize("symbol", [f"{LEARNER}.NoMethod", "errata.v1.NoService.RecordEvents", "", "."])
def test_reflection_finds_no_symbol_that_there_is_not(services: Services, symbol: str) -> None:
    database = ProtoReflectionDescriptorDatabase(services.learner.channel)
    with pytest.raises(KeyError):
        database.FindFileContainingSymbol(symbol)


@pytest.mark.parametrize("method", ["NoMethod", "recordEvents"])
def test_a_method_that_there_is_not_is_not_served(services: Services, method: str) -> None:
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = services.learner.channel.unary_unary(
        f"/{LEARNER}/{method}", bytes, bytes
    )
    assert failure_of(lambda: call(b"", timeout=CALL_S_MAX)) == Failed(grpc.StatusCode.UNIMPLEMENTED)
