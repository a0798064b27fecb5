"""From the bytes of a request to the bytes of a response, for one method of a service.

Around the method of the servicer: the size and the form of the request, the ID of the request, the Status of
what it raises, a metric and a log line. CancelledError is always passed on.
"""

import asyncio
import contextlib
import re
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeAlias, cast

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from errata.serving.fields import InvalidFieldError, TooLargeError
from errata.serving.logs import debug_is_logged, get_logger
from errata.serving.metrics import RpcMetrics
from errata.serving.statuses import REQUEST_ID_KEY, Failure, StatusTable, failure_of

REQUEST_BYTES_MAX: Final = 4 * 1024 * 1024
"""Of any request, by the contract."""

_SANE_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")

# Of the failures that are not bugs, those that tell of the service and not of the caller.
_SERVICE_FAILURES: Final = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DATA_LOSS}
)

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
UnaryMethod: TypeAlias = Callable[[Any, "Call"], Awaitable[Message | bytes]]
StreamMethod: TypeAlias = Callable[[Any, "Call"], AsyncIterator[Message | bytes]]

log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a method may know of the call that it answers."""

    request_id: str
    """Of the caller where it sent a sane one, else random; in the log lines of the call."""
    method: str
    """`package.Service/Method`."""
    deadline_s: float | None = None
    """On the clock of `time.monotonic`, rather early than late; None when the caller waits for ever."""
    peer: str = ""
    """The address of the caller, as gRPC writes it."""

    @property
    def time_remaining_s(self) -> float | None:
        """How long the caller still waits, at least 0; None when for ever."""
        return None if self.deadline_s is None else max(0.0, self.deadline_s - time.monotonic())


class _CallerGoneError(Exception):
    """A response could not be sent, because nobody takes it any more."""


class _StrayCancelError(Exception):
    """Something within a method was cancelled, and not the call."""


class MethodHandler:
    """One method of a service, for gRPC."""

    def __init__(
        self, method: MethodDescriptor, servicer: object, *, statuses: StatusTable, metrics: RpcMetrics
    ) -> None:
        """Binds a method of the contract to that of a servicer.

        Args:
            method: of the contract; takes one request.
            servicer: has a method of that name in snake_case.
            statuses: what errors become.
            metrics: counts the calls.

        Raises:
            TypeError: the servicer has no such method, or the contract wants a stream of requests.
        """
        service = method.containing_service
        self.name = f"{service.full_name}/{method.name}"
        behaviour = getattr(servicer, _snake_case(method.name), None)
        if behaviour is None:
            raise TypeError(
                f"{type(servicer).__name__} has no method {_snake_case(method.name)} for {self.name}"
            )
        if method.client_streaming:
            raise TypeError(f"{self.name} takes a stream of requests; only single requests are supported")
        self._behaviour = behaviour
        self._request_class = GetMessageClass(method.input_type)
        self._statuses = statuses
        self._metrics = metrics
        self._server_streaming = method.server_streaming
        if method.server_streaming:
            metrics.expect_stream(self.name)
        else:
            metrics.expect_unary(self.name)

    def to_grpc(self) -> "grpc.RpcMethodHandler[bytes, bytes]":
        """The handler in the form that a gRPC server takes; requests and responses are left as bytes."""
        if self._server_streaming:
            return grpc.unary_stream_rpc_method_handler(cast("Any", self._answer_stream))
        return grpc.unary_unary_rpc_method_handler(cast("Any", self._answer_unary))

    async def _answer_unary(self, request: bytes, context: Context) -> bytes:
        call = self._begin(context)
        behaviour = cast("UnaryMethod", self._behaviour)
        begin_s = time.monotonic()
        code = grpc.StatusCode.OK
        try:
            return _serialized(await behaviour(self._parsed(request), call))
        except asyncio.CancelledError:
            code = await self._cancelled(context, call)
            raise
        except Exception as error:  # noqa: BLE001 - whatever a method raises becomes a Status
            failure = self._failed(error, call)
            code = failure.code
            await _abort(context, failure, call)
        finally:
            duration_s = time.monotonic() - begin_s
            self._metrics.unary_ended(self.name, code.name, duration_s)
            if debug_is_logged():
                log.debug("call ended", code=code.name, duration_ms=round(duration_s * 1_000, 3))

    async def _answer_stream(self, request: bytes, context: Context) -> None:
        call = self._begin(context)
        behaviour = cast("StreamMethod", self._behaviour)
        self._metrics.stream_opened(self.name)
        log.debug("stream opened", peer=call.peer)
        code = grpc.StatusCode.OK
        try:
            responses = behaviour(self._parsed(request), call)
            # Closed at its end: left to the garbage collector, its `finally` would run at some other time.
            async with contextlib.aclosing(cast("AsyncGenerator[Message | bytes, None]", responses)):
                async for response in responses:
                    await _send(response, context)
        except asyncio.CancelledError:
            code = await self._cancelled(context, call)
            raise
        except _CallerGoneError:
            code = grpc.StatusCode.CANCELLED
        except Exception as error:  # noqa: BLE001 - whatever a method raises becomes a Status
            failure = self._failed(error, call)
            code = failure.code
            await _abort(context, failure, call)
        finally:
            self._metrics.stream_ended(self.name, code.name)
            log.debug("stream ended", code=code.name)

    def _begin(self, context: Context) -> Call:
        # Nothing else of the metadata is kept: a stream would hold it for days.
        request_id = secrets.token_hex(8)
        for key, value in context.invocation_metadata() or ():
            if key == REQUEST_ID_KEY and isinstance(value, str) and _SANE_REQUEST_ID.fullmatch(value):
                request_id = value
        # The stubs promise a number; it is None for a call without a deadline.
        remaining_s = cast("float | None", context.time_remaining())
        context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
        # Each call is a task of its own, with a context of its own.
        structlog.contextvars.bind_contextvars(request_id=request_id, method=self.name)
        return Call(
            request_id=request_id,
            method=self.name,
            deadline_s=None if remaining_s is None else time.monotonic() + _not_rounded_up(remaining_s),
            peer=context.peer(),
        )

    def _parsed(self, request: bytes) -> Message:
        if len(request) > REQUEST_BYTES_MAX:
            raise TooLargeError("request", REQUEST_BYTES_MAX, "bytes", len(request))
        try:
            return self._request_class.FromString(request)
        except DecodeError:
            name = self._request_class.DESCRIPTOR.full_name
            raise InvalidFieldError(
                "request", f"the bytes are no {name}; generate the client from the same protos"
            ) from None

    def _failed(self, error: Exception, call: Call) -> Failure:
        failure = failure_of(self._statuses, error, call.request_id)
        if failure.is_bug:
            log.error("a bug ended a call", exc_info=error)
        else:
            say = log.warning if failure.code in _SERVICE_FAILURES else log.info
            say("call refused", code=failure.code.name, reason=failure.reason, details=dict(failure.metadata))
        return failure

    async def _cancelled(self, context: Context, call: Call) -> grpc.StatusCode:
        task = asyncio.current_task()
        if task is not None and not task.cancelling():
            # Nobody cancelled the call, and gRPC would now leave the caller waiting for ever.
            failure = self._failed(_StrayCancelError("a method let through a CancelledError"), call)
            try:
                await _abort(context, failure, call)
            except grpc.aio.AbortError:
                return failure.code
        if call.time_remaining_s == 0:
            return grpc.StatusCode.DEADLINE_EXCEEDED
        return grpc.StatusCode.CANCELLED


async def _send(response: Message | bytes, context: Context) -> None:
    try:
        await context.write(_serialized(response))
    except grpc.aio.BaseError as error:
        raise _CallerGoneError from error


def _serialized(response: Message | bytes) -> bytes:
    return response if isinstance(response, bytes) else response.SerializeToString()


async def _abort(context: Context, failure: Failure, call: Call) -> NoReturn:
    await context.abort(failure.code, failure.message, failure.trailing_metadata(call.request_id))


def _not_rounded_up(remaining_s: float) -> float:
    """What a caller waits at least: gRPC sends the time rounded up, by a millisecond or 1 %."""
    return max(0.0, remaining_s * 0.99 - 0.001)


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
