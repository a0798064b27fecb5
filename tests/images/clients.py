"""Programs that are no part of the images, and call the services in them: grpcurl and the Go client."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.go_tools import CLIENT, GRPCURL, built

CALL_S_MAX: Final = 30.0


@dataclass(frozen=True)
class Clients:
    """Both programs, built."""

    grpcurl: Path
    errata_client: Path

    def call(self, address: str, method: str, request: object = None) -> Any:
        """The answer to a call, made through reflection; the method as errata.v1.LearnerService/GetBlock."""
        data = json.dumps(request or {})
        return json.loads(_output(self.grpcurl, "-plaintext", "-d", data, address, method))

    def record(self, learner: str, question: str, proposed: str, ran: str) -> str:
        """Records a correction with the Go client, waits until it is learned, and returns its token."""
        said = _output(
            self.errata_client,
            *("record", "-learner", learner),
            *("-question", question, "-proposed", proposed, "-ran", ran),
        )
        lines = dict(line.split(maxsplit=1) for line in said.splitlines())
        assert lines["learned"] == "yes"
        return lines["token"]

    def search(self, rag: str, question: str, token: str = "") -> str:
        """What the Go client prints of the examples nearest to a question."""
        seen = ["-token", token] if token else []
        return _output(self.errata_client, "search", "-rag", rag, *seen, question)

    def watch_once(self, learner: str, state: Path) -> str:
        """What the Go client receives up to the first bookmark, whose digest it compares."""
        return _output(self.errata_client, "watch", "-learner", learner, "-once", "-state", str(state))


def build_clients(tmp_path_factory: pytest.TempPathFactory) -> Clients:
    """Builds both with Go."""
    return Clients(built(GRPCURL, tmp_path_factory), built(CLIENT, tmp_path_factory))


def _output(*command: object) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=CALL_S_MAX, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
