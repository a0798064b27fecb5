"""Operations as steps: what is called and how long is paused, without calling or pausing.

An operation is a generator. It yields a `Call` and is sent the response, or has the CallError thrown in; or
yields a `Pause`. What it returns is the result. So the order of things, the retries and the deadlines are
written once, and the synchronous and the asynchronous client only carry the steps out.
"""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Generic, TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message

from errata.client.errors import CallError, DeadlineExceededError, Failure, RateLimitedError, UnavailableError

Result = TypeVar("Result")
Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)

PAUSE_S_FIRST: Final = 0.05
"""Before the first retry, at most: a service that is restarted is back within a second or so."""
PAUSE_S_MAX: Final = 2.0


class Service(Enum):
    """Whose channel a call goes through."""

    LEARNER = "learner"
    RAG = "rag"


@dataclass(frozen=True, slots=True)
class Method(Generic[Request, Response]):
    """One method of a service."""

    service: Service
    stub_class: Callable[[Any], Any]
    """Made of a channel, it has the method under its name."""
    name: str
    response_class: type[Response]


@dataclass(frozen=True, slots=True)
class Call:
    """Calls a method, once."""

    method: Method[Any, Any]
    request: Message
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Lets some time go by."""

    seconds: float


Step: TypeAlias = Call | Pause
Steps: TypeAlias = Generator[Step, Message | None, Result]
Clock: TypeAlias = Callable[[], float]
"""Seconds that never go back, such as `time.monotonic`."""
Uniform: TypeAlias = Callable[[float, float], float]
"""A random number between two, such as `random.uniform`."""


class Deadline:
    """When an operation has to be over, its retries included."""

    def __init__(self, seconds: float, clock: Clock = time.monotonic) -> None:
        """Begins now."""
        self._clock = clock
        self._end_s = clock() + seconds

    def remaining_s(self) -> float:
        """How much time is left, at least 0."""
        return max(0.0, self._end_s - self._clock())


def called(
    method: Method[Request, Response], request: Request, deadline: Deadline, uniform: Uniform
) -> Steps[Response]:
    """Calls a method until it answers, and pauses in between, longer each time and by chance.

    Every method that a client calls is safe to repeat. What may pass by itself is tried again: UNAVAILABLE,
    whatever its reason, and RATE_LIMITED.

    Raises:
        CallError: it failed for good, or there is no time left for another try.
    """
    attempt_count = 0
    failed: CallError | None = None
    while True:
        attempt_count += 1
        try:
            return (yield from called_once(method, request, deadline))
        except DeadlineExceededError:
            if failed is None:
                raise
            # What made it try again says more than that the time for another try was short.
            failed.add_note(f"tried {attempt_count} times")
            raise failed from failed.__cause__
        except (UnavailableError, RateLimitedError) as error:
            failed = error
            pause_s = uniform(0.0, min(PAUSE_S_MAX, PAUSE_S_FIRST * 2 ** (attempt_count - 1)))
            if pause_s >= deadline.remaining_s():
                failed.add_note(f"tried {attempt_count} times")
                raise
            yield Pause(pause_s)


def called_once(method: Method[Request, Response], request: Request, deadline: Deadline) -> Steps[Response]:
    """Calls a method.

    Raises:
        CallError: it failed.
    """
    remaining_s = deadline.remaining_s()
    if not remaining_s:
        raise DeadlineExceededError(_out_of_time(method))
    response = yield Call(method, request, remaining_s)
    if not isinstance(response, method.response_class):
        raise TypeError(f"{method.name} was answered with {type(response).__name__}")
    return response


def _out_of_time(method: Method[Any, Any]) -> Failure:
    return Failure(
        method=method.name,
        target="",
        code=grpc.StatusCode.DEADLINE_EXCEEDED,
        message="the time for it was over before it was called",
    )
