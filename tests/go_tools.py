"""Go programs for tests, where Go is installed: built once a run, however many workers want them."""

import fcntl
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GO_S_MAX = 420.0
"""Of one command: on a new machine it loads modules and compiles gRPC, while other tests run."""

CLIENT = "./clients/go/cmd/errata-client"
GRPCURL = "github.com/fullstorydev/grpcurl/cmd/grpcurl"


def _missing() -> str:
    """Why there is no Go to test with; empty when there is."""
    (wanted,) = re.findall(r"^go (\d+)\.(\d+)", (ROOT / "go.mod").read_text(), re.MULTILINE)
    needed = f"Go {'.'.join(wanted)} or newer is not installed"
    program = shutil.which("go")
    if program is None:
        return needed
    said = subprocess.run([program, "version"], cwd="/", capture_output=True, text=True, check=True).stdout
    found = re.search(r"go(\d+)\.(\d+)", said)
    if found is None or tuple(map(int, found.groups())) < tuple(map(int, wanted)):
        return f"{needed}: {said.strip()}"
    return ""


MISSING = _missing()

needs_go = pytest.mark.skipif(bool(MISSING), reason=MISSING or "Go is there")


@contextmanager
def one_at_a_time(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Holds off the other workers of this run; the folder that they share.

    Two that compile the same at the same time would both do all of it.
    """
    shared = tmp_path_factory.getbasetemp().parent
    with (shared / "go.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield shared


def built(package: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of a package."""
    folder = tmp_path_factory.mktemp("go")
    with one_at_a_time(tmp_path_factory):
        go("build", "-o", f"{folder}/", package)
    return folder / package.rpartition("/")[2]


def go(*arguments: str, program: str = "go") -> str:
    """Runs a command of Go in the folder of the project; returns what it printed."""
    path = shutil.which(program)
    assert path is not None, f"{program} is not installed"
    ended = subprocess.run(
        [path, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=GO_S_MAX, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
