"""Events are built as the Learner wants them."""

from datetime import UTC, datetime

import pytest

from errata.client import code, document, new_block_id, proposed, prose, ran, taught
from errata.v1.block_pb2 import (
    BLOCK_KIND_CODE,
    BLOCK_KIND_MARKUP,
    EXECUTION_STATUS_FAILED,
    EXECUTION_STATUS_SUCCEEDED,
    BlockEvent,
)
from learner_service.validation import check_event

AT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


@pytest.mark.parametrize(
    "event",
    [
        proposed("q", "ls", example_ids=["a"], labels={"team": "x"}, namespace="n"),
        ran("ls"),
        ran("ls", question="q", exit_code=-1, succeeded=True),
        taught("q", "ls"),
        taught(document("q", code("x = 1", "python")), [code("ls"), prose("done")]),
    ],
)
def test_every_event_keeps_the_rules_of_the_contract(event: BlockEvent) -> None:
    check_event("event", event, now_us=event.event_time.ToMicroseconds())
    assert event.block_id


def test_a_text_is_prose_in_a_question_and_code_in_an_answer() -> None:
    event = proposed("why", "ls", language="bash", block_id="b", at=AT)
    (asked,) = event.generated.doc.blocks
    assert (asked.kind, asked.contents) == (BLOCK_KIND_MARKUP, "why")
    answer = event.generated.block
    assert (answer.kind, answer.language, answer.contents) == (BLOCK_KIND_CODE, "bash", "ls")
    assert event.event_time.ToDatetime(tzinfo=UTC) == AT
    assert event.block_id == "b"


def test_a_document_and_blocks_go_as_they_are() -> None:
    doc = document("first", code("ls", "bash"), prose("then"))
    assert taught(doc, [code("a", "sql"), "b"], language="bash").taught.query == doc
    answers = taught(doc, [code("a", "sql"), "b"], language="bash").taught.answer
    assert [(block.language, block.contents) for block in answers] == [("sql", "a"), ("bash", "b")]


def test_a_run_says_how_it_ended_only_where_that_is_known() -> None:
    unknown = ran("ls").executed
    assert not unknown.HasField("exit_code")
    assert not unknown.HasField("doc")
    assert unknown.status == 0
    assert ran("ls", exit_code=0).executed.HasField("exit_code")
    assert ran("ls", succeeded=True).executed.status == EXECUTION_STATUS_SUCCEEDED
    assert ran("ls", succeeded=False).executed.status == EXECUTION_STATUS_FAILED


def test_a_new_block_has_an_id_of_its_own() -> None:
    assert len({new_block_id() for _ in range(100)}) == 100
    assert proposed("q", "a").block_id != proposed("q", "a").block_id


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        ran("ls", at=AT.replace(tzinfo=None))
