"""From an error to a gRPC Status: one table a service, which a test can prove complete.

The rule for an error is that of its class, or of the nearest base that has one. Every Status carries one
google.rpc.ErrorInfo with the name of an ErrorReason and the domain `errata`. An error without a rule is a
bug: the caller learns no more than a request ID, under which the log has the traceback.

    STATUSES: StatusTable = {
        BlockNotFoundError: StatusRule(
            grpc.StatusCode.NOT_FOUND,
            learner_pb2.ERROR_REASON_BLOCK_NOT_FOUND,
            lambda error: {"block_id": error.key.id},
        ),
    }
    assert not list(errors_without_rule(STATUSES, LearnerError))        # in a test
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeAlias, TypeVar

import grpc
from google.protobuf import any_pb2
from google.rpc import (  # type: ignore[import-untyped]  # the package ships no types
    error_details_pb2,
    status_pb2,
)

from errata.serving.fields import InvalidFieldError, TooLargeError
from errata.v1 import learner_pb2
from errata.v1.learner_pb2 import ErrorReason

DOMAIN: Final = "errata"

MESSAGE_BYTES_MAX: Final = 1_024
"""Of a message. A Status travels in headers, and its message twice, of which gRPC takes 8 KiB for sure."""
METADATA_VALUE_BYTES_MAX: Final = 512
"""Of one metadata value, for the same reason. A block ID fits."""

REQUEST_ID_KEY: Final = "x-request-id"
"""Metadata key of the request ID, both ways."""
# Where the gRPC libraries of all languages look for the details of a Status.
_DETAILS_KEY: Final = "grpc-status-details-bin"

_UNSPECIFIED: Final = ErrorReason.Name(learner_pb2.ERROR_REASON_UNSPECIFIED)

ErrorType = TypeVar("ErrorType", bound=Exception)


def _no_metadata(_: Exception) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class StatusRule(Generic[ErrorType]):
    """What errors of a class become on the wire. The message is the text of the error."""

    code: grpc.StatusCode
    reason: ErrorReason.ValueType
    """Unspecified for services that are not ours, which then carries no ErrorInfo."""
    metadata: Callable[[ErrorType], Mapping[str, str]] = _no_metadata
    """What ErrorReason documents for the reason, taken from the error."""


StatusTable: TypeAlias = Mapping[type[Exception], StatusRule[Any]]

SHARED_STATUSES: Final[StatusTable] = {
    InvalidFieldError: StatusRule(
        grpc.StatusCode.INVALID_ARGUMENT,
        learner_pb2.ERROR_REASON_INVALID_FIELD,
        lambda error: {"field": error.field},
    ),
    TooLargeError: StatusRule(
        grpc.StatusCode.INVALID_ARGUMENT,
        learner_pb2.ERROR_REASON_TOO_LARGE,
        lambda error: {"field": error.field, "limit": str(error.limit)},
    ),
}
"""Rules for what any service may raise. `GrpcServer` adds them to a service's table, whose own go first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How a call ends that failed."""

    code: grpc.StatusCode
    reason: str
    """Name of an ErrorReason."""
    message: str
    metadata: Mapping[str, str]
    is_bug: bool
    """True when no rule covers the error; then nothing of it is in the message."""

    def to_proto(self) -> status_pb2.Status:
        """As google.rpc has it."""
        proto = status_pb2.Status(code=self.code.value[0], message=self.message)
        if self.reason != _UNSPECIFIED:
            info = error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=self.metadata)
            detail = any_pb2.Any()
            detail.Pack(info)
            proto.details.append(detail)
        return proto

    def trailing_metadata(self, request_id: str) -> tuple[tuple[str, str | bytes], ...]:
        """What a call ends with besides its code and message."""
        return ((REQUEST_ID_KEY, request_id), (_DETAILS_KEY, self.to_proto().SerializeToString()))


def failure_of(table: StatusTable, error: Exception, request_id: str) -> Failure:
    """What an error becomes on the wire.

    Args:
        table: the rules; errors without one become INTERNAL.
        error: what a method raised.
        request_id: under which the log tells of it.
    """
    rule = rule_of(table, type(error))
    if rule is None:
        return Failure(
            code=grpc.StatusCode.INTERNAL,
            reason=ErrorReason.Name(learner_pb2.ERROR_REASON_INTERNAL),
            message=f"internal error; the log of the service has it under request_id {request_id}",
            metadata={"request_id": request_id},
            is_bug=True,
        )
    return Failure(
        code=rule.code,
        reason=ErrorReason.Name(rule.reason),
        message=_cut(str(error), MESSAGE_BYTES_MAX),
        metadata={
            name: _cut(value, METADATA_VALUE_BYTES_MAX) for name, value in rule.metadata(error).items()
        },
        is_bug=False,
    )


def rule_of(table: StatusTable, error_class: type[Exception]) -> StatusRule[Any] | None:
    """The rule for a class of errors: its own, or that of the nearest base that has one."""
    return next((table[base] for base in error_class.__mro__ if base in table), None)


def errors_without_rule(table: StatusTable, root: type[Exception]) -> Iterator[type[Exception]]:
    """Those of `root` and its subclasses, at any depth, that can be raised and for which there is no rule.

    A class with subclasses is a family: it needs a rule only if one of its members has none of its own.
    """
    if rule_of(table, root) is not None:
        return
    subclasses = root.__subclasses__()
    if not subclasses:
        yield root
    for subclass in subclasses:
        yield from errors_without_rule(table, subclass)


def _cut(text: str, bytes_max: int) -> str:
    # A lone surrogate, as in a broken file name, has no place in a header.
    encoded = text.encode(errors="replace")
    if len(encoded) <= bytes_max:
        return encoded.decode()
    return encoded[: bytes_max - len("…".encode())].decode(errors="ignore") + "…"
