"""Every rule that learner.proto documents for a request, broken over the wire."""

import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from errata.store.v1.store_pb2 import WatchToken
from errata.v1.block_pb2 import Block, BlockEvent, BlockExecuted, BlockGenerated, Doc, ExampleTaught
from errata.v1.learner_pb2 import (
    ForgetExampleRequest,
    GetBlockRequest,
    ListBlocksRequest,
    ListExamplesRequest,
    ReconcileRequest,
    RecordEventsRequest,
    WatchUpdatesRequest,
)
from tests.block_events import code, document, event, proposed, prose, ran, taught
from tests.e2e.failures import (
    FAILED_PRECONDITION,
    INVALID_ARGUMENT,
    NOT_FOUND,
    Failed,
    failure_of,
    invalid,
    too_large,
)
from tests.e2e.services import Learner, check_no_bug

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
DAY_S = 24 * 60 * 60

BAD_IDS = {
    "an empty ID": "",
    "an ID that is too long": "x" * 256,
    "an ID of too many bytes": "ü" * 128,
    "an ID with a line break": "a\nb",
    "an ID with a zero": "a\0b",
    "an ID with a C1 control": "a\x85b",
}
BAD_NAMESPACES = {
    "a namespace with a slash": "team/a",
    "a namespace in upper case": "Team",
    "a namespace with a space": "team a",
    "a namespace that is too long": "x" * 64,
    "a namespace that is not ASCII": "é",
}
MALFORMED_TOKEN = Failed(INVALID_ARGUMENT, "TOKEN_MALFORMED")


@pytest.fixture(autouse=True)
def _the_process_still_answers_and_met_no_bug(learner: Learner) -> Iterator[None]:
    before = learner.status()
    yield
    after = learner.status()
    # Nothing of what is refused here may have been kept.
    assert (after.block_count, after.head_revision) == (before.block_count, before.head_revision)
    check_no_bug(learner.process)


# --- RecordEvents


def at(seconds: int, nanos: int = 0) -> BlockEvent:
    made = ran("b", "ls")
    made.event_time.CopyFrom(Timestamp(seconds=seconds, nanos=nanos))
    return made


def without_time() -> BlockEvent:
    made = ran("b", "ls")
    made.ClearField("event_time")
    return made


def generating(**fields: object) -> BlockEvent:
    made = event("b", 0)
    made.generated.CopyFrom(BlockGenerated(**fields))  # type: ignore[arg-type]  # of several types
    return made


def executing(**fields: object) -> BlockEvent:
    made = event("b", 0)
    made.executed.CopyFrom(BlockExecuted(**fields))  # type: ignore[arg-type]  # of several types
    return made


def teaching(query: Doc | None, *answer: Block) -> BlockEvent:
    made = event("b", 0)
    made.taught.CopyFrom(ExampleTaught(query=query, answer=answer))
    return made


def suggesting(status: int) -> BlockEvent:
    made = event("b", 0)
    made.suggestion = status  # type: ignore[assignment]  # also of statuses that there are not
    return made


def labelled(labels: dict[str, str]) -> BlockEvent:
    return ran("b", "ls", labels=labels)


UNKNOWN_KIND = Block(kind=7, contents="x")  # type: ignore[arg-type]  # there is none

