"""What calls return, as people read it."""

import pytest

from errata.client import Learned, Match, Recorded, Settings, code, document, prose
from errata.v1.example_pb2 import Example
from errata.v1.learner_pb2 import (
    NOT_LEARNED_REASON_ERROR,
    NOT_LEARNED_REASON_UNSPECIFIED,
    RECONCILE_OUTCOME_CREATED,
    RECONCILE_OUTCOME_FAILED,
    ReconcileOutcome,
    RecordEventsResponse,
)


def test_recorded_blocks_are_named_once_in_their_order() -> None:
    recorded = Recorded.of(RecordEventsResponse(pending_block_count=1), ["b", "a", "b"])
    assert (recorded.block_ids, recorded.block_id, recorded.pending_block_count) == (("b", "a"), "b", 1)


def test_of_no_event_there_is_no_block() -> None:
    with pytest.raises(ValueError, match="no event was recorded"):
        _ = Recorded.of(RecordEventsResponse(), []).block_id


@pytest.mark.parametrize(
    ("outcome", "is_learned"),
    [("CREATED", True), ("UPDATED", True), ("UNCHANGED", True), ("DELETED", False), ("NOT_LEARNED", False)],
)
def test_what_is_learned_is_told_from_what_is_not(outcome: str, is_learned: bool) -> None:  # noqa: FBT001 - a parameter of the test
    value = ReconcileOutcome.Value(f"RECONCILE_OUTCOME_{outcome}")
    learned = Learned(outcome=value, reason=NOT_LEARNED_REASON_UNSPECIFIED, token=b"")
    assert (learned.is_learned, learned.outcome_name, learned.reason_name) == (is_learned, outcome, "")


def test_a_failure_for_good_is_not_learned_and_has_a_reason() -> None:
    learned = Learned(outcome=RECONCILE_OUTCOME_FAILED, reason=NOT_LEARNED_REASON_ERROR, token=b"")
    assert (learned.is_learned, learned.reason_name) == (False, "ERROR")
    assert learned.outcome != RECONCILE_OUTCOME_CREATED


def test_a_match_shows_its_texts() -> None:
    found = Match(Example(id="e", query=document("a", "b"), answer=[code("ls"), prose("c")]), 0.12345)
    assert repr(found) == "Match(score=0.123, question='a\\n\\nb', answer='ls\\n\\nc')"
    assert Match(Example(query_text="q", query=document("a")), 0.1).question == "q"


def test_credentials_are_not_shown() -> None:
    assert "secret" not in repr(Settings(metadata=(("authorization", "secret"),)))
