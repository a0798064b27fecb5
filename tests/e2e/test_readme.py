"""The commands of the README, taken from its text and run as they stand, but for addresses and paths."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from errata.v1.rag_pb2 import GetIndexStatusRequest
from errata.v1.rag_pb2_grpc import RagServiceStub
from scripts.processes import Process, start

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.slow


def blocks(language: str) -> list[str]:
    return [text for found, text in BLOCKS if found == language]


@dataclass(frozen=True)
class Services:
    """Started by the commands of the README."""

    learner: Process
    rag: Process

    def here(self, text: str) -> str:
        """A command or program with the addresses of these services."""
        return text.replace("127.0.0.1:7411", self.learner.address).replace(
            "127.0.0.1:7412", self.rag.address
        )

    @property
    def environment(self) -> dict[str, str]:
        """Where a client finds these services."""
        return {**os.environ, "ERRATA_LEARNER": self.learner.address, "ERRATA_RAG": self.rag.address}


def run(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> str:
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("readme")
    (made / "data").symlink_to(ROOT / "data")
    (made / "logs").mkdir()
    return made


@pytest.fixture(scope="module")
def services(folder: Path) -> Iterator[Services]:
    """The three commands of "Use": events, Learner, RAG service."""
    events, learner, rag = blocks("sh")[0].strip().splitlines()
    run([sys.executable, "-m", "errata.cli", *events.split()[1:]], folder)
    learner_flags = [
        str(folder / flag) if not flag.startswith("--") else flag for flag in learner.split()[1:]
    ]
    assert rag.split() == ["errata-rag", "--learner", "127.0.0.1:7411"]
    with (
        start("learner_service", *learner_flags) as started,
        start("rag_service", "--learner", started.address) as follower,
    ):
        yield Services(started, follower)


def test_the_log_that_the_readme_makes_is_learned_from(services: Services) -> None:
    with services.rag.sync_channel() as channel:
        stub = RagServiceStub(channel)
        while stub.GetIndexStatus(GetIndexStatusRequest()).example_count < 100:
            assert services.learner.exit_code is None


def test_the_python_example_prints_what_was_just_learned(services: Services, tmp_path: Path) -> None:
    printed = run_python(services, blocks("python")[0], tmp_path)
    assert re.match(r"0\.\d\d  ss -ltnp 'sport = :80'\n", printed), printed
    # Of the prompt the best example comes last.
    assert printed.rstrip().endswith("```bash\nss -ltnp 'sport = :80'\n```"), printed


def test_the_assistant_of_the_readme_learns_what_a_person_ran(services: Services, tmp_path: Path) -> None:
    assert run_python(services, blocks("python")[1], tmp_path) == "stat -c %U /srv\n"


def run_python(services: Services, example: str, folder: Path) -> str:
    program = folder / "example.py"
    program.write_text(services.here(example))
    return run([sys.executable, str(program)], folder, services.environment)


@pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed: grpcurl comes with its tools")
def test_the_grpcurl_commands_answer(services: Services) -> None:
    commands = blocks("sh")[1].strip().splitlines()
    outputs = [run(["sh", "-c", f"go tool {services.here(command)}"], ROOT) for command in commands]
    assert "errata.v1.LearnerService" in outputs[0]
    assert '"learned": true' in outputs[1]
    assert "ss -ltnp" in outputs[2]


def test_every_flag_that_the_readme_names_exists() -> None:
    tables = re.findall(r"^\| `(--[a-z-]+)`", README, re.MULTILINE)
    helps = run([sys.executable, "-m", "learner_service", "--help"], ROOT)
    helps += run([sys.executable, "-m", "rag_service", "--help"], ROOT)
    assert len(tables) > 8
    assert [flag for flag in tables if flag not in helps] == []


def test_every_make_target_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"(?:^|`)make\s+([a-z-]+)", README, re.MULTILINE))
    assert named >= {"demo", "test", "run"}
    made = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named <= made
