"""Log lines as they come out."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from errata.serving.logs import VALUE_CHARACTERS_MAX, configure_logs, get_logger


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class ClosedPipe(io.StringIO):
    def write(self, text: str, /) -> int:
        raise BrokenPipeError(text)


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leaves the logging of the test run as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:], root.level = handlers, level


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_its_values_as_fields() -> None:
    stream = io.StringIO()
    configure_logs("info", stream)
    get_logger().info("block learned", block_id="b\n1", attempt=2)
    [line] = lines(stream)
    assert line.pop("ts").endswith("Z")
    assert line == {"event": "block learned", "level": "info", "block_id": "b\n1", "attempt": 2}


def test_a_logger_made_before_the_configuration_follows_it() -> None:
    log = get_logger()
    stream = io.StringIO()
    configure_logs("warning", stream)
    log.info("not said")
    log.warning("said")
    assert [line["event"] for line in lines(stream)] == ["said"]


def test_lines_of_a_call_have_its_request_id() -> None:
    stream = io.StringIO()
    configure_logs("info", stream)
    structlog.contextvars.bind_contextvars(request_id="r-1", method="s/M")
    get_logger().info("anything")
    assert (lines(stream)[0]["request_id"], lines(stream)[0]["method"]) == ("r-1", "s/M")


@pytest.mark.parametrize("name", ["query", "query_text", "text", "contents", "token", "api_key", "password"])
def test_texts_and_secrets_are_withheld_by_the_name_of_their_field(name: str) -> None:
    stream = io.StringIO()
    configure_logs("debug", stream)
    get_logger().info("searched", **{name: "hunter2"})
    assert "hunter2" not in stream.getvalue()
    assert lines(stream)[0][name] == "(withheld)"


def test_a_long_value_is_cut() -> None:
    stream = io.StringIO()
    configure_logs("info", stream)
    get_logger().info("anything", path="x" * 5_000)
    assert lines(stream)[0]["path"] == "x" * VALUE_CHARACTERS_MAX + "…"


def test_an_exception_comes_with_its_traceback_on_the_same_line() -> None:
    stream = io.StringIO()
    configure_logs("info", stream)
    try:
        _ = 1 // 0
    except ZeroDivisionError:
        get_logger().exception("a bug")
    [line] = lines(stream)
    assert line["level"] == "error"
    assert "Traceback" in line["exception"]
    assert line["exception"].endswith("ZeroDivisionError: integer division or modulo by zero")


def test_what_is_not_json_is_written_as_it_prints() -> None:
    stream = io.StringIO()
    configure_logs("info", stream)
    get_logger().info("anything", kinds={1}, raw=b"\0")
    assert (lines(stream)[0]["kinds"], lines(stream)[0]["raw"]) == ("{1}", "b'\\x00'")


def test_what_libraries_say_through_logging_has_the_same_form() -> None:
    stream = io.StringIO()
    configure_logs("debug", stream)
    logging.getLogger("grpc").warning("a library said %s", "this")
    logging.getLogger("grpc").info("not said")
    [line] = lines(stream)
    assert (line["event"], line["level"]) == ("a library said this", "warning")
    assert "ts" in line


def test_a_terminal_gets_lines_for_people() -> None:
    stream = Terminal()
    configure_logs("info", stream)
    get_logger().info("block learned", block_id="b1")
    assert "block learned" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_a_terminal_gets_tracebacks_without_the_values_of_variables() -> None:
    stream = Terminal()
    configure_logs("info", stream)
    contents = "hunter" + str(1 + 1)
    try:
        _ = len(contents) // 0
    except ZeroDivisionError:
        get_logger().exception("a bug")
    assert "ZeroDivisionError" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


def test_a_log_that_nobody_reads_makes_nothing_fail() -> None:
    stream = ClosedPipe()
    configure_logs("info", stream)
    get_logger().info("anything")
    logging.getLogger("grpc").warning("anything")
    assert stream.getvalue() == ""
