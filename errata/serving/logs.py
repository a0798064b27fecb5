"""Logs: one event a line, a constant message, values as fields.

    log = get_logger()
    log.warning("reconcile failed, will retry", block_id=key.id, attempt=attempt)

On a terminal the lines are made for people; anywhere else each is one JSON object with `event`, `level`, `ts`
and, within a call, `request_id` and `method`. They go to stderr. What the standard library's logging says, as
gRPC and asyncio do, comes out in the same form.

Never logged: query texts, contents of blocks, tokens, credentials. Fields of such names are withheld even
when somebody passes them, and long values are cut.
"""

import logging
import sys
from collections.abc import Iterable
from typing import Final, Protocol, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

LEVELS: Final = ("debug", "info", "warning", "error")

VALUE_CHARACTERS_MAX: Final = 1_000
"""Of one value: a line stays one that a log pipeline takes. Tracebacks are not cut."""

WITHHELD_FIELDS: Final = frozenset(
    {
        "answer",
        "api_key",
        "authorization",
        "block",
        "contents",
        "credentials",
        "doc",
        "example",
        "headers",
        "password",
        "query",
        "query_text",
        "request",
        "response",
        "secret",
        "text",
        "token",
    }
)
"""Names of fields whose values are never logged, whoever passes them."""

_WITHHELD: Final = "(withheld)"

# As structlog has it until it is told otherwise.
_debug_is_logged = True


class Stream(Protocol):
    """Where lines go; stderr is one."""

    def write(self, text: str, /) -> object:
        """Takes the text."""

    def flush(self) -> object:
        """Passes it on."""

    def isatty(self) -> bool:
        """Whether people read it directly."""


def configure_logs(level: str, stream: Stream | None = None) -> None:
    """Sends every log line of the process to a stream, from a level on. May be called again.

    Args:
        level: one of `LEVELS`.
        stream: stderr when None.
    """
    global _debug_is_logged  # noqa: PLW0603 - what structlog is told is the state of the process too
    _debug_is_logged = level == "debug"
    destination: Stream = sys.stderr if stream is None else stream
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        _withhold,
        _cut,
    ]
    rendering = _rendering(people_read=destination.isatty())
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: _LineLogger(destination),
        cache_logger_on_first_use=False,
    )
    handler = _StreamHandler(destination)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    # Libraries are heard from when something is wrong; their INFO is theirs.
    logging.basicConfig(level=max(threshold, logging.WARNING), handlers=[handler], force=True)


def debug_is_logged() -> bool:
    """Whether lines at DEBUG go anywhere; asking first is far cheaper than a line that goes nowhere."""
    return _debug_is_logged


def get_logger() -> FilteringBoundLogger:
    """A logger; it may be made at import, before `configure_logs`."""
    return cast("FilteringBoundLogger", structlog.get_logger())


def _rendering(*, people_read: bool) -> Iterable[Processor]:
    if people_read:
        # The default shows the values of local variables, which are what is never logged.
        plain = structlog.dev.plain_traceback
        return (structlog.dev.ConsoleRenderer(timestamp_key="ts", exception_formatter=plain),)
    return (
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(sort_keys=False, ensure_ascii=False, default=repr),
    )


def _withhold(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    for name in WITHHELD_FIELDS & event_dict.keys():
        event_dict[name] = _WITHHELD
    return event_dict


def _cut(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    for name, value in event_dict.items():
        if isinstance(value, str) and len(value) > VALUE_CHARACTERS_MAX:
            event_dict[name] = f"{value[:VALUE_CHARACTERS_MAX]}…"
    return event_dict


def _write_line(stream: Stream, line: str) -> None:
    # A log that nobody reads any more, such as a closed pipe, must not make calls fail.
    try:
        stream.write(f"{line}\n")
        stream.flush()
    except (OSError, ValueError):
        pass


class _LineLogger:
    """What structlog hands a rendered line to; every level is the same to it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        _write_line(self._stream, line)

    debug = info = warning = warn = error = critical = exception = fatal = failure = log = msg


class _StreamHandler(logging.Handler):
    """The same for records of the standard library."""

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        _write_line(self._stream, self.format(record))
