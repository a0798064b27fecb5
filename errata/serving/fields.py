"""Checks of what comes in a request, used by both services.

Every check names the field by its path in the request, such as `events[3].executed.block`. A rule about the
form of a value that is broken is an `InvalidFieldError`; a bound of the kind "at most so many" that is passed
is a `TooLargeError`. Messages quote names, shortened, and never contents or label values.

Pure, and free of gRPC.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

NAMESPACE_BYTES_MAX: Final = 63
BLOCK_ID_BYTES_MAX: Final = 255
BACKFILL_ID_BYTES_MAX: Final = 63
LABEL_COUNT_MAX: Final = 64
LABEL_KEY_BYTES_MAX: Final = 63
LABEL_VALUE_BYTES_MAX: Final = 255
PAGE_SIZE_DEFAULT: Final = 50
PAGE_SIZE_MAX: Final = 1_000

_QUOTED_CHARACTERS_MAX: Final = 40
"""Longer values are shortened in messages: enough to recognise one, too little to fill a log."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""All that Unicode calls control characters."""
_NAME = re.compile(r"[a-z0-9_-]*")
_NAME_RULE: Final = "`a` to `z`, `0` to `9`, `-` and `_`"

# The ranges that duration.proto and timestamp.proto give: ± 10,000 years, and the years 1 to 9999.
_DURATION_S_MAX: Final = 315_576_000_000
_TIMESTAMP_S_MIN: Final = -62_135_596_800
_TIMESTAMP_S_MAX: Final = 253_402_300_799
_NANOS_MAX: Final = 999_999_999


class InvalidFieldError(Exception):
    """A field breaks its documented rule."""

    def __init__(self, field: str, problem: str) -> None:
        """Names the field and what is wrong.

        Args:
            field: path of the field in the request.
            problem: the rule, what was got, and the way out; without contents.
        """
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class TooLargeError(Exception):
    """Something is larger than it may be, or there are too many of it."""

    def __init__(self, field: str, limit: int, unit: str, got: int | None = None) -> None:
        """Names the field and its bound.

        Args:
            field: path of the field in the request.
            limit: the bound.
            unit: of `limit`, in the plural, such as `bytes` or `events`.
            got: how much there was, where that is known.
        """
        found = "" if got is None else f", got {got:,}"
        super().__init__(f"{field}: at most {limit:,} {unit}{found}; send less at once")
        self.field = field
        self.limit = limit
        self.unit = unit
        self.got = got


def check_namespace(field: str, namespace: str) -> None:
    """Passes up to 63 of `a` to `z`, `0` to `9`, `-` and `_`; the empty string is the default namespace.

    Raises:
        InvalidFieldError: it is anything else.
    """
    if len(namespace) > NAMESPACE_BYTES_MAX or not _NAME.fullmatch(namespace):
        raise InvalidFieldError(
            field, f"a namespace is up to {NAMESPACE_BYTES_MAX} of {_NAME_RULE}, got {shortened(namespace)}"
        )


def check_namespaces(field: str, namespaces: Iterable[str], count_max: int | None = None) -> None:
    """Passes a list of namespaces; see `check_namespace`.

    Raises:
        InvalidFieldError: one of them is none; the field names which.
        TooLargeError: there are more than `count_max`.
    """
    names = list(namespaces)
    if count_max is not None and len(names) > count_max:
        raise TooLargeError(field, count_max, "namespaces", len(names))
    for position, namespace in enumerate(names):
        check_namespace(f"{field}[{position}]", namespace)


def check_block_id(field: str, block_id: str) -> None:
    """Passes 1 to 255 bytes of UTF-8 without control characters.

    Raises:
        InvalidFieldError: it is anything else.
    """
    if not block_id:
        raise InvalidFieldError(field, f"required; name a block with 1 to {BLOCK_ID_BYTES_MAX} bytes")
    size_bytes = _utf8_bytes(field, block_id)
    if size_bytes > BLOCK_ID_BYTES_MAX:
        raise InvalidFieldError(
            field,
            f"a block ID has 1 to {BLOCK_ID_BYTES_MAX} bytes, got {size_bytes:,}: {shortened(block_id)}",
        )
    if _CONTROL.search(block_id):
        raise InvalidFieldError(field, f"a block ID has no control characters, got {shortened(block_id)}")


