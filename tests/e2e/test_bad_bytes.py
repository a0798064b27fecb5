"""Requests that are no messages, or are far too large, to every method of both services."""

import random
from collections.abc import Iterator
from functools import partial

import grpc
import pytest
from google.protobuf.descriptor import ServiceDescriptor

from errata.v1 import learner_pb2, rag_pb2
from tests.block_events import correction, document, taught
from tests.e2e.failures import Failed, failure_of, invalid, too_large
from tests.e2e.raw_calls import LEARNER, RAG, call_raw, methods, parses
from tests.e2e.services import Services, check_no_bug, duration

pytestmark = pytest.mark.slow

SEED = 20_240_416
REQUEST_BYTES_MAX = 4 * 1024 * 1024
LIBRARY_BYTES_MAX = 8 * 1024 * 1024
SOME_PAGE = "ff"

METHODS = [(service, method) for service in (LEARNER, RAG) for method in methods(service)]
EACH_METHOD = pytest.mark.parametrize(
    ("service", "method"), [pytest.param(*each, id=each[1]) for each in METHODS]
)


@pytest.fixture
def channel(services: Services, service: ServiceDescriptor) -> Iterator[grpc.Channel]:
    """To the process that serves the method; afterwards it must still answer, and have met no bug."""
    running = services.learner if service is LEARNER else services.rag
    yield running.channel
    services.learner.status()
    services.rag.search("anything")
    check_no_bug(running.process)


@EACH_METHOD
def test_bytes_that_are_no_message_are_refused(
    channel: grpc.Channel, service: ServiceDescriptor, method: str
) -> None:
    for request in (b"\xff", b"\xff" * 100, b"\x0a\xff\xff\xff\xff\x0f", b"\x0b", b"\x00"):
        assert failure_of(partial(call_raw, channel, service, method, request)) == invalid("request")


@EACH_METHOD
def test_a_request_over_four_mebibytes_is_refused_with_the_bound(
    channel: grpc.Channel, service: ServiceDescriptor, method: str
) -> None:
    # An unknown field of 4 MiB: nothing but its size is wrong with it.
    request = unknown_field(REQUEST_BYTES_MAX)
    failed = failure_of(lambda: call_raw(channel, service, method, request))
    assert failed == too_large("request", REQUEST_BYTES_MAX)


@EACH_METHOD
def test_a_request_over_the_bound_of_the_library_is_refused(
    channel: grpc.Channel, service: ServiceDescriptor, method: str
) -> None:
    request = unknown_field(LIBRARY_BYTES_MAX)
    failed = failure_of(lambda: call_raw(channel, service, method, request))
    assert failed.code is grpc.StatusCode.RESOURCE_EXHAUSTED


@EACH_METHOD
def test_whatever_bytes_come_the_answer_is_one_of_the_contract(
    channel: grpc.Channel, service: ServiceDescriptor, method: str
) -> None:
    random_ = random.Random(SEED)
    for _ in range(60):
        request = random_.choice((scribbled, mutated))(random_, method)
        try:
            call_raw(channel, service, method, request)
        except grpc.RpcError as error:
            failed = Failed.of(error)
            assert failed.code.name in CODES, request.hex()
            assert failed.reason, request.hex()
            if not parses(service, method, request):
                assert failed == invalid("request"), request.hex()
        else:
            assert parses(service, method, request), request.hex()


# The last one of Backfill alone, of which only so many may run at once.
CODES = {"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"}


def scribbled(random_: random.Random, _: str) -> bytes:
    return random_.randbytes(random_.randrange(1, 200))


def mutated(random_: random.Random, method: str) -> bytes:
    """A request of the method with some of its bytes changed, or cut off."""
    request = bytearray(GOOD[method])
    for _ in range(random_.randrange(1, 5)):
        if not request:
            break
        request[random_.randrange(len(request))] = random_.randrange(256)
    return bytes(request[: random_.randrange(len(request) + 1)] if random_.random() < 0.2 else request)


GOOD = {
    "RecordEvents": learner_pb2.RecordEventsRequest(
        events=[*correction("b", "list files", "ls", labels={"a": "b"}), taught("c", "show date", "date")],
        learn_wait=duration(0),
    ).SerializeToString(),
    "Reconcile": learner_pb2.ReconcileRequest(id="b", namespace="a").SerializeToString(),
    "Backfill": learner_pb2.BackfillRequest(backfill_id="b").SerializeToString(),
    "GetBackfill": learner_pb2.GetBackfillRequest(backfill_id="b").SerializeToString(),
    "WatchUpdates": learner_pb2.WatchUpdatesRequest(
        resume_token=b"abc", watcher="w", embedder_fingerprint="e", namespaces=["a"]
    ).SerializeToString(),
    "GetBlock": learner_pb2.GetBlockRequest(id="b", namespace="a").SerializeToString(),
    "ListBlocks": learner_pb2.ListBlocksRequest(
        page_size=5, page_token=SOME_PAGE, namespaces=["a"]
    ).SerializeToString(),
    "ListExamples": learner_pb2.ListExamplesRequest(
        page_size=5, page_token=SOME_PAGE, labels={"a": "b"}
    ).SerializeToString(),
    "ForgetExample": learner_pb2.ForgetExampleRequest(id="b", namespace="a").SerializeToString(),
    "GetStatus": learner_pb2.GetStatusRequest().SerializeToString(),
    "Search": rag_pb2.SearchRequest(
        doc=document("list files"),
        selected_index=0,
        limit=5,
        min_score=0.5,
        max_wait=duration(0),
        per_question_limit=2,
        filter=rag_pb2.SearchFilter(labels={"a": "b"}, languages=["bash"]),
    ).SerializeToString(),
    "GetIndexStatus": rag_pb2.GetIndexStatusRequest().SerializeToString(),
}


def unknown_field(size_bytes: int) -> bytes:
    """A message of somewhat more than a size, all of it a field that nobody knows."""
    return varint(2_000 << 3 | 2) + varint(size_bytes) + bytes(size_bytes)


def varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
