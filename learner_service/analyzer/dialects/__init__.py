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


# No line is of two dialects: those of programs name a function, and ours never do.
_DIALECTS: Final = (
    Dialect("own", own.may_read, own.read),
    Dialect("foyle", foyle.may_read, foyle.read),
    Dialect("runme", runme.may_read, runme.read),
)

IGNORED: Final = LineRead("other", "ignored")
MALFORMED: Final = LineRead("other", "malformed")

_MARKS: Final = tuple(dict.fromkeys([*own.MARKS, *foyle.MARKS, *runme.MARKS]))
_OBJECT_START: Final = re.compile(rb'\{\s*["}]')
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class LineReader:
    """Reads the lines of a log."""

    def __init__(self, *, namespace: str, now_us: int, redaction: bool = True) -> None:
        """Notes what does not change from line to line.

        Args:
            namespace: of the directory of the log; empty when it was given none.
            now_us: the Learner's clock, microseconds since 1970.
            redaction: False leaves secrets in.
        """
        self._namespace = namespace
        self._now_us = now_us
        self._redaction = redaction

    def read(self, line: bytes) -> LineRead:
        """Reads a line, which comes without its newline.

        It is malformed when it is not JSON, or of a dialect of ours but against its rules. Blank ones are
        ignored.
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
                read = self._read_as(dialect, line)
                if read is not None:
                    return read
        return IGNORED

    def _read_as(self, dialect: Dialect, line: bytes) -> LineRead | None:
        """The line, as a dialect reads it; None when it is of another one."""
        try:
            record = dialect.read(line.decode(), self._namespace)
            if record is None:
                return None
            for event in record.events:
                check_event("line", event, now_us=self._now_us)
        except (MalformedLineError, InvalidFieldError, TooLargeError, UnicodeError):
            # UnicodeError: bytes that are not UTF-8, or an escaped half of a surrogate pair, which no string
            # of ours can hold.
            return LineRead(dialect.name, "malformed")
        if not record.events and record.trace is None:
            return LineRead(dialect.name, "ignored")
        if self._redaction:
            redact(record)
        return LineRead(dialect.name, "used", record)
