"""What a client raises: errors as types that carry data, by the reason that a service gives.

`CallError` and what is derived from it come from calls; its class follows from `ErrorReason`, or from the
code where a failure carries no reason, as when nobody answers. The others tell of the client itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import grpc

from errata.client.error_details import error_info, request_id

_REASON_PREFIX: Final = "ERROR_REASON_"


class ErrataError(Exception):
    """Any error that a client raises on purpose, but for ValueErrors of arguments that can never be right."""


class NotConfiguredError(ErrataError):
    """The client has no address of the service that the call is for."""

    def __init__(self, service: str) -> None:
        """Names the service by its parameter: `learner` or `rag`."""
        super().__init__(f"this client has no address of it: pass {service}=HOST:PORT when you make it")
        self.service = service


class ClosedError(ErrataError):
    """The client has been closed."""

    def __init__(self) -> None:
        super().__init__("this client has been closed; make another one")


class ForkedError(ErrataError):
    """The client was used before this process was forked: gRPC's channels do not survive that."""

    def __init__(self) -> None:
        super().__init__(
            "this client was used before the process was forked; make one in each process, after the fork"
        )


class OtherLoopError(ErrataError):
    """The asynchronous client was first used in another event loop: gRPC's channels belong to one."""

    def __init__(self) -> None:
        super().__init__(
            "this client was first used in another event loop; make one in each, within asyncio.run"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How a call ended that failed."""

    method: str
    """Such as `Search`."""
    target: str
    """The address that was called; empty for a channel of the caller's own."""
    code: grpc.StatusCode
    message: str
    reason: str = ""
    """Name of an `ErrorReason` without its prefix, such as `TOKEN_LOST`; empty when none was given."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What `ErrorReason` documents for the reason."""
    request_id: str = ""
    """Under which the log of the service has the call; empty when it sent none."""

    @classmethod
    def of(cls, error: grpc.RpcError, *, method: str, target: str) -> "Failure":
        """Reads what a call of gRPC raised, synchronous or asynchronous."""
        # What is raised is the call itself; its class in the types does not say so.
        call: grpc.Call = error  # type: ignore[assignment]
        trailing = [(str(key), value) for key, value in call.trailing_metadata() or ()]
        info = error_info(trailing)
        return cls(
            method=method,
            target=target,
            code=call.code(),
            message=call.details() or "",
            reason=info.reason.removeprefix(_REASON_PREFIX) if info else "",
            metadata=info.metadata if info else {},
            request_id=request_id(trailing),
        )


class CallError(ErrataError):
    """A call failed. Raised itself for what has no class of its own, such as UNIMPLEMENTED."""

    def __init__(self, failure: Failure) -> None:
        at = f" at {failure.target}" if failure.target else ""
        why = f"{failure.code.name}, {failure.reason}" if failure.reason else failure.code.name
        super().__init__(f"{failure.method}{at}: {failure.message or 'no message'} [{why}]")
        self.failure = failure

    @property
    def code(self) -> grpc.StatusCode:
        """How gRPC classes it."""
        return self.failure.code

    @property
    def reason(self) -> str:
        """Name of an `ErrorReason` without its prefix; empty when none was given."""
        return self.failure.reason

    @property
    def metadata(self) -> Mapping[str, str]:
        """What `ErrorReason` documents for the reason."""
        return self.failure.metadata

    def _number(self, key: str) -> int | None:
        text = self.failure.metadata.get(key, "")
        return int(text) if text.isascii() and text.isdigit() else None


class InvalidRequestError(CallError):
    """The request breaks the contract; sending it again will not help."""

    @property
    def field(self) -> str:
        """Path of the field in the request, such as `filter.namespaces[0]`; empty when not told."""
        return self.metadata.get("field", "")


class TooLargeError(InvalidRequestError):
    """Something is too large, or there are too many of it."""

    @property
    def limit(self) -> int | None:
        """The bound; None when not told."""
        return self._number("limit")


class TokenMalformedError(InvalidRequestError):
    """A token cannot be read: it was not passed on as it was received."""


class EmbedderRejectedError(InvalidRequestError):
    """The embedder refuses the text for good."""


class NotFoundError(CallError):
    """No event names the block."""


class DeniedError(CallError):
    """Credentials are missing, wrong, or do not cover the call; `reason` says which."""


class UnavailableError(CallError):
    """Nobody answers, or the service cannot do it now; `reason` says why. Retried before it is raised."""


class RateLimitedError(CallError):
    """Too many calls at once, or too many a second. Retried before it is raised."""


class StoreFullError(CallError):
    """The Learner has no room left; nothing was recorded."""


class DeadlineExceededError(CallError):
    """The call did not end in time. What it was to record may be recorded; sending that again is safe."""


class TokenNotReachedError(CallError):
    """The RAG service has not received the wanted write in time; the next search may find it there."""

    @property
    def want(self) -> int | None:
        """The revision that was waited for."""
        return self._number("want")

    @property
    def applied(self) -> int | None:
        """The revision that the index had reached."""
        return self._number("applied")


class TokenLostError(TokenNotReachedError):
    """The wanted write belongs to a history that the store has lost, as after a restored backup."""


class NamespaceNotFollowedError(CallError):
    """The RAG service does not receive the examples of a namespace."""

    @property
    def namespace(self) -> str:
        """The namespace."""
        return self.metadata.get("namespace", "")


class EmbedderMismatchError(CallError):
    """A watcher asked for embeddings of another embedder than the store holds."""


class InternalError(CallError):
    """A bug of the service; its log has it under `failure.request_id`."""


ERROR_OF_REASON: Final[Mapping[str, type[CallError]]] = {
    "INVALID_FIELD": InvalidRequestError,
    "BLOCK_NOT_FOUND": NotFoundError,
    "BACKFILL_NOT_FOUND": NotFoundError,
    "TOKEN_MALFORMED": TokenMalformedError,
    "EMBEDDER_MISMATCH": EmbedderMismatchError,
    "EMBEDDER_UNAVAILABLE": UnavailableError,
    "EMBEDDER_REJECTED": EmbedderRejectedError,
    "STORE_FULL": StoreFullError,
    "TOKEN_NOT_REACHED": TokenNotReachedError,
    "INDEX_NOT_READY": UnavailableError,
    "UNAUTHENTICATED": DeniedError,
    "NAMESPACE_DENIED": DeniedError,
    "RIGHT_MISSING": DeniedError,
    "NAMESPACE_NOT_FOLLOWED": NamespaceNotFollowedError,
    "REEMBEDDING": UnavailableError,
    "TOO_LARGE": TooLargeError,
    "RATE_LIMITED": RateLimitedError,
    "INTERNAL": InternalError,
    "TOKEN_LOST": TokenLostError,
}
"""By the name of the `ErrorReason` without its prefix."""

_ERROR_OF_CODE: Final[Mapping[grpc.StatusCode, type[CallError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.UNAUTHENTICATED: DeniedError,
    grpc.StatusCode.PERMISSION_DENIED: DeniedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    # Not by us: a server that many connect to at once ends some of the calls so.
    grpc.StatusCode.CANCELLED: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.INTERNAL: InternalError,
}


def call_error(failure: Failure) -> CallError:
    """The error for a failure: that of its reason, else that of its code, else a plain `CallError`."""
    by_code = _ERROR_OF_CODE.get(failure.code, CallError)
    return ERROR_OF_REASON.get(failure.reason, by_code)(failure)
