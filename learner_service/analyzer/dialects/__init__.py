"""From the bytes of a line to what it says, in whichever dialect it is written.

A dialect is a module with `may_read(line)`, a cheap look at the bytes that most lines do not pass, and
`read(text, namespace)`, which parses. The first dialect that knows a line reads it. Lines of no dialect say
nothing, and are malformed only when they are visibly not a JSON object.
"""

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from errata.serving.fields import InvalidFieldError, TooLargeError
from learner_service.analyzer.dialects import foyle, own
from learner_service.analyzer.records import LineRecord, MalformedLineError, redact
from learner_service.validation import check_event


class Dialect(NamedTuple):
    """One way in which lines are written."""

    may_read: Callable[[bytes], bool]
    read: Callable[[str, str], LineRecord | None]


# A line of Foyle's may mention a block as our own do, but ours never name a function: Foyle's first.
_DIALECTS: Final = (Dialect(foyle.may_read, foyle.read), Dialect(own.may_read, own.read))

_OBJECT_START: Final = re.compile(rb'\{\s*["}]')
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


def read_line(line: bytes, *, namespace: str, now_us: int) -> LineRecord | None:
    """What a line says, redacted and valid; None when it says nothing to us.

    Args:
        line: without its newline.
        namespace: of the directory of its log; empty when it was given none.
        now_us: the Learner's clock, microseconds since 1970.

    Raises:
        MalformedLineError: it is not JSON, or it is of a dialect of ours but breaks its rules.
    """
    line = line.removeprefix(_BYTE_ORDER_MARK).strip()
    if not line:
        return None
    if not _OBJECT_START.match(line) or not line.endswith(b"}"):
        raise MalformedLineError("not a JSON object")
    candidates = [dialect for dialect in _DIALECTS if dialect.may_read(line)]
    try:
        text = line.decode()
        for dialect in candidates:
            record = dialect.read(text, namespace)
            if record is not None:
                return _accepted(record, now_us)
    except UnicodeError:
        # Bytes that are not UTF-8, or an escaped half of a surrogate pair, which no string of ours can hold.
        raise MalformedLineError("not valid UTF-8") from None
    return None


def _accepted(record: LineRecord, now_us: int) -> LineRecord:
    try:
        for event in record.events:
            check_event("line", event, now_us=now_us)
    except (InvalidFieldError, TooLargeError):
        raise MalformedLineError("an event that breaks a rule") from None
    redact(record)
    return record
