"""The server over real connections on loopback: statuses, streams, limits, health, reflection, drain."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.rpc import (  # type: ignore[import-untyped]  # the package ships no types
    error_details_pb2,
)
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # the same
from grpc_reflection.v1alpha import (  # type: ignore[import-untyped]  # the same
    reflection_pb2,
    reflection_pb2_grpc,
)
from grpc_status import rpc_status  # type: ignore[import-untyped]  # the same
from prometheus_client import CollectorRegistry
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from errata.serving.channel import channel_options
from errata.serving.health import UnknownServiceError
from errata.serving.metrics import RpcMetrics
from errata.serving.process import StartError
from errata.serving.server import REQUEST_BYTES_MAX, GrpcServer, Service
from errata.v1 import learner_pb2 as pb
from errata.v1 import learner_pb2_grpc
from tests.errata.serving.sample_service import NAME, SERVICE, STATUSES, SampleServicer

HEALTH = "grpc.health.v1.Health"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass(frozen=True)
class Sample:
    """A running server and a client of it."""

    server: GrpcServer
    servicer: SampleServicer
    registry: CollectorRegistry
    address: str
    channel: grpc.aio.Channel

    @property
    def stub(self) -> "learner_pb2_grpc.LearnerServiceAsyncStub":
        return learner_pb2_grpc.LearnerServiceStub(self.channel)

    @property
    def health(self) -> Any:
        return health_pb2_grpc.HealthStub(self.channel)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


def new_server(servicer: object, registry: CollectorRegistry) -> GrpcServer:
    return GrpcServer(services=[Service(SERVICE, servicer)], statuses=STATUSES, metrics=RpcMetrics(registry))


@pytest.fixture
async def sample() -> AsyncIterator[Sample]:
    servicer, registry = SampleServicer(), CollectorRegistry()
    server = new_server(servicer, registry)
    address = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(address, options=channel_options()) as channel:
        yield Sample(server, servicer, registry, address, channel)
        await server.drain(grace_s=0)


async def failure_of(call: Any) -> tuple[grpc.StatusCode, str, error_details_pb2.ErrorInfo]:
    """How a call failed: its code, its message, and its ErrorInfo."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), str(caught.value.details()), await error_info(call)


async def error_info(call: Any) -> error_details_pb2.ErrorInfo:
    status = await rpc_status.aio.from_call(call)
    assert status is not None
    assert len(status.details) == 1
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


async def test_a_unary_method_answers_with_a_message_or_with_bytes(sample: Sample) -> None:
    as_message = await sample.stub.GetBlock(pb.GetBlockRequest(id="echo"))
    as_bytes = await sample.stub.GetBlock(pb.GetBlockRequest(id="bytes"))
    assert (as_message.state.last_error, as_bytes.state.last_error) == ("echo", "as bytes")


async def test_a_stream_sends_messages_and_bytes_in_order(sample: Sample) -> None:
    stream = sample.stub.WatchUpdates(pb.WatchUpdatesRequest(watcher="bytes"))
    received = [response async for response in stream]
    assert received[0].hello.store_id == b"sample"
    assert received[1].bookmark.revision == 7
    assert await stream.code() is grpc.StatusCode.OK


async def test_an_invalid_field_is_refused_with_its_path(sample: Sample) -> None:
    code, message, info = await failure_of(sample.stub.GetBlock(pb.GetBlockRequest(id="")))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert message.startswith("id: required")
    assert (info.reason, info.domain) == ("ERROR_REASON_INVALID_FIELD", "errata")
    assert dict(info.metadata) == {"field": "id"}


async def test_a_request_over_4_mib_is_refused_with_a_reason(sample: Sample) -> None:
    request = pb.GetBlockRequest(id="x" * (REQUEST_BYTES_MAX + 1))
    code, _, info = await failure_of(sample.stub.GetBlock(request))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert info.reason == "ERROR_REASON_TOO_LARGE"
    assert dict(info.metadata) == {"field": "request", "limit": "4194304"}