BAD_EVENTS: dict[str, tuple[BlockEvent, Failed]] = {
    **{name: (ran(block_id, "ls"), invalid("events[1].block_id")) for name, block_id in BAD_IDS.items()},
    **{
        name: (ran("b", "ls", namespace=namespace), invalid("events[1].namespace"))
        for name, namespace in BAD_NAMESPACES.items()
    },
    "no time": (without_time(), invalid("events[1].event_time")),
    "a time before 1970": (at(-1), invalid("events[1].event_time")),
    "the zero time of Go": (at(-62_135_596_800), invalid("events[1].event_time")),
    "two days ahead": (at(int(time.time()) + 2 * DAY_S), invalid("events[1].event_time")),
    "25 hours ahead": (at(int(time.time()) + 25 * 60 * 60), invalid("events[1].event_time")),
    "after the year 9999": (at(300_000_000_000), invalid("events[1].event_time")),
    "nanoseconds of more than a second": (at(1, 1_000_000_000), invalid("events[1].event_time")),
    "nothing that happened": (event("b", 0), invalid("events[1].event")),
    "65 labels": (
        labelled({f"k{number}": "v" for number in range(65)}),
        too_large("events[1].labels", 64),
    ),
    "a label without a key": (labelled({"": "v"}), invalid("events[1].labels['']")),
    "a label with a long key": (
        labelled({"k" * 64: "v"}),
        invalid(f"events[1].labels['{'k' * 40}'…]"),
    ),
    "a label with a long value": (labelled({"key": "v" * 256}), too_large("events[1].labels['key']", 255)),
    "a proposal of nothing": (generating(doc=document("x")), invalid("events[1].generated.block")),
    "a proposal with a long trace": (
        generating(block=code("ls"), trace_id="t" * 129),
        too_large("events[1].generated.trace_id", 128),
    ),
    "a proposal of an unknown kind": (
        generating(block=UNKNOWN_KIND),
        invalid("events[1].generated.block.kind"),
    ),
    "a proposal for a document with an unknown kind": (
        generating(block=code("ls"), doc=Doc(blocks=[prose("x"), UNKNOWN_KIND])),
        invalid("events[1].generated.doc.blocks[1].kind"),
    ),
    "a run of nothing": (executing(exit_code=0), invalid("events[1].executed.block")),
    "a run with an unknown status": (
        executing(block=code("ls"), status=9),
        invalid("events[1].executed.status"),
    ),
    "a run of an unknown kind": (executing(block=UNKNOWN_KIND), invalid("events[1].executed.block.kind")),
    "a suggestion that says nothing": (suggesting(0), invalid("events[1].suggestion")),
    "a suggestion that nobody knows": (suggesting(9), invalid("events[1].suggestion")),
    "a lesson without a question": (teaching(None, code("ls")), invalid("events[1].taught.query")),
    "a lesson with a blank question": (taught("b", " \n", "ls"), invalid("events[1].taught.query")),
    "a lesson without an answer": (teaching(document("x")), invalid("events[1].taught.answer")),
    "a lesson with a blank answer": (
        teaching(document("x"), code(" "), code("")),
        invalid("events[1].taught.answer"),
    ),
    "an event over a mebibyte": (proposed("b", "list files", "x" * MIB), too_large("events[1]", MIB)),
}


@pytest.mark.parametrize("name", BAD_EVENTS)
def test_a_bad_event_is_refused_with_its_path_and_keeps_its_good_neighbours_out(
    learner: Learner, name: str
) -> None:
    bad, wanted = BAD_EVENTS[name]
    events = [ran("good-1", "ls"), bad, ran("good-2", "ls")]
    assert failure_of(lambda: learner.record(*events)) == wanted


def test_more_than_a_thousand_events_are_refused(learner: Learner) -> None:
    events = [ran(f"b{number}", "ls") for number in range(1_001)]
    assert failure_of(lambda: learner.record(*events)) == too_large("events", 1_000)


BAD_DURATIONS = {
    "negative": Duration(seconds=-1),
    "just negative": Duration(nanos=-1),
    "of two signs": Duration(seconds=1, nanos=-1),
    "of too many nanoseconds": Duration(nanos=1_000_000_000),
    "longer than ten thousand years": Duration(seconds=400_000_000_000),
}


@pytest.mark.parametrize("name", BAD_DURATIONS)
def test_a_bad_wait_is_refused(learner: Learner, name: str) -> None:
    request = RecordEventsRequest(events=[ran("b", "ls")], learn_wait=BAD_DURATIONS[name])
    assert failure_of(lambda: learner.stub.RecordEvents(request)) == invalid("learn_wait")


# --- Calls that name one block

BlockRequest: TypeAlias = ReconcileRequest | GetBlockRequest | ForgetExampleRequest


def name_block(learner: Learner, method: str, block_id: str, namespace: str = "") -> object:
    call: Callable[..., object] = getattr(learner.stub, method)
    requests: dict[str, type[BlockRequest]] = {
        "Reconcile": ReconcileRequest,
        "GetBlock": GetBlockRequest,
        "ForgetExample": ForgetExampleRequest,
    }
    return call(requests[method](id=block_id, namespace=namespace))


BLOCK_METHODS = ("Reconcile", "GetBlock", "ForgetExample")


@pytest.mark.parametrize("method", BLOCK_METHODS)
@pytest.mark.parametrize("name", BAD_IDS)
def test_a_bad_id_is_refused(learner: Learner, method: str, name: str) -> None:
    assert failure_of(lambda: name_block(learner, method, BAD_IDS[name])) == invalid("id")


@pytest.mark.parametrize("method", BLOCK_METHODS)
@pytest.mark.parametrize("name", BAD_NAMESPACES)
def test_a_bad_namespace_is_refused(learner: Learner, method: str, name: str) -> None:
    failed = failure_of(lambda: name_block(learner, method, "b", BAD_NAMESPACES[name]))
    assert failed == invalid("namespace")


