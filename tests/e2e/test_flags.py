"""What a process says, and how it ends, when it cannot start as it is told to."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from scripts.processes import start
from tests.block_events import correction
from tests.e2e.services import Learner, Rag, learner_on, until

pytestmark = pytest.mark.slow

LEARNER, RAG = "learner_service", "rag_service"
EXIT_S_MAX = 30.0


@dataclass(frozen=True)
class Start:
    """A process that cannot start."""

    module: str
    flags: tuple[str, ...] = ()
    environ: dict[str, str] = field(default_factory=dict)
    says: tuple[str, ...] = ()
    """All of it on stderr."""


def ended(case: Start) -> tuple[int, str]:
    """The exit code of a process that ends by itself, and what it wrote to stderr."""
    with start(case.module, *case.flags, until="running", environ=case.environ) as process:
        return process.wait(EXIT_S_MAX), process.stderr


WRONGLY_TOLD = {
    "a flag that there is not": Start(LEARNER, ("--stroe-dir", "x"), says=("--stroe-dir", "--store-dir")),
    "a flag of the other service": Start(RAG, ("--store-dir", "x"), says=("--store-dir",)),
    "a variable that there is not": Start(
        LEARNER, environ={"ERRATA_POLCY": "executions"}, says=("ERRATA_POLCY", "ERRATA_POLICY")
    ),
    "a variable that neither service has": Start(
        RAG, environ={"ERRATA_WHATEVER": "1"}, says=("ERRATA_WHATEVER", "ERRATA_LEARNER")
    ),
    "a policy that there is not": Start(
        LEARNER, ("--policy", "guesses"), says=("--policy", "guesses", "corrections", "executions")
    ),
    "an address without a port": Start(LEARNER, ("--listen", "localhost"), says=("--listen", "HOST:PORT")),
    "a variable with a bad value": Start(
        RAG, environ={"ERRATA_LEARNER": "nowhere"}, says=("--learner", "ERRATA_LEARNER", "HOST:PORT")
    ),
    "a namespace that is none": Start(RAG, ("--namespace", "a/b"), says=("--namespace", "a/b")),
    "a size that is none": Start(LEARNER, ("--store-bytes-max", "lots"), says=("--store-bytes-max", "64G")),
    "an embedder that is no name": Start(LEARNER, ("--embedder", "No Such"), says=("--embedder", "minilm")),
}


@pytest.fixture(scope="module")
def wrongly_told() -> dict[str, tuple[int, str]]:
    """How each of them ended; started together, which takes half the time."""
    with ThreadPoolExecutor(len(WRONGLY_TOLD)) as threads:
        return dict(zip(WRONGLY_TOLD, threads.map(ended, WRONGLY_TOLD.values()), strict=True))


@pytest.mark.parametrize("name", WRONGLY_TOLD)
def test_what_is_written_wrongly_ends_with_2_and_names_it(
    wrongly_told: dict[str, tuple[int, str]], name: str
) -> None:
    code, said = wrongly_told[name]
    assert code == 2
    for part in WRONGLY_TOLD[name].says:
        assert part in said
    assert "Traceback" not in said


def one_line(case: Start) -> str:
    """What a process says that cannot start: one line, and nothing else but its log."""
    code, said = ended(case)
    assert code == 1
    lines = [line for line in said.splitlines() if not line.startswith("{")]
    (line,) = lines
    assert line.startswith("error: ")
    assert "Traceback" not in said
    return line


def test_a_store_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a directory")
    for directory in (file, file / "store"):
        line = one_line(Start(LEARNER, ("--store-dir", str(directory), "--embedder", "hashing")))
        assert f"--store-dir {directory}" in line
        assert "file" in line
    assert file.read_text() == "not a directory"


def test_a_second_learner_on_a_store_or_a_port_that_is_taken_is_refused_and_the_first_goes_on(
    learner: Learner, tmp_path: Path
) -> None:
    store_dir = learner.store_dir
    line = one_line(Start(LEARNER, ("--store-dir", str(store_dir), "--embedder", "hashing")))
    assert f"--store-dir {store_dir}" in line
    assert "another Learner" in line
    address = learner.process.address
    flags = ("--store-dir", str(tmp_path / "store"), "--embedder", "hashing", "--listen", address)
    line = one_line(Start(LEARNER, flags))
    assert address in line
    assert "--listen" in line
    assert learner.learn(*correction("b", "list files", "ls"))


def test_a_port_that_is_taken_is_refused_by_the_rag_service_too(rag: Rag) -> None:
    address = rag.process.address
    assert address in one_line(Start(RAG, ("--learner", "127.0.0.1:1", "--listen", address)))
    assert not rag.search("anything").degraded


def test_a_metrics_port_that_is_taken_is_refused(learner: Learner, tmp_path: Path) -> None:
    taken = ("--metrics-listen", learner.process.address)
    store = ("--store-dir", str(tmp_path / "store"), "--embedder", "hashing")
    for case in (Start(LEARNER, (*store, *taken)), Start(RAG, ("--learner", "127.0.0.1:1", *taken))):
        line = one_line(case)
        assert learner.process.address in line
        assert "--metrics-listen" in line


@pytest.mark.parametrize("spec", ["nonsense", "minilm:7", "hashing:many", "hashing:1000000"])
def test_an_embedder_that_there_is_not_is_refused_with_those_that_there_are(
    spec: str, tmp_path: Path
) -> None:
    store_dir = tmp_path / "store"
    line = one_line(Start(LEARNER, ("--store-dir", str(store_dir), "--embedder", spec)))
    assert spec in line
    assert "minilm" in line
    assert "hashing" in line
    # Refused before anything is made: the next start, with the right embedder, finds nothing in its way.
    assert not store_dir.exists()


def test_a_store_that_another_embedder_filled_is_refused_with_what_to_do(tmp_path: Path) -> None:
    store_dir = tmp_path / "store"
    with learner_on(store_dir, embedder="hashing:64") as learner:
        learner.learn(*correction("b", "list files", "ls"))
    line = one_line(Start(LEARNER, ("--store-dir", str(store_dir), "--embedder", "hashing")))
    for part in ("hashing/h1/64/", "hashing/h1/384/", "--embedder", "--store-dir"):
        assert part in line
    with learner_on(store_dir, embedder="hashing:64") as learner:
        assert learner.status().example_count == 1


def test_an_address_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "no" / "such" / "folder"
    # Of a flag that is given twice the last counts; the first is that of the harness.
    flags = ("--learner", "127.0.0.1:1", "--address-file", str(path))
    process = subprocess.run(
        [sys.executable, "-m", RAG, *flags, "--listen", "127.0.0.1:0"],
        capture_output=True,
        text=True,
        timeout=EXIT_S_MAX,
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("ERRATA_")},
    )
    assert process.returncode == 1
    assert f"--address-file {path}" in process.stderr


def test_the_address_file_is_whole_whenever_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "address"
    command = [sys.executable, "-m", RAG, "--learner", "127.0.0.1:1", "--listen", "127.0.0.1:0"]
    with subprocess.Popen([*command, "--address-file", str(path)], stderr=subprocess.DEVNULL) as process:
        try:
            until(path.exists, "the file is there")
            # Without a pause after it has appeared.
            assert re.fullmatch(r"127\.0\.0\.1:[1-9][0-9]*\n", path.read_text())
            assert [each.name for each in tmp_path.iterdir()] == ["address"]
        finally:
            process.terminate()
    assert process.returncode == 0


@pytest.mark.parametrize("module", [LEARNER, RAG])
def test_help_and_version_are_given_without_starting_anything(module: str) -> None:
    for flag, said in (("--help", "Examples:"), ("--version", "0.")):
        process = subprocess.run(
            [sys.executable, "-m", module, flag],
            capture_output=True,
            text=True,
            timeout=EXIT_S_MAX,
            check=True,
        )
        assert said in process.stdout
