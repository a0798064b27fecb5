"""How a call failed, as a client sees it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import grpc
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # the package ships no types
from grpc_status import rpc_status  # type: ignore[import-untyped]  # the package ships no types

INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
NOT_FOUND = grpc.StatusCode.NOT_FOUND


@dataclass(frozen=True)
class Failed:
    """A status with its reason."""

    code: grpc.StatusCode
    reason: str = ""
    """Without its prefix; empty when the status carries no ErrorInfo."""
    metadata: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, error: grpc.RpcError) -> "Failed":
        """Reads the one ErrorInfo of an error."""
        status = rpc_status.from_call(error)
        code = code_of(error)
        if status is None or not status.details:
            return cls(code)
        info = error_details_pb2.ErrorInfo()
        (detail,) = status.details
        assert detail.Unpack(info)
        assert info.domain == "errata"
        return cls(code, info.reason.removeprefix("ERROR_REASON_"), dict(info.metadata))


def code_of(error: BaseException) -> grpc.StatusCode:
    """The code of an error that a call raised."""
    # The stubs do not know that what is raised is the call itself.
    code: object = getattr(error, "code")()  # noqa: B009 - see above
    assert isinstance(code, grpc.StatusCode)
    return code


def failure_of(call: Callable[[], object]) -> Failed:
    """How a call fails; it must."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return Failed.of(caught.value)


def invalid(named: str) -> Failed:
    """What a field that breaks its rule gets."""
    return Failed(INVALID_ARGUMENT, "INVALID_FIELD", {"field": named})


def too_large(named: str, limit: int) -> Failed:
    """What a field that is larger than its bound gets."""
    return Failed(INVALID_ARGUMENT, "TOO_LARGE", {"field": named, "limit": str(limit)})