@pytest.mark.parametrize("method", ["Reconcile", "GetBlock"])
@pytest.mark.parametrize("block_id", ["nobody", "x" * 255, "ü" * 127, "%s{}<>&'\"", "ID with spaces"])
def test_a_block_that_nobody_named_is_not_found(learner: Learner, method: str, block_id: str) -> None:
    failed = failure_of(lambda: name_block(learner, method, block_id, "nowhere"))
    assert failed == Failed(NOT_FOUND, "BLOCK_NOT_FOUND", {"block_id": block_id})


# --- Lists

BAD_LISTS: dict[str, tuple[ListBlocksRequest | ListExamplesRequest, Failed]] = {
    f"{request_class.__name__} with {name}": (request_class(**fields), wanted)
    for request_class in (ListBlocksRequest, ListExamplesRequest)
    for name, fields, wanted in (
        ("a negative size", {"page_size": -1}, invalid("page_size")),
        ("a token of letters", {"page_token": "next"}, MALFORMED_TOKEN),
        ("a token that is too long", {"page_token": "0" * 17}, MALFORMED_TOKEN),
        ("a token with a sign", {"page_token": "-1"}, MALFORMED_TOKEN),
        ("a bad namespace", {"namespaces": ["", "a/b"]}, invalid("namespaces[1]")),
    )
} | {
    "ListExamples with 65 labels": (
        ListExamplesRequest(labels={f"k{number}": "v" for number in range(65)}),
        too_large("labels", 64),
    ),
    "ListExamples with a label without a key": (ListExamplesRequest(labels={"": "v"}), invalid("labels['']")),
}


@pytest.mark.parametrize("name", BAD_LISTS)
def test_a_bad_list_is_refused(learner: Learner, name: str) -> None:
    request, wanted = BAD_LISTS[name]
    if isinstance(request, ListBlocksRequest):
        assert failure_of(lambda: learner.stub.ListBlocks(request)) == wanted
    else:
        assert failure_of(lambda: learner.stub.ListExamples(request)) == wanted


def test_unusual_lists_that_break_no_rule_are_answered(learner: Learner) -> None:
    for page_token in ("f" * 16, "0", "0" * 16):
        learner.stub.ListBlocks(ListBlocksRequest(page_size=2**31 - 1, page_token=page_token))
        learner.stub.ListExamples(ListExamplesRequest(page_size=2**31 - 1, page_token=page_token))
    learner.stub.ListBlocks(ListBlocksRequest(reasons=[99]))  # type: ignore[list-item]  # there is none


# --- WatchUpdates

BAD_WATCHES: dict[str, tuple[WatchUpdatesRequest, Failed]] = {
    "a token of no message": (WatchUpdatesRequest(resume_token=b"\xff"), MALFORMED_TOKEN),
    "a token without a store": (
        WatchUpdatesRequest(resume_token=WatchToken(cursor=1, horizon=1).SerializeToString()),
        MALFORMED_TOKEN,
    ),
    "a token ahead of its own horizon": (
        WatchUpdatesRequest(resume_token=WatchToken(store_id=b"s", cursor=2, horizon=1).SerializeToString()),
        MALFORMED_TOKEN,
    ),
    "a token with a negative cursor": (
        WatchUpdatesRequest(resume_token=WatchToken(store_id=b"s", cursor=-1).SerializeToString()),
        MALFORMED_TOKEN,
    ),
    "another embedder": (
        WatchUpdatesRequest(embedder_fingerprint="minilm/1"),
        Failed(FAILED_PRECONDITION, "EMBEDDER_MISMATCH", {"want": "minilm/1", "got": "hashing/h1/384/q1"}),
    ),
    "a bad namespace": (WatchUpdatesRequest(namespaces=["a", "b", "C"]), invalid("namespaces[2]")),
    "a malformed interval": (
        WatchUpdatesRequest(bookmark_interval=Duration(seconds=1, nanos=-1)),
        invalid("bookmark_interval"),
    ),
}


@pytest.mark.parametrize("name", BAD_WATCHES)
def test_a_bad_watch_is_refused(learner: Learner, name: str) -> None:
    request, wanted = BAD_WATCHES[name]
    assert failure_of(lambda: next(learner.stub.WatchUpdates(request))) == wanted


def test_a_token_of_another_store_is_answered_with_a_reset(learner: Learner) -> None:
    token = WatchToken(store_id=b"another", epoch=5, cursor=3, horizon=9, base=4).SerializeToString()
    with learner.watch(token) as stream:
        assert next(stream).HasField("hello")
        assert next(stream).HasField("reset")
        assert next(stream).HasField("bookmark")
