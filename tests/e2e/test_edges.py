"""Requests at the very edge of each rule, which must be taken."""

import time

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from errata.v1.example_pb2 import ExampleKey
from errata.v1.learner_pb2 import RecordEventsRequest
from errata.v1.rag_pb2 import SearchFilter, SearchRequest
from tests.block_events import correction, document, proposed, ran
from tests.e2e.services import CALL_S_MAX, Learner, Rag

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
LONGEST = Duration(seconds=315_576_000_000)


def test_events_just_within_the_rules_are_recorded(learner: Learner) -> None:
    labels = {f"{number:063}": "v" * 255 for number in range(64)}
    large = proposed("large", "list files", "x" * (MIB - 100))
    assert MIB - 100 < large.ByteSize() <= MIB
    soon, epoch = ran("soon", "ls"), ran("epoch", "ls")
    soon.event_time.FromSeconds(int(time.time()) + 23 * 60 * 60)
    epoch.event_time.FromSeconds(0)
    events = [
        large,
        ran("x" * 255, "ls", labels=labels, namespace="a" * 63),
        *correction("é" * 127, "list files", "ls"),
        soon,
        epoch,
    ]
    assert learner.record(*events).changed_block_count == 5
    assert dict(learner.block("x" * 255, "a" * 63).block.labels) == labels


def test_a_thousand_events_are_recorded_at_once(learner: Learner) -> None:
    events = [ran(f"many-{number}", "ls") for number in range(1_000)]
    assert learner.record(*events).changed_block_count == 1_000


def test_a_wait_of_ten_thousand_years_ends_with_the_learning(learner: Learner) -> None:
    events = correction("patient", "wait for it", "sleep 1")
    request = RecordEventsRequest(events=events, learn_wait=LONGEST)
    assert learner.stub.RecordEvents(request).pending_block_count == 0


def test_nothing_is_recorded_of_no_event(learner: Learner) -> None:
    response = learner.record()
    assert (response.changed_block_count, response.pending_block_count, response.token) == (0, 0, b"")


def test_searches_just_within_the_rules_are_answered(learner: Learner, rag: Rag) -> None:
    token = learner.learn(*correction("edge", "find the edge", "ls"))
    found = rag.stub.Search(
        SearchRequest(
            text="find the edge",
            limit=2**31 - 1,
            min_score=-1.0,
            min_token=token,
            max_wait=LONGEST,
            diversity=1.0,
            per_question_limit=2**31 - 1,
            exclude=[ExampleKey(id=f"e{number}") for number in range(100)],
            filter=SearchFilter(
                namespaces=["", *(f"n{number}" for number in range(15))],
                executed_since=Timestamp(seconds=-62_135_596_800),
            ),
        ),
        timeout=CALL_S_MAX,
    )
    assert "edge" in {result.example.id for result in found.results}


def test_questions_of_a_mebibyte_are_answered(rag: Rag) -> None:
    assert rag.search("word " * (MIB // 5)).query_text
    doc = document("word " * (MIB // 5 - 10))
    assert MIB - 100 < doc.ByteSize() <= MIB
    assert rag.search(doc=doc).query_text