async def test_a_request_of_4_mib_arrives(sample: Sample) -> None:
    request = pb.GetBlockRequest(id="x")
    padding = REQUEST_BYTES_MAX - request.ByteSize() - 5
    request.namespace = "n" * padding
    assert request.ByteSize() == REQUEST_BYTES_MAX
    assert (await sample.stub.GetBlock(request)).state.last_error == "x"


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff", b"\x0a\x02\xc3\x28"], ids=["no proto", "no UTF-8"])
async def test_bytes_that_are_no_request_are_refused(sample: Sample, garbage: bytes) -> None:
    code, message, info = await failure_of(raw_call(sample, "GetBlock", garbage))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert info.reason == "ERROR_REASON_INVALID_FIELD"
    assert dict(info.metadata) == {"field": "request"}
    assert "errata.v1.GetBlockRequest" in message


async def test_an_error_takes_the_rule_of_its_class(sample: Sample) -> None:
    code, message, info = await failure_of(sample.stub.GetBlock(pb.GetBlockRequest(id="missing")))
    assert (code, message) == (grpc.StatusCode.NOT_FOUND, "no block 'missing'")
    assert (info.reason, dict(info.metadata)) == ("ERROR_REASON_BLOCK_NOT_FOUND", {"block_id": "missing"})


async def test_an_error_without_a_rule_takes_that_of_its_base(sample: Sample) -> None:
    code, _, info = await failure_of(sample.stub.GetBlock(pb.GetBlockRequest(id="full")))
    assert (code, info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "ERROR_REASON_STORE_FULL")


async def test_a_bug_tells_the_caller_a_request_id_and_nothing_else(sample: Sample) -> None:
    call = sample.stub.GetBlock(pb.GetBlockRequest(id="bug"), metadata=(("x-request-id", "my-id-1"),))
    code, message, info = await failure_of(call)
    assert (code, info.reason) == (grpc.StatusCode.INTERNAL, "ERROR_REASON_INTERNAL")
    assert dict(info.metadata) == {"request_id": "my-id-1"}
    assert "my-id-1" in message
    assert "secret" not in message


async def test_a_bug_is_logged_once_with_its_traceback_under_the_request_id(sample: Sample) -> None:
    call = sample.stub.GetBlock(pb.GetBlockRequest(id="bug"), metadata=(("x-request-id", "my-id-1"),))
    with capture_logs(processors=[merge_contextvars]) as logged:
        await failure_of(call)
    [bug] = [line for line in logged if line["log_level"] == "error"]
    assert (bug["request_id"], bug["method"]) == ("my-id-1", f"{NAME}/GetBlock")
    assert isinstance(bug["exc_info"], RuntimeError)


@pytest.mark.parametrize(("block_id", "level"), [("missing", "info"), ("full", "warning")])
async def test_a_refusal_is_logged_without_the_text_of_the_error(
    sample: Sample, block_id: str, level: str
) -> None:
    with capture_logs() as logged:
        _, message, info = await failure_of(sample.stub.GetBlock(pb.GetBlockRequest(id=block_id)))
    [refusal] = [line for line in logged if line["event"] == "call refused"]
    assert (refusal["log_level"], refusal["reason"]) == (level, info.reason)
    assert message not in str(refusal)


async def test_a_stream_that_fails_half_way_ends_with_its_status(sample: Sample) -> None:
    stream = sample.stub.WatchUpdates(pb.WatchUpdatesRequest(watcher="full"))
    hello = await stream.read()
    assert isinstance(hello, pb.WatchUpdatesResponse)
    assert hello.HasField("hello")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await error_info(stream)).reason == "ERROR_REASON_STORE_FULL"


async def test_a_stream_with_a_bug_ends_with_internal(sample: Sample) -> None:
    stream = sample.stub.WatchUpdates(pb.WatchUpdatesRequest(watcher="bug"))
    await stream.read()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(caught.value.details())


