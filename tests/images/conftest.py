"""Podman, the clients, and a pair of containers, for tests of the images. All of them are marked `images`."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.images.clients import Clients, build_clients
from tests.images.podman import (
    LEARNER_IMAGE,
    LEARNER_PORT,
    RAG_IMAGE,
    RAG_PORT,
    STATE_DIR,
    Container,
    Podman,
)


@dataclass
class Pair:
    """Both services, the RAG service following the Learner by its name."""

    podman: Podman
    learner: Container
    rag: Container
    log_dir: Path

    @property
    def learner_address(self) -> str:
        return self.learner.address(LEARNER_PORT)

    @property
    def rag_address(self) -> str:
        return self.rag.address(RAG_PORT)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.images)


def run_learner(podman: Podman, log_dir: Path) -> Container:
    return podman.run(
        LEARNER_IMAGE,
        name="learner",
        environ={"ERRATA_LOG_DIR": "/logs"},
        volumes={"store": STATE_DIR, str(log_dir): "/logs:ro"},
        ports=(LEARNER_PORT,),
    )


def run_rag(podman: Podman) -> Container:
    return podman.run(
        RAG_IMAGE,
        name="rag",
        environ={"ERRATA_LEARNER": f"learner:{LEARNER_PORT}"},
        volumes={"snapshot": STATE_DIR},
        ports=(RAG_PORT,),
    )


@pytest.fixture(scope="session")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Clients:
    return build_clients(tmp_path_factory)


@pytest.fixture
def podman() -> Iterator[Podman]:
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed")
    with Podman() as running:
        yield running


@pytest.fixture
def pair(podman: Podman, tmp_path: Path) -> Pair:
    log_dir = tmp_path / "logs"
    log_dir.mkdir()
    # Whoever the services are in their containers, they are others outside; pytest's folders are private.
    for folder in (log_dir, *log_dir.parents[:4]):
        folder.chmod(folder.stat().st_mode | 0o055)
    running = Pair(podman, run_learner(podman, log_dir), run_rag(podman), log_dir)
    running.learner.wait_until_healthy()
    running.rag.wait_until_healthy()
    return running
