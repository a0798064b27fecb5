"""Deadlines and pauses, by a clock that the test moves: what is asked for, without calling."""

from collections.abc import Generator
from typing import Any

import grpc
import pytest

from errata.client import (
    CallError,
    DeadlineExceededError,
    Failure,
    Settings,
    UnavailableError,
    WhenBehind,
)
from errata.client.errors import call_error
from errata.client.operations import Operations
from errata.client.own_writes import OwnWrites
from errata.client.steps import PAUSE_S_MAX, Call, Pause
from errata.v1.learner_pb2 import GetStatusResponse
from errata.v1.rag_pb2 import SearchResponse
from errata.v1.token_pb2 import StateToken

TOKEN = StateToken(store_id=b"s", epoch=1, revision=9).SerializeToString()


class Clock:
    """Seconds that the test lets go by."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def operations(clock: Clock, **settings: Any) -> Operations:
    own_writes = OwnWrites()
    own_writes.remember(TOKEN)
    longest = lambda _, longest_s: longest_s  # noqa: E731 - as random.uniform would be passed
    return Operations(Settings(**settings), own_writes, clock=clock, uniform=longest)


def failed(code: grpc.StatusCode, reason: str = "") -> CallError:
    return call_error(Failure(method="m", target="", code=code, message="", reason=reason))


UNAVAILABLE = failed(grpc.StatusCode.UNAVAILABLE)
NOT_REACHED = failed(grpc.StatusCode.FAILED_PRECONDITION, "TOKEN_NOT_REACHED")


def result_of(steps: Generator[Any, Any, Any], answer: object) -> object:
    """What an operation returns once it is sent its last answer."""
    with pytest.raises(StopIteration) as ended:
        steps.send(answer)
    return ended.value.value


def test_each_try_has_the_time_that_is_left_and_pauses_grow_up_to_a_bound(clock: Clock) -> None:
    steps = operations(clock, deadline_s=100).learner_status()
    step, pauses_s = next(steps), []
    for _ in range(10):
        assert isinstance(step, Call)
        assert step.timeout_s == pytest.approx(1_100 - clock.now_s)
        clock.now_s += 1
        pause = steps.throw(UNAVAILABLE)
        assert isinstance(pause, Pause)
        pauses_s.append(pause.seconds)
        clock.now_s += pause.seconds
        step = steps.send(None)
    assert pauses_s[:4] == [0.05, 0.1, 0.2, 0.4]
    assert set(pauses_s[6:]) == {PAUSE_S_MAX}
    response = GetStatusResponse(version="7")
    assert result_of(steps, response) is response


def test_no_pause_goes_beyond_the_deadline(clock: Clock) -> None:
    steps = operations(clock, deadline_s=10).learner_status(deadline_s=1)
    next(steps)
    clock.now_s += 0.96
    with pytest.raises(UnavailableError):
        steps.throw(UNAVAILABLE)


def test_a_last_try_that_takes_too_long_does_not_hide_why_there_was_one(clock: Clock) -> None:
    steps = operations(clock).learner_status()
    next(steps)
    away = failed(grpc.StatusCode.UNAVAILABLE)
    steps.throw(away)
    steps.send(None)
    with pytest.raises(UnavailableError) as raised:
        steps.throw(failed(grpc.StatusCode.DEADLINE_EXCEEDED))
    assert raised.value is away
    assert raised.value.__notes__ == ["tried 2 times"]


def test_nothing_is_called_when_the_time_is_over(clock: Clock) -> None:
    steps = operations(clock).search("x", deadline_s=1)
    next(steps)
    clock.now_s += 1
    with pytest.raises(DeadlineExceededError):
        steps.throw(NOT_REACHED)


def test_a_wait_leaves_half_of_the_time_where_the_search_goes_on_without(clock: Clock) -> None:
    asked_s = []
    for settings in ({}, {"token_wait_s": 60}, {"token_wait_s": 60, "when_behind": WhenBehind.RAISE}):
        call = next(operations(clock, deadline_s=10, **settings).search("x"))
        assert isinstance(call, Call)
        asked_s.append(call.request.max_wait.seconds)  # type: ignore[attr-defined]  # a SearchRequest
    assert asked_s == [2, 5, 10]


def test_what_is_searched_without_has_the_rest_of_the_time(clock: Clock) -> None:
    steps = operations(clock, deadline_s=10).search("x")
    next(steps)
    clock.now_s += 4
    call = steps.throw(NOT_REACHED)
    assert isinstance(call, Call)
    assert call.timeout_s == pytest.approx(6)
    assert result_of(steps, SearchResponse()).sees_own_writes is False  # type: ignore[attr-defined]


def test_an_answer_of_another_kind_is_a_bug_and_said_so(clock: Clock) -> None:
    steps = operations(clock).learner_status()
    next(steps)
    with pytest.raises(TypeError, match="GetStatus was answered with SearchResponse"):
        steps.send(SearchResponse())