async def test_a_cancellation_within_a_method_does_not_leave_the_caller_waiting(sample: Sample) -> None:
    call = sample.stub.GetBlock(pb.GetBlockRequest(id="stray cancel"), timeout=10)
    code, _, info = await failure_of(call)
    assert (code, info.reason) == (grpc.StatusCode.INTERNAL, "ERROR_REASON_INTERNAL")


async def test_a_method_is_cancelled_when_its_caller_goes(sample: Sample) -> None:
    call = sample.stub.GetBlock(pb.GetBlockRequest(id="wait"))
    await wait_until(lambda: len(sample.servicer.calls) == 1)
    call.cancel()
    await asyncio.wait_for(sample.servicer.cancelled.wait(), 5)
    await wait_until(
        lambda: sample.metric("errata_rpc_total", method=f"{NAME}/GetBlock", code="CANCELLED") == 1
    )


async def test_a_stream_is_closed_when_its_caller_goes(sample: Sample) -> None:
    stream = sample.stub.WatchUpdates(pb.WatchUpdatesRequest(watcher="flood"))
    await stream.read()
    assert sample.metric("errata_rpc_open_streams", method=f"{NAME}/WatchUpdates") == 1
    stream.cancel()
    await wait_until(lambda: sample.servicer.closed_streams == 1)
    await wait_until(lambda: sample.metric("errata_rpc_open_streams", method=f"{NAME}/WatchUpdates") == 0)
    assert sample.metric("errata_rpc_total", method=f"{NAME}/WatchUpdates", code="CANCELLED") == 1


async def test_a_method_knows_how_long_its_caller_waits(sample: Sample) -> None:
    await sample.stub.GetBlock(pb.GetBlockRequest(id="echo"), timeout=60)
    await sample.stub.GetBlock(pb.GetBlockRequest(id="echo"))
    limited, unlimited = (call.time_remaining_s for call in sample.servicer.calls)
    assert limited is not None
    # Never more than the caller waits, though gRPC rounds up what it sends.
    assert 30 < limited < 60
    assert unlimited is None


async def test_a_deadline_that_passes_cancels_the_method_and_is_counted_as_such(sample: Sample) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await sample.stub.GetBlock(pb.GetBlockRequest(id="wait"), timeout=0.05)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(sample.servicer.cancelled.wait(), 5)
    await wait_until(
        lambda: sample.metric("errata_rpc_total", method=f"{NAME}/GetBlock", code="DEADLINE_EXCEEDED") == 1
    )


async def test_a_sane_request_id_is_kept_and_sent_back(sample: Sample) -> None:
    call = sample.stub.GetBlock(pb.GetBlockRequest(id="echo"), metadata=(("x-request-id", "abc.DEF-1"),))
    await call
    assert sample.servicer.calls[0].request_id == "abc.DEF-1"
    assert ("x-request-id", "abc.DEF-1") in tuple(await call.trailing_metadata())


@pytest.mark.parametrize("sent", ["", "two words", "x" * 65, '"quoted"'])
async def test_a_request_id_that_is_not_sane_is_replaced(sample: Sample, sent: str) -> None:
    await sample.stub.GetBlock(pb.GetBlockRequest(id="echo"), metadata=(("x-request-id", sent),))
    await sample.stub.GetBlock(pb.GetBlockRequest(id="echo"))
    first, second = (call.request_id for call in sample.servicer.calls)
    assert first != sent
    assert len({first, second}) == 2


async def test_a_method_sees_the_peer(sample: Sample) -> None:
    await sample.stub.GetBlock(pb.GetBlockRequest(id="echo"), metadata=(("team", "infra"), ("x-bin", b"\0")))
    call = sample.servicer.calls[0]
    assert call.peer.startswith("ipv4:127.0.0.1:")
    assert call.method == f"{NAME}/GetBlock"