def check_backfill_id(field: str, backfill_id: str) -> None:
    """Passes 1 to 63 of `a` to `z`, `0` to `9`, `-` and `_`.

    Raises:
        InvalidFieldError: it is anything else.
    """
    if not 0 < len(backfill_id) <= BACKFILL_ID_BYTES_MAX or not _NAME.fullmatch(backfill_id):
        raise InvalidFieldError(
            field,
            f"a backfill ID is 1 to {BACKFILL_ID_BYTES_MAX} of {_NAME_RULE}, got {shortened(backfill_id)}",
        )


def check_labels(field: str, labels: Mapping[str, str]) -> None:
    """Passes at most 64 labels with a key of 1 to 63 bytes and a value of at most 255.

    Raises:
        InvalidFieldError: a key is empty or too long.
        TooLargeError: a value is too long, or there are too many labels.
    """
    if len(labels) > LABEL_COUNT_MAX:
        raise TooLargeError(field, LABEL_COUNT_MAX, "labels", len(labels))
    for key, value in labels.items():
        path = f"{field}[{shortened(key)}]"
        if not 0 < _utf8_bytes(path, key) <= LABEL_KEY_BYTES_MAX:
            raise InvalidFieldError(path, f"the key of a label has 1 to {LABEL_KEY_BYTES_MAX} bytes")
        value_bytes = _utf8_bytes(path, value)
        if value_bytes > LABEL_VALUE_BYTES_MAX:
            raise TooLargeError(path, LABEL_VALUE_BYTES_MAX, "bytes", value_bytes)


def duration_s(
    field: str,
    duration: Duration | None,
    default_s: float,
    *,
    clamp_s: tuple[float, float] | None = None,
) -> float:
    """A length of time in seconds.

    Args:
        field: path of the field in the request.
        duration: the field, or None where the request does not set it (`HasField`).
        default_s: what unset means.
        clamp_s: the least and the greatest value, for fields whose rule is to be raised and lowered into a
            range; without it anything below 0 is refused.

    Raises:
        InvalidFieldError: it is malformed, or negative where that is refused.
    """
    if duration is None:
        return default_s
    seconds, nanos = duration.seconds, duration.nanos
    if abs(seconds) > _DURATION_S_MAX or abs(nanos) > _NANOS_MAX or seconds * nanos < 0:
        raise InvalidFieldError(
            field,
            f"not a valid duration (seconds {seconds}, nanos {nanos}); see duration.proto for the ranges",
        )
    value_s = seconds + nanos / 1e9
    if clamp_s is not None:
        least_s, greatest_s = clamp_s
        return min(max(value_s, least_s), greatest_s)
    if value_s < 0:
        raise InvalidFieldError(field, f"at least 0, got {value_s:g} s; leave it out for {default_s:g} s")
    return value_s


def timestamp_us(field: str, timestamp: Timestamp) -> int:
    """A time as microseconds since 1970, rounded down.

    Raises:
        InvalidFieldError: it is malformed or outside of the years 1 to 9999.
    """
    seconds, nanos = timestamp.seconds, timestamp.nanos
    if not (_TIMESTAMP_S_MIN <= seconds <= _TIMESTAMP_S_MAX and 0 <= nanos <= _NANOS_MAX):
        raise InvalidFieldError(
            field,
            f"not a valid time (seconds {seconds}, nanos {nanos}); it counts seconds since 1970 "
            "and lies in the years 1 to 9999",
        )
    return seconds * 1_000_000 + nanos // 1_000


def page_size(field: str, size: int) -> int:
    """How many entries a page has: 0 means 50, more than 1,000 is lowered to 1,000.

    Raises:
        InvalidFieldError: it is negative.
    """
    if size < 0:
        raise InvalidFieldError(field, f"at least 0, got {size}; 0 means {PAGE_SIZE_DEFAULT}")
    return min(size, PAGE_SIZE_MAX) or PAGE_SIZE_DEFAULT


def shortened(text: str) -> str:
    """The text quoted for a message, with escapes for what does not print, cut where it is long."""
    if len(text) <= _QUOTED_CHARACTERS_MAX:
        return ascii(text) if not text.isprintable() else repr(text)
    return f"{shortened(text[:_QUOTED_CHARACTERS_MAX])}…"


def _utf8_bytes(field: str, text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise InvalidFieldError(field, "not valid UTF-8; a lone surrogate cannot be stored") from None
