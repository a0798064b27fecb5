"""What the answers of an OpenAI-compatible embeddings API mean: vectors, or one of two kinds of error.

A request that *failed* may succeed later as it is: the server was away, busy, or not set up. One that was
*refused* never will: something in it is at fault. Messages are for people; they hold no text of a request and
no key, even where the server repeats them.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

RETRY_AFTER_S_MAX: Final = 300.0
"""A server that names a later time, by mistake or not, is asked again after this."""

QUOTA_PAUSE_S: Final = 300.0
"""Nobody pays a bill within seconds."""

SETUP_PAUSE_S: Final = 60.0
"""A wrong key or a model that is not there needs a person, or a server that is still being set up."""

MESSAGE_CHARACTERS_MAX: Final = 200

_RETRIED: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS})
_REFUSED: Final = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}
)
_ABOUT_ACCOUNT_OR_MODEL: Final = frozenset(
    {
        HTTPStatus.PAYMENT_REQUIRED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)
"""The message of any other error may repeat the texts of the request, as some servers do with bad input, or
a part of the key."""

_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SECONDS: Final = re.compile(r"\d{1,9}(\.\d{1,9})?")
_UNIT_ERROR_MAX: Final = 1e-6


class RequestFailedError(Exception):
    """The request had no answer that can be used; the same one may have later."""

    def __init__(self, problem: str, *, pause_s: float = 0.0, retry: bool = True) -> None:
        """Keeps what is known.

        Args:
            problem: for people.
            pause_s: not to be asked again before so long.
            retry: whether seconds may help.
        """
        super().__init__(problem)
        self.problem = problem
        self.pause_s = pause_s
        self.retry = retry


class RequestRefusedError(Exception):
    """Something in the request is at fault: its size, one of its texts, or all that it asks for."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class UnusableVectorError(RequestRefusedError):
    """A text was given a vector without direction, such as zeros or NaN; servers do so to some texts."""


def unit_vectors(body: bytes, count: int, dimension: int | None) -> NDArray[np.float32]:
    """The vectors of an answer with status 200, in the order of the request, brought to length 1.

    Args:
        body: of the answer.
        count: of the texts in the request.
        dimension: that they must have; None takes that of the first.

    Raises:
        RequestFailedError: the body is not an answer to this request, or of another dimension.
        UnusableVectorError: one of them has no direction.
    """
    vectors = _in_order(_entries(body), count)
    for vector in vectors:
        if dimension is not None and len(vector) != dimension:
            raise RequestFailedError(
                f"it answers with {len(vector)} dimensions instead of {dimension}",
                pause_s=SETUP_PAUSE_S,
                retry=False,
            )
        dimension = len(vector)
    # Scaled by the greatest coordinate first: the square of a large one would be infinite.
    matrix = np.array(vectors, np.float64)
    with np.errstate(all="ignore"):
        matrix /= np.abs(matrix).max(axis=1, keepdims=True)
        matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    unit = matrix.astype(np.float32)
    lengths = np.linalg.norm(unit.astype(np.float64), axis=1)
    # Written so that NaN fails too.
    if not (np.abs(lengths - 1.0) <= _UNIT_ERROR_MAX).all():
        raise UnusableVectorError("it gives a text a vector without direction (zeros, NaN or infinity)")
    return unit


def error_of(
    status: int, headers: Mapping[str, str], body: bytes, *, wall_s: float, secret: str
) -> RequestFailedError | RequestRefusedError:
    """What an answer with another status than 200 means.

    Args:
        status: of HTTP.
        headers: by lower-case name.
        body: of the answer, perhaps only its beginning.
        wall_s: now, in seconds since 1970, against which a date in Retry-After is held.
        secret: the key, which is taken out of messages.
    """
    details = _details(body)
    problem = _problem(status, details, secret)
    if "insufficient_quota" in (details.get("code"), details.get("type")):
        return RequestFailedError(
            f"the account has no quota left ({problem}); raise it, a restart is not needed",
            pause_s=QUOTA_PAUSE_S,
            retry=False,
        )
    if status in _RETRIED or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return RequestFailedError(problem, pause_s=_retry_after_s(headers.get("retry-after", ""), wall_s))
    if status in _REFUSED:
        return RequestRefusedError(problem)
    return RequestFailedError(
        f"{problem}; check the model, the key and the base URL", pause_s=SETUP_PAUSE_S, retry=False
    )


def _entries(body: bytes) -> list[Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestFailedError("its answer is not JSON") from error
    entries = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise RequestFailedError("its answer has no list of embeddings")
    return entries


def _in_order(entries: list[dict[str, Any]], count: int) -> list[NDArray[Any]]:
    by_index = {entry.get("index"): entry.get("embedding") for entry in entries if _is_index(entry)}
    if len(entries) != count or by_index.keys() != set(range(count)):
        raise RequestFailedError(f"its answer has not one embedding for each of {count} texts")
    return [_vector(by_index[index]) for index in range(count)]


def _is_index(entry: dict[str, Any]) -> bool:
    # True equals 1, and would pass for it.
    return type(entry.get("index")) is int


def _vector(written: object) -> NDArray[Any]:
    try:
        vector = np.array(written)
        if vector.dtype.kind == "O":
            # Some servers write null where there is no number, as JSON knows no NaN.
            vector = np.array(written, np.float64)
    except (TypeError, ValueError):
        vector = np.array("")
    if vector.dtype.kind not in "fiu" or vector.ndim != 1 or not len(vector):
        raise RequestFailedError("its answer has an embedding that is no list of numbers")
    return vector


def _details(body: bytes) -> dict[str, str]:
    """The strings of the error object; servers put it in `error`, or say it at the top."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
        answer = answer["error"]
    if not isinstance(answer, dict):
        return {}
    return {name: value for name, value in answer.items() if isinstance(value, str)}


def _problem(status: int, details: Mapping[str, str], secret: str) -> str:
    names = dict.fromkeys(details.get(name, "") for name in ("type", "code"))
    said = " ".join((f"HTTP {status}", *(name for name in names if _IDENTIFIER.fullmatch(name))))
    if status in _ABOUT_ACCOUNT_OR_MODEL and details.get("message"):
        said = f"{said}: {details['message']}"
    if secret:
        said = said.replace(secret, "(key)")
    return " ".join(said.split())[:MESSAGE_CHARACTERS_MAX]


def _retry_after_s(written: str, wall_s: float) -> float:
    """Seconds that a Retry-After asks for, as a number or as a date; 0 when it says nothing."""
    written = written.strip()
    if _SECONDS.fullmatch(written):
        return min(float(written), RETRY_AFTER_S_MAX)
    try:
        date = parsedate_to_datetime(written)
    except ValueError:
        return 0.0
    # A date without a zone is one in UTC.
    aware = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    return min(max(0.0, aware.timestamp() - wall_s), RETRY_AFTER_S_MAX)
