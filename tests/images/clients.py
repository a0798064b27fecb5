"""Programs that are no part of the images, and call the services in them: grpcurl and the Go client."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent
BUILD_S_MAX: Final = 600.0
CALL_S_MAX: Final = 30.0

_GO: Final = shutil.which("go") or "go"


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


def build_clients(folder: Path) -> Clients:
    """Builds both with Go, into a folder."""
    for package in ("github.com/fullstorydev/grpcurl/cmd/grpcurl", "./clients/go/cmd/errata-client"):
        subprocess.run([_GO, "build", "-o", str(folder), package], cwd=ROOT, timeout=BUILD_S_MAX, check=True)
    return Clients(folder / "grpcurl", folder / "errata-client")


def _output(*command: object) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=CALL_S_MAX, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
