"""The Go client: its own checks, and its program against the services."""

import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import pytest

from errata.v1 import learner_pb2
from tests.block_events import correction, ran
from tests.e2e.services import CALL_S_MAX, Learner, Rag, free_address, learner_on, until
from tests.go_tools import CLIENT, built, go, needs_go, one_at_a_time

pytestmark = [pytest.mark.slow, needs_go]

ASKED = "show the free memory"
StartLearner = Callable[[], AbstractContextManager[Learner]]


@dataclass(frozen=True)
class Ended:
    """A command that has run."""

    code: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[list[str]]:
        """What it printed, in words."""
        return [line.split() for line in self.stdout.splitlines()]


@dataclass(frozen=True)
class Client:
    """The program."""

    path: Path

    def run(self, *arguments: str) -> Ended:
        ended = subprocess.run(
            [str(self.path), *arguments], capture_output=True, text=True, timeout=2 * CALL_S_MAX, check=False
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def well(self, *arguments: str) -> Ended:
        ended = self.run(*arguments)
        assert ended.code == 0, ended
        return ended

    @contextmanager
    def watching(self, address: str, folder: Path) -> Iterator["Watching"]:
        """A watch that runs, until Ctrl-C."""
        out, err = folder / "stdout", folder / "stderr"
        with (
            out.open("wb") as stdout,
            err.open("wb") as stderr,
            subprocess.Popen(
                [str(self.path), "watch", "-learner", address], stdout=stdout, stderr=stderr
            ) as process,
        ):
            try:
                yield Watching(process, out, err)
            finally:
                process.send_signal(signal.SIGINT)
                code = process.wait(CALL_S_MAX)
            assert code == 0, err.read_text()


@dataclass(frozen=True)
class Watching:
    """A watch that runs."""

    process: "subprocess.Popen[bytes]"
    stdout_path: Path
    stderr_path: Path

    @property
    def stdout(self) -> str:
        return self.stdout_path.read_text()

    def agrees_with(self, learner: Learner) -> None:
        """Returns once it has proven that it holds what the Learner holds."""
        status = learner.status()
        proof = f"bookmark  {status.head_revision}  {status.example_count} examples  {status.digest.hex()}\n"

        def proven() -> bool:
            assert self.process.poll() is None, self.stderr_path.read_text()
            return self.stdout.endswith(proof)

        until(proven, f"{proof!r} after {self.stdout!r}")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(built(CLIENT, tmp_path_factory))


@pytest.fixture
def start_learner(tmp_path: Path) -> StartLearner:
    """Starts a Learner, always on the same store and at the same address."""
    return partial(learner_on, tmp_path / "store", "--listen", free_address())


def test_the_code_is_formatted_vetted_and_passes_its_own_tests(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    assert go("-l", "clients/go", program="gofmt") == ""
    with one_at_a_time(tmp_path_factory):
        go("vet", "./clients/go/...", "./gen/go/...")
        go("test", "./clients/go/...")


def test_what_is_recorded_is_found(client: Client, learner: Learner, rag: Rag) -> None:
    asked, ran = "which process listens on port 80?", "ss -ltnp 'sport = :80'"
    recorded = client.well(
        *("record", "-learner", learner.process.address),
        *("-question", asked, "-proposed", "netstat -a", "-ran", ran, "-block", "go-1"),
    )
    block, learned, token = recorded.lines
    assert (block, learned) == (["block", "go-1"], ["learned", "yes"])
    found = client.well(
        *("search", "-rag", rag.process.address, "-token", token[1], "-limit", "1", "what listens on port 80")
    )
    assert re.fullmatch(rf"0\.\d\d  go-1  {re.escape(ran)}\n", found.stdout)
    assert (recorded.stderr, found.stderr) == ("", "")


def test_why_nothing_was_learned_is_said(client: Client, learner: Learner) -> None:
    recorded = client.well(
        *("record", "-learner", learner.process.address, "-question", "how late is it?"),
        *("-proposed", "date", "-ran", "date", "-block", "go-2"),
    )
    assert recorded.lines == [["block", "go-2"], ["learned", "no:", "UNCHANGED"]]


def test_a_failure_is_shown_with_reason_and_metadata(client: Client, learner: Learner, rag: Rag) -> None:
    record = ("record", "-learner", learner.process.address, "-question", "q", "-ran", "r")
    refused = client.run(*record, "-namespace", "No Such Name")
    assert (refused.code, refused.stdout) == (1, "")
    assert re.search(r"INVALID_FIELD\) .*field=\"events\[0\]\.namespace\"", refused.stderr), refused
    unknown = client.run("search", "-rag", rag.process.address, "-limit", "-1", "q")
    assert (unknown.code, unknown.stdout) == (1, "")
    assert 'field="limit"' in unknown.stderr
    nobody = client.run("search", "-rag", free_address(), "-timeout", "2s", "q")
    assert (nobody.code, nobody.stdout) == (1, "")
    assert "refused" in nobody.stderr


@pytest.mark.parametrize(
    "arguments", [[], ["learn"], ["record"], ["search"], ["search", "-token", "?", "q"], ["watch", "-x"]]
)
def test_a_wrong_command_line_says_where_help_is(client: Client, arguments: list[str]) -> None:
    ended = client.run(*arguments)
    assert (ended.code, ended.stdout) == (2, "")
    assert "-help" in ended.stderr or "Usage:" in ended.stderr


def test_each_command_explains_itself(client: Client) -> None:
    usage = client.well("-help").stdout
    commands = re.findall(r"^  errata-client (\w+) .*\[flags\]", usage, re.MULTILINE)
    assert commands == ["record", "search", "watch"]
    for command in commands:
        assert f"Usage: errata-client {command}" in client.well(command, "-help").stderr


def test_a_watch_shows_every_change_and_proves_that_it_holds_what_the_learner_holds(
    client: Client, start_learner: StartLearner, tmp_path: Path
) -> None:
    with start_learner() as learner:
        learner.learn(*correction("a", ASKED, "free"))
        learner.learn(*correction("b", ASKED, "free\n-h", namespace="team"))
        with client.watching(learner.process.address, tmp_path) as watching:
            watching.agrees_with(learner)
            learner.forget("a")
            watching.agrees_with(learner)
        digest = learner.status().digest.hex()
    lines = [line.split() for line in watching.stdout.splitlines()]
    assert lines[:2] == [["put", "1", "a", "free"], ["put", "2", "team/b", "free", "⏎", "-h"]]
    assert lines[3:] == [["deleted", "3", "a"], ["bookmark", "3", "1", "examples", digest]]


def test_a_watch_in_whose_middle_the_learner_restarts_goes_on_where_it_was(
    client: Client, start_learner: StartLearner, tmp_path: Path
) -> None:
    with start_learner() as learner:
        learner.learn(*correction("a", ASKED, "free"), *correction("b", ASKED, "free -h"))
        with client.watching(learner.process.address, tmp_path) as watching:
            watching.agrees_with(learner)
            learner.process.terminate()
            with start_learner() as again:
                again.learn(ran("b", "free -g", at_s=50), *correction("c", ASKED, "vmstat"))
                watching.agrees_with(again)
    changes = [line.split()[:3] for line in watching.stdout.splitlines() if line.startswith(("put", "reset"))]
    assert [kind for kind, *_ in changes] == 4 * ["put"]
    assert [revision for _, revision, _ in changes] == ["1", "2", "3", "4"]
    assert {key for _, _, key in changes[2:]} == {"b", "c"}


def test_a_watch_of_a_store_whose_older_copy_is_restored_starts_over_and_agrees(
    client: Client, start_learner: StartLearner, tmp_path: Path
) -> None:
    store, copy = tmp_path / "store", tmp_path / "copy"
    with start_learner() as learner:
        learner.learn(*correction("kept", ASKED, "free"))
    shutil.copytree(store, copy)
    with start_learner() as learner:
        learner.learn(*correction("lost", ASKED, "free -h"))
        with client.watching(learner.process.address, tmp_path) as watching:
            watching.agrees_with(learner)
            learner.process.terminate()
            shutil.rmtree(store)
            copy.rename(store)
            with start_learner() as restored:
                restored.learn(*correction("new", ASKED, "vmstat"))
                watching.agrees_with(restored)
    _, since = watching.stdout.split("reset     HISTORY_LOST\n")
    assert [line.split()[2] for line in since.splitlines() if line.startswith("put")] == ["kept", "new"]


def test_a_later_watch_goes_on_from_the_file_of_an_earlier_one(
    client: Client, start_learner: StartLearner, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    with start_learner() as learner:
        watch = ("watch", "-learner", learner.process.address, "-once", "-state", str(state))
        learner.learn(*correction("a", ASKED, "free"))
        client.well(*watch)
        learner.learn(*correction("b", ASKED, "free -h"))
        digest = learner.status().digest.hex()
        missed = client.well(*watch)
        assert missed.lines == [
            ["put", "2", "b", "free", "-h"],
            ["bookmark", "2", "2", "examples", digest],
        ]
        # Of all namespaces is not of one: the Learner says so, and the file is received anew.
        other = client.well(*watch, "-namespace", "team")
        assert other.lines == [["reset", "FILTER_CHANGED"], ["bookmark", "2", "0", "examples", "0" * 32]]
        state.write_bytes(state.read_bytes()[:-1])
        damaged = client.run(*watch)
        assert (damaged.code, damaged.stdout) == (1, "")
        assert f"{state} is damaged" in damaged.stderr


def lie(
    _request: learner_pb2.WatchUpdatesRequest, _context: grpc.ServicerContext
) -> Iterator[learner_pb2.WatchUpdatesResponse]:
    """A bookmark that no examples give."""
    yield learner_pb2.WatchUpdatesResponse(hello=learner_pb2.WatchHello(store_id=b"lies"))
    yield learner_pb2.WatchUpdatesResponse(
        bookmark=learner_pb2.WatchBookmark(revision=1, digest=bytes(15) + b"\1")
    )


def test_a_watch_whose_digest_disagrees_ends_with_a_code_of_its_own(client: Client) -> None:
    server = grpc.server(ThreadPoolExecutor(2))
    handler = grpc.unary_stream_rpc_method_handler(
        lie,
        request_deserializer=learner_pb2.WatchUpdatesRequest.FromString,
        response_serializer=learner_pb2.WatchUpdatesResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("errata.v1.LearnerService", {"WatchUpdates": handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        ended = client.run("watch", "-learner", f"127.0.0.1:{port}")
    finally:
        server.stop(None).wait()
    assert (ended.code, ended.stdout) == (3, "")
    assert "digest is 00000000000000000000000000000001" in ended.stderr
