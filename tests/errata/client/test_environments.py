"""The client where little else is installed: its dependencies alone, and the oldest of them."""

import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.e2e.services import Services, services_on

ROOT = Path(__file__).resolve().parent.parent.parent.parent
PROGRAM = Path(__file__).with_name("program.py")
# What grpcio itself needs.
ALLOWED = ("grpcio", "protobuf", "typing_extensions")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with services_on(tmp_path_factory.mktemp("services") / "store") as running:
        yield running


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    ran([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)])
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_with_grpcio_and_protobuf_alone_is_enough(
    wheel: Path, services: Services, tmp_path: Path
) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    for name in ALLOWED:
        link_files_of(name, tmp_path)
    # Neither the packages of this environment nor the working directory: what is linked, and nothing else.
    start = f"import sys, runpy; sys.path.insert(0, {str(tmp_path)!r}); sys.argv.pop(0); "
    command = [sys.executable, "-I", "-S", "-c", f"{start}runpy.run_path(sys.argv[0], run_name='__main__')"]
    assert ran([*command, str(PROGRAM), *addresses(services)]).startswith("grpcio ")
    # That it could not have found more is shown by asking for more.
    more = subprocess.run(
        [*command[:-1], f"{start}import numpy"], capture_output=True, text=True, timeout=60, check=False
    )
    assert "No module named 'numpy'" in more.stderr


def test_the_wheel_asks_for_grpcio_and_protobuf_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    asked = re.findall(r"^Requires-Dist: ([\w.-]+)[^;\n]*$", metadata, re.MULTILINE)
    assert sorted(asked) == ["grpcio", "protobuf"]


def test_the_oldest_dependencies_that_are_allowed_are_enough(
    wheel: Path, services: Services, tmp_path: Path
) -> None:
    oldest = oldest_dependencies()
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    pins = [f"{name}=={number}" for name, number in oldest.items()]
    install = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--only-binary=:all:",
        "--retries=1",
        "--timeout=30",
    ]
    installed = subprocess.run(
        [*install, *pins, str(wheel)], capture_output=True, text=True, timeout=600, check=False
    )
    if "after connection broken by" in installed.stderr:
        pytest.skip(f"no package index can be reached to install {' and '.join(pins)} from")
    assert installed.returncode == 0, installed.stderr
    printed = ran([python, "-I", "-W", "error", str(PROGRAM), *addresses(services)])
    expected = {name: re.escape(number) + r"(\.0)*" for name, number in oldest.items()}
    assert re.fullmatch(f"grpcio {expected['grpcio']}, protobuf {expected['protobuf']}\n", printed), printed


def oldest_dependencies() -> dict[str, str]:
    """Of each dependency of the client, the first version that pyproject.toml allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ranges = ";".join(project["dependencies"])
    oldest = dict(re.findall(r"([\w-]+)>=([\d.]+),", ranges))
    assert len(oldest) == len(project["dependencies"]), ranges
    return oldest


def link_files_of(name: str, folder: Path) -> None:
    """Puts what a distribution installed here, and nothing of others, into a folder."""
    for file in distribution(name).files or ():
        if ".." not in file.parts:
            there = folder / file
            there.parent.mkdir(parents=True, exist_ok=True)
            there.symlink_to(Path(str(file.locate())).resolve())


def addresses(services: Services) -> list[str]:
    return [services.learner.process.address, services.rag.process.address]


def ran(command: list[str]) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
