"""From a failed call to a sentence."""

import base64
from collections.abc import Mapping
from typing import Any

import grpc
import pytest

from errata.cli.exit_codes import ExitCode
from errata.cli.failures import REASONS, Peer, command_error
from errata.cli.shared_options import new_chosen
from errata.v1.learner_pb2 import ERROR_REASON_UNSPECIFIED, ErrorReason
from errata.v1.token_pb2 import StateToken
from tests.e2e.services import Services
from tests.errata.cli.running import Cli


class FailedCall(grpc.RpcError):
    """What a stub raises, without a service."""

    def __init__(self, code: grpc.StatusCode, message: str = "") -> None:
        super().__init__()
        self._code = code
        self._message = message

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._message

    def trailing_metadata(self) -> Any:
        return ()


def test_every_reason_that_a_service_may_give_has_a_sentence() -> None:
    reasons = set(ErrorReason.keys()) - {ErrorReason.Name(ERROR_REASON_UNSPECIFIED)}
    assert {name.removeprefix("ERROR_REASON_") for name in reasons} == set(REASONS)


@pytest.mark.parametrize(
    ("code", "exit_code", "says"),
    [
        (grpc.StatusCode.UNAVAILABLE, ExitCode.UNREACHABLE, "start it with errata-rag"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, ExitCode.LATE, "within 10 s; wait longer with --timeout"),
        (grpc.StatusCode.UNIMPLEMENTED, ExitCode.UNREACHABLE, "is no RAG service"),
        (grpc.StatusCode.PERMISSION_DENIED, ExitCode.DENIED, "refuses: because"),
        (grpc.StatusCode.UNKNOWN, ExitCode.NOT_DONE, "failed: UNKNOWN: because"),
    ],
)
def test_a_failure_without_a_reason_is_told_by_its_code(
    code: grpc.StatusCode, exit_code: ExitCode, says: str
) -> None:
    error = command_error(FailedCall(code, "because"), Peer.RAG, new_chosen())
    assert error.exit_code == exit_code
    assert says in error.message
    assert "127.0.0.1:7412" in error.message


NOBODY: Mapping[str, str] = {"ERRATA_LEARNER": "127.0.0.1:1", "ERRATA_RAG": "127.0.0.1:1"}


@pytest.mark.parametrize(
    "command",
    [
        ("explain", "x"),
        ("record", "-q", "q", "ls"),
        ("teach", "q", "ls"),
        ("blocks",),
        ("examples",),
        ("reconcile", "x"),
        ("forget", "x", "--yes"),
        ("backfill", "--all"),
        ("backfill", "--id", "x"),
        ("watch",),
    ],
)
def test_without_a_learner_a_command_says_how_to_have_one(command: tuple[str, ...]) -> None:
    error = Cli(NOBODY).error(*command)
    assert error["exitCode"] == ExitCode.UNREACHABLE
    assert error["message"] == (
        "no Learner answers at 127.0.0.1:1: start it with errata-learner, "
        "or say where it is with --learner or ERRATA_LEARNER"
    )


def test_without_a_rag_service_a_search_says_how_to_have_one() -> None:
    error = Cli(NOBODY).error("search", "q")
    assert error["exitCode"] == ExitCode.UNREACHABLE
    assert "start it with errata-rag, or say where it is with --rag or ERRATA_RAG" in error["message"]


@pytest.mark.slow
def test_a_learner_where_the_rag_service_should_be_is_told(services: Services) -> None:
    cli = Cli({"ERRATA_RAG": services.learner.process.address})
    error = cli.error("search", "q")
    assert error["exitCode"] == ExitCode.UNREACHABLE
    assert f"what answers at {services.learner.process.address} is no RAG service" in error["message"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "reason", "exit_code", "says"),
    [
        (("explain", "nope"), "BLOCK_NOT_FOUND", ExitCode.NOT_DONE, "`errata blocks` lists"),
        (("reconcile", "nope"), "BLOCK_NOT_FOUND", ExitCode.NOT_DONE, "`errata blocks` lists"),
        (("backfill", "--id", "nope"), "BACKFILL_NOT_FOUND", ExitCode.NOT_DONE, "knows no backfill 'nope'"),
        (("search", "q", "--token", "AAAA"), "TOKEN_MALFORMED", ExitCode.USAGE, "leave it out"),
        (("watch", "--token", "AAAA"), "TOKEN_MALFORMED", ExitCode.USAGE, "leave it out"),
        (("teach", "q", "x" * 1_100_000), "TOO_LARGE", ExitCode.USAGE, "too much for the Learner"),
    ],
)
def test_what_a_service_refuses_says_what_to_do(
    cli: Cli, command: tuple[str, ...], reason: str, exit_code: ExitCode, says: str
) -> None:
    error = cli.error(*command)
    assert (error["reason"], error["exitCode"]) == (reason, exit_code)
    assert says in error["message"]


@pytest.mark.slow
def test_a_token_that_is_not_reached_in_time_says_so(cli: Cli) -> None:
    token = cli.json("teach", "what is ahead", "true")["token"]
    # The same store and epoch, a revision that is far away.
    ahead = StateToken.FromString(base64.b64decode(token))
    ahead.revision += 1_000_000
    written = base64.b64encode(ahead.SerializeToString()).decode()
    error = cli.error("search", "q", "--token", written, "--timeout", "1s")
    assert error["exitCode"] in {ExitCode.NOT_NOW, ExitCode.LATE}
    assert "--timeout" in error["message"]
