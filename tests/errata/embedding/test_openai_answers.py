"""When to ask again, as a server words it."""

import json

import pytest

from errata.embedding.openai_answers import (
    MESSAGE_CHARACTERS_MAX,
    RETRY_AFTER_S_MAX,
    RequestFailedError,
    error_of,
)

NOW_S = 1_445_412_420.0
"""Wed, 21 Oct 2015 07:27:00 GMT."""


def failure(status: int, headers: dict[str, str], body: bytes = b"") -> RequestFailedError:
    error = error_of(status, headers, body, wall_s=NOW_S, secret="")
    assert isinstance(error, RequestFailedError)
    return error


@pytest.mark.parametrize(
    ("written", "pause_s"),
    [
        ("0", 0.0),
        ("7", 7.0),
        ("1.5", 1.5),
        (" 7 ", 7.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 60.0),
        ("Wed, 21 Oct 2015 09:28:00 +0200", 60.0),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 60.0),
        ("Wednesday, 21-Oct-15 07:28:00 GMT", 60.0),
        ("Wed, 21 Oct 2015 07:26:00 GMT", 0.0),
        ("Wed, 21 Oct 2016 07:28:00 GMT", RETRY_AFTER_S_MAX),
        ("999999999", RETRY_AFTER_S_MAX),
        ("9" * 400, 0.0),
        ("-7", 0.0),
        ("soon", 0.0),
        ("", 0.0),
        ("NaN", 0.0),
    ],
)
def test_retry_after_is_a_number_or_a_date_and_never_long(written: str, pause_s: float) -> None:
    assert failure(503, {"retry-after": written}).pause_s == pause_s
    assert failure(429, {"retry-after": written}).pause_s == pause_s


def test_without_retry_after_there_is_no_pause() -> None:
    assert failure(500, {}).pause_s == 0.0


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"[]", b"null", b'{"error": "no"}', b'{"error": {"code": 7}}', b"[" * 100_000]
)
def test_an_error_is_understood_whatever_its_body(body: bytes) -> None:
    assert failure(500, {}, body).problem == "HTTP 500"


def test_a_message_is_short_and_of_one_line() -> None:
    body = json.dumps({"error": {"message": "no\nsuch\tmodel " + "x" * 10_000}}).encode()
    problem = failure(404, {}, body).problem
    assert problem.startswith("HTTP 404: no such model xxx")
    assert len(problem) < MESSAGE_CHARACTERS_MAX + 100


def test_an_error_at_the_top_of_its_body_is_understood_too() -> None:
    body = json.dumps({"object": "error", "type": "NotFoundError", "message": "no m", "code": 404}).encode()
    assert failure(404, {}, body).problem.startswith("HTTP 404 NotFoundError: no m;")