async def test_calls_are_counted_by_method_and_code_and_timed(sample: Sample) -> None:
    await sample.stub.GetBlock(pb.GetBlockRequest(id="echo"))
    await failure_of(sample.stub.GetBlock(pb.GetBlockRequest(id="missing")))
    assert sample.metric("errata_rpc_total", method=f"{NAME}/GetBlock", code="OK") == 1
    assert sample.metric("errata_rpc_total", method=f"{NAME}/GetBlock", code="NOT_FOUND") == 1
    assert sample.metric("errata_rpc_duration_seconds_count", method=f"{NAME}/GetBlock") == 2


async def test_an_unknown_method_is_unimplemented(sample: Sample) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await raw_call(sample, "Nonsense", b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_servicer_that_lacks_a_method_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="object has no method record_events"):
        new_server(object(), CollectorRegistry())


def test_a_method_that_takes_a_stream_of_requests_is_refused() -> None:
    reflection = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]

    class Reflects:
        def server_reflection_info(self) -> None: ...

    with pytest.raises(TypeError, match="takes a stream of requests"):
        GrpcServer(
            services=[Service(reflection, Reflects())], statuses={}, metrics=RpcMetrics(CollectorRegistry())
        )


async def test_health_is_not_serving_until_said_so(sample: Sample) -> None:
    before = [await health_of(sample, name) for name in (NAME, "")]
    await sample.server.set_serving(NAME, True)
    after = [await health_of(sample, name) for name in (NAME, "")]
    assert (before, after) == ([NOT_SERVING, NOT_SERVING], [SERVING, SERVING])


async def test_health_lists_every_service(sample: Sample) -> None:
    listed = await sample.health.List(health_pb2.HealthListRequest())
    assert set(listed.statuses) == {"", NAME, HEALTH}


async def test_the_health_service_serves_whatever_the_others_do(sample: Sample) -> None:
    assert [await health_of(sample, name) for name in ("", HEALTH)] == [NOT_SERVING, SERVING]
    await sample.server.set_serving(NAME, True)
    assert [await health_of(sample, name) for name in ("", HEALTH)] == [SERVING, SERVING]


async def test_who_watches_the_health_service_does_not_hold_up_the_end(sample: Sample) -> None:
    watch = sample.health.Watch(health_pb2.HealthCheckRequest(service=HEALTH))
    assert (await watch.read()).status == SERVING
    drained = asyncio.ensure_future(sample.server.drain())
    assert await watch.read() is grpc.aio.EOF
    await drained


async def test_health_of_an_unknown_service_is_not_found(sample: Sample) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health_of(sample, "nobody")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_an_unknown_service_cannot_be_made_to_serve(sample: Sample) -> None:
    with pytest.raises(UnknownServiceError):
        await sample.server.set_serving("nobody", True)


async def test_who_watches_health_hears_of_each_change_and_of_the_end(sample: Sample) -> None:
    watch = sample.health.Watch(health_pb2.HealthCheckRequest(service=NAME))
    heard = [(await watch.read()).status]
    await sample.server.set_serving(NAME, True)
    heard.append((await watch.read()).status)
    drained = asyncio.ensure_future(sample.server.drain())
    heard.append((await watch.read()).status)
    assert heard == [NOT_SERVING, SERVING, NOT_SERVING]
    assert await watch.code() is grpc.StatusCode.OK
    await drained


async def test_who_watches_the_health_of_an_unknown_service_is_told_so(sample: Sample) -> None:
    watch = sample.health.Watch(health_pb2.HealthCheckRequest(service="nobody"))
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


