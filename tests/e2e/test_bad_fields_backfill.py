"""Every rule that learner.proto documents for a backfill, broken over the wire."""

from collections.abc import Iterator
from functools import partial

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from errata.v1.learner_pb2 import BackfillRequest, GetBackfillRequest
from tests.e2e.failures import NOT_FOUND, Failed, failure_of, invalid
from tests.e2e.services import CALL_S_MAX, Learner, check_no_bug

pytestmark = pytest.mark.slow

BAD_BACKFILLS: dict[str, tuple[BackfillRequest, Failed]] = {
    "an ID in upper case": (BackfillRequest(backfill_id="All"), invalid("backfill_id")),
    "an ID with a slash": (BackfillRequest(backfill_id="a/b"), invalid("backfill_id")),
    "an ID that is too long": (BackfillRequest(backfill_id="x" * 64), invalid("backfill_id")),
    "a bad namespace": (BackfillRequest(namespaces=["a", "B"]), invalid("namespaces[1]")),
    "a time with negative nanoseconds": (
        BackfillRequest(start_time=Timestamp(nanos=-1)),
        invalid("start_time"),
    ),
    "a time after the year 9999": (
        BackfillRequest(start_time=Timestamp(seconds=300_000_000_000)),
        invalid("start_time"),
    ),
}


@pytest.fixture(autouse=True)
def _the_process_still_answers_and_met_no_bug(learner: Learner) -> Iterator[None]:
    yield
    learner.status()
    check_no_bug(learner.process)


@pytest.mark.parametrize("name", BAD_BACKFILLS)
@pytest.mark.parametrize("dry_run", [True, False])
def test_a_bad_backfill_is_refused(learner: Learner, name: str, *, dry_run: bool) -> None:
    request, wanted = BackfillRequest(dry_run=dry_run), BAD_BACKFILLS[name][1]
    request.MergeFrom(BAD_BACKFILLS[name][0])
    assert failure_of(lambda: learner.stub.Backfill(request, timeout=CALL_S_MAX)) == wanted


@pytest.mark.parametrize("backfill_id", ["", "All", "a/b", "x" * 64, "a\nb"])
def test_asking_for_a_bad_id_is_refused(learner: Learner, backfill_id: str) -> None:
    request = GetBackfillRequest(backfill_id=backfill_id)
    failed = failure_of(lambda: learner.stub.GetBackfill(request, timeout=CALL_S_MAX))
    assert failed == invalid("backfill_id")


def test_a_backfill_that_nobody_began_is_not_found(learner: Learner) -> None:
    request = GetBackfillRequest(backfill_id="x" * 63)
    failed = failure_of(lambda: learner.stub.GetBackfill(request, timeout=CALL_S_MAX))
    assert failed == Failed(NOT_FOUND, "BACKFILL_NOT_FOUND", {"backfill_id": "x" * 63})


def test_the_same_id_with_another_request_is_refused_and_with_the_same_is_the_same(learner: Learner) -> None:
    first = learner.stub.Backfill(BackfillRequest(backfill_id="mine"), timeout=CALL_S_MAX)
    again = learner.stub.Backfill(BackfillRequest(backfill_id="mine"), timeout=CALL_S_MAX)
    assert again == first
    for other in (
        BackfillRequest(backfill_id="mine", namespaces=["a"]),
        BackfillRequest(backfill_id="mine", dry_run=True),
        BackfillRequest(backfill_id="mine", start_time=Timestamp(seconds=1)),
    ):
        assert failure_of(partial(learner.stub.Backfill, other)) == invalid("backfill_id")
