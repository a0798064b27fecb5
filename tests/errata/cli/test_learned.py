"""Why nothing was learned, in sentences."""

from errata.cli.learned import SENTENCES, origin_name, reason_name, reason_value, verdict
from errata.v1.example_pb2 import EXAMPLE_ORIGIN_UNSPECIFIED, ExampleOrigin
from errata.v1.learner_pb2 import (
    NOT_LEARNED_REASON_ERROR,
    NOT_LEARNED_REASON_UNCHANGED,
    NOT_LEARNED_REASON_UNSPECIFIED,
    BlockState,
    NotLearnedReason,
)


def test_every_reason_has_a_sentence() -> None:
    reasons = set(NotLearnedReason.values()) - {NOT_LEARNED_REASON_UNSPECIFIED}
    assert {reason_name(reason) for reason in reasons} == set(SENTENCES)
    assert {reason_value(name) for name in SENTENCES} == reasons


def test_every_origin_has_a_word() -> None:
    origins = set(ExampleOrigin.values()) - {EXAMPLE_ORIGIN_UNSPECIFIED}
    assert all(origin_name(origin) for origin in origins)


def test_a_verdict_says_what_became_of_the_block() -> None:
    assert verdict(BlockState(learned=True)) == "Learned."
    assert "Not learned (unchanged)" in verdict(BlockState(reason=NOT_LEARNED_REASON_UNCHANGED))
    stale = verdict(BlockState(learned=True, reason=NOT_LEARNED_REASON_ERROR, last_error="no room"))
    assert "could not be brought up to date" in stale
    assert stale.endswith("Last error: no room")


def test_a_reason_that_this_version_does_not_know_is_told_by_number() -> None:
    assert reason_name(99) == "99"  # type: ignore[arg-type]  # as a newer Learner might send it