async def test_reflection_names_every_service_and_describes_them(sample: Sample) -> None:
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=NAME),
    ]
    call = reflection_pb2_grpc.ServerReflectionStub(sample.channel).ServerReflectionInfo(iter(requests))
    listed, described = [answer async for answer in call]
    assert {service.name for service in listed.list_services_response.service} == {
        NAME,
        HEALTH,
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert described.file_descriptor_response.file_descriptor_proto


async def test_drain_lets_watchers_say_goodbye(sample: Sample) -> None:
    stream = sample.stub.WatchUpdates(pb.WatchUpdatesRequest(watcher="wait"))
    await stream.read()
    begin_s = time.monotonic()
    drained = asyncio.ensure_future(sample.server.drain(sample.servicer.drain))
    goodbye = await stream.read()
    assert isinstance(goodbye, pb.WatchUpdatesResponse)
    assert goodbye.HasField("draining")
    assert await stream.read() == grpc.aio.EOF
    assert await stream.code() is grpc.StatusCode.OK
    await drained
    assert time.monotonic() - begin_s < 5


async def test_drain_cuts_off_a_stream_that_does_not_end(sample: Sample) -> None:
    stream = sample.stub.WatchUpdates(pb.WatchUpdatesRequest(watcher="deaf"))
    await stream.read()
    drained = asyncio.ensure_future(sample.server.drain(sample.servicer.drain, grace_s=0.1))
    with pytest.raises(grpc.aio.AioRpcError):
        await stream.read()
    await asyncio.wait_for(drained, 5)
    assert sample.servicer.closed_streams == 1


async def test_drain_goes_on_when_ending_the_watchers_fails_or_hangs(sample: Sample) -> None:
    async def fail() -> None:
        raise RuntimeError("no")

    async def hang() -> None:
        await asyncio.get_running_loop().create_future()

    await asyncio.wait_for(sample.server.drain(hang, grace_s=0.05), 5)
    await asyncio.wait_for(sample.server.drain(fail, grace_s=0.05), 5)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await sample.stub.GetBlock(pb.GetBlockRequest(id="echo"))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_server_that_never_started_can_be_drained() -> None:
    await new_server(SampleServicer(), CollectorRegistry()).drain()


async def test_a_taken_port_is_a_clear_start_error_and_not_shared(sample: Sample) -> None:
    second = new_server(SampleServicer(), CollectorRegistry())
    with pytest.raises(StartError, match="address already in use") as caught:
        await second.start(sample.address)
    assert sample.address in str(caught.value)
    assert "--listen" in str(caught.value)


@pytest.mark.parametrize("listen", ["192.0.2.1:0", "nonsense", "no-such-host.invalid:0"])
async def test_an_address_that_is_not_ours_is_a_clear_start_error(listen: str) -> None:
    with pytest.raises(StartError, match="--listen"):
        await new_server(SampleServicer(), CollectorRegistry()).start(listen)


async def test_a_name_is_listened_at_as_one_number() -> None:
    server = new_server(SampleServicer(), CollectorRegistry())
    address = await server.start("localhost:0")
    await server.drain(grace_s=0)
    assert address.startswith("127.0.0.1:")


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
async def test_ipv6_works_in_brackets() -> None:
    server = new_server(SampleServicer(), CollectorRegistry())
    address = await server.start("[::1]:0")
    async with grpc.aio.insecure_channel(address) as channel:
        stub: learner_pb2_grpc.LearnerServiceAsyncStub = learner_pb2_grpc.LearnerServiceStub(channel)
        answer = await stub.GetBlock(pb.GetBlockRequest(id="echo"))
    await server.drain(grace_s=0)
    assert address.startswith("[::1]:")
    assert answer.state.last_error == "echo"


def raw_call(sample: Sample, method: str, request: bytes) -> "grpc.aio.UnaryUnaryCall[bytes, bytes]":
    """A call whose request is bytes, whatever they are."""
    multi: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = sample.channel.unary_unary(f"/{NAME}/{method}")
    return multi(request)


async def health_of(sample: Sample, service: str) -> int:
    answer = await sample.health.Check(health_pb2.HealthCheckRequest(service=service))
    return int(answer.status)


async def wait_until(true: Any, seconds: float = 5) -> None:
    """Returns once a condition holds that nothing announces; it is looked at often."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.001)
