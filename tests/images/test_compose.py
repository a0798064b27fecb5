"""deploy/compose.yaml as podman-compose runs it. Needs that, and the ports 7411 and 7412 of loopback."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.go_tools import ROOT
from tests.images.clients import Clients
from tests.images.podman import LEARNER_PORT, RAG_PORT, Container, Podman

COMPOSE_S_MAX = 120.0
PROJECT = "errata-test-compose"

_COMPOSE = shutil.which("podman-compose")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture
def composed(podman: Podman, tmp_path: Path) -> Iterator[list[Container]]:
    if _COMPOSE is None:
        pytest.skip("podman-compose is not installed: pip install podman-compose")
    if not (is_free(LEARNER_PORT) and is_free(RAG_PORT)):
        pytest.skip(f"somebody listens at {LEARNER_PORT} or {RAG_PORT} already")
    command = [_COMPOSE, "--project-name", PROJECT, "--file", str(ROOT / "deploy" / "compose.yaml")]
    environ = {**podman.environ, "LOG_DIR": str(tmp_path)}

    def compose(*arguments: str) -> None:
        subprocess.run([*command, *arguments], env=environ, timeout=COMPOSE_S_MAX, check=True)

    try:
        compose("up", "--detach")
        yield [Container(podman, f"{PROJECT}_{service}_1") for service in ("learner", "rag")]
    finally:
        compose("down", "--volumes")


def test_compose_runs_both_reachable_from_this_machine_alone(
    clients: Clients, composed: list[Container]
) -> None:
    for container in composed:
        container.wait_until_healthy()
        host = container.inspect()["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert container.inspect()["Config"]["User"] == "10001:10001"
        bound = [binding["HostIp"] for each in host["PortBindings"].values() for binding in each]
        assert bound == ["127.0.0.1"]
    learner, rag = (container.address(port) for container, port in zip(composed, (7411, 7412), strict=True))
    token = clients.record(learner, "show free memory", "cat /proc/meminfo", "free -m")
    assert "free -m" in clients.search(rag, "free memory", token)
    assert [container.stop().exit_code for container in composed] == [0, 0]
