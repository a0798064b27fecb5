"""From the bytes of a line to what it says, in whichever dialect it is written.

A dialect is a module with `MARKS`, one of which stands in each of its lines that say anything;
`may_read(line)`, a closer look at the bytes; and `read(text, namespace)`, which parses. Most lines of a
server's log hold no mark of any dialect, and no more is asked of them. The first dialect that knows a line
reads it.
Lines of no dialect say nothing, and are malformed only when they are visibly not a JSON object.
"""

import re
from collections.abc import Callable
from typing import Final, Literal, NamedTuple, TypeAlias

from errata.serving.fields import InvalidFieldError, TooLargeError
from learner_service.analyzer.dialects import foyle, own, runme
from learner_service.analyzer.records import LineRecord, MalformedLineError, redact
from learner_service.validation import check_event

DialectName: TypeAlias = Literal["foyle", "runme", "own", "other"]
Outcome: TypeAlias = Literal["used", "ignored", "malformed"]


class Dialect(NamedTuple):
    """One way in which lines are written."""

    name: DialectName
    may_read: Callable[[bytes], bool]
    read: Callable[[str, str], LineRecord | None]


class LineRead(NamedTuple):
    """What became of a line."""

    dialect: DialectName
    """`other` where no dialect knows it."""
    outcome: Outcome
    record: LineRecord | None = None
    """What it says, valid, and redacted unless that is off. Of a line that was used, and of no other."""


# A line of Foyle's may mention a block as our own do, but ours never name a function: ours last.
_DIALECTS: Final = (
    Dialect("foyle", foyle.may_read, foyle.read),
    Dialect("runme", runme.may_read, runme.read),
    Dialect("own", own.may_read, own.read),
)

IGNORED: Final = LineRead("other", "ignored")
MALFORMED: Final = LineRead("other", "malformed")

_MARKS: Final = tuple({*foyle.MARKS, *runme.MARKS, *own.MARKS})
_OBJECT_START: Final = re.compile(rb'\{\s*["}]')
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


def read_line(line: bytes, *, namespace: str, now_us: int, redaction: bool = True) -> LineRead:
    """Reads a line.

    It is malformed when it is not JSON, or of a dialect of ours but against its rules; blank, it is ignored.

    Args:
        line: without its newline.
        namespace: of the directory of its log; empty when it was given none.
        now_us: the Learner's clock, microseconds since 1970.
        redaction: False leaves secrets in.
    """
    line = line.strip()
    if not (line.startswith(b'{"') and line.endswith(b"}")):
        line = line.removeprefix(_BYTE_ORDER_MARK).lstrip()
        if not line:
            return IGNORED
        if not _OBJECT_START.match(line) or not line.endswith(b"}"):
            return MALFORMED
    if not any(map(line.__contains__, _MARKS)):
        return IGNORED
    for dialect in _DIALECTS:
        if dialect.may_read(line):
            read = _read(dialect, line, namespace, now_us, redaction=redaction)
            if read is not None:
                return read
    return IGNORED


def _read(dialect: Dialect, line: bytes, namespace: str, now_us: int, *, redaction: bool) -> LineRead | None:
    """The line, as the dialect reads it; None when it is of another one."""
    try:
        record = dialect.read(line.decode(), namespace)
        if record is None:
            return None
        for event in record.events:
            check_event("line", event, now_us=now_us)
    except (MalformedLineError, InvalidFieldError, TooLargeError, UnicodeError):
        # UnicodeError: bytes that are not UTF-8, or an escaped half of a surrogate pair, which no string of
        # ours can hold.
        return LineRead(dialect.name, "malformed")
    if not record.events and record.trace is None:
        return LineRead(dialect.name, "ignored")
    if redaction:
        redact(record)
    return LineRead(dialect.name, "used", record)
