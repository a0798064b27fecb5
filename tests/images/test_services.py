"""Both containers together: driven with grpcurl and the Go client, restarted, replaced, and ended."""

import subprocess
import sys
import time
from pathlib import Path

from errata.serving.process import EXIT_S_MAX
from tests.go_tools import ROOT
from tests.images.clients import Clients
from tests.images.conftest import Pair, run_learner, run_rag
from tests.images.podman import STATE_DIR, Container

LEARN_S_MAX = 60.0
LEARNER, RAG = "errata.v1.LearnerService", "errata.v1.RagService"


def found_commands(clients: Clients, pair: Pair, text: str, **fields: object) -> list[str]:
    answer = clients.call(pair.rag_address, f"{RAG}/Search", {"text": text, **fields})
    return [result["example"]["answer"][0]["contents"] for result in answer.get("results", [])]


def recorded_with_grpcurl(clients: Clients, pair: Pair, block_id: str, question: str, ran: str) -> str:
    """The token of a correction."""
    at = "2026-01-01T00:00:00Z"
    block = {"kind": "BLOCK_KIND_CODE", "language": "bash"}
    doc = {"blocks": [{"kind": "BLOCK_KIND_MARKUP", "contents": question}]}
    events = [
        {
            "block_id": block_id,
            "event_time": at,
            "generated": {"doc": doc, "block": {**block, "contents": "true"}},
        },
        {
            "block_id": block_id,
            "event_time": at,
            "executed": {"block": {**block, "contents": ran}, "exit_code": 0},
        },
    ]
    request = {"events": events, "learn_wait": "5s"}
    token: str = clients.call(pair.learner_address, f"{LEARNER}/RecordEvents", request)["token"]
    return token


def ended_well(container: Container) -> None:
    ended = container.stop()
    assert ended.exit_code == 0, container.logs()
    assert ended.seconds < EXIT_S_MAX
    assert "Traceback" not in container.logs()


def test_the_services_run_as_nobody_in_particular_on_a_root_that_nobody_can_write(pair: Pair) -> None:
    for container in (pair.learner, pair.rag):
        status = container.execute("cat", "/proc/1/status").stdout
        fields = dict(line.split(":", 1) for line in status.splitlines())
        assert fields["Uid"].split() == ["10001"] * 4
        assert fields["Gid"].split() == ["10001"] * 4
        assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
        assert fields["NoNewPrivs"].strip() == "1"
        for folder in ("/", "/opt/errata", "/tmp", "/run"):  # noqa: S108 - is to be refused
            refused = container.execute("touch", f"{folder}/x")
            assert refused.returncode != 0
            assert "Read-only file system" in refused.stderr
        assert container.execute("touch", "/var/lib/errata/x").returncode == 0


def test_what_is_recorded_with_one_client_is_found_with_the_other(
    clients: Clients, pair: Pair, tmp_path: Path
) -> None:
    token = recorded_with_grpcurl(clients, pair, "by-grpcurl", "which process listens on port 80", "ss -ltnp")
    assert "ss -ltnp" in clients.search(pair.rag_address, "what is listening on port 80", token)
    token = clients.record(pair.learner_address, "show free memory", "cat /proc/meminfo", "free -m")
    assert found_commands(clients, pair, "how much memory is free", min_token=token)[0] == "free -m"
    watched = clients.watch_once(pair.learner_address, tmp_path / "state")
    assert watched.count("put ") == 2
    assert "bookmark" in watched


def test_a_log_in_the_mounted_directory_is_learned_from(clients: Clients, pair: Pair) -> None:
    tasks = ROOT / "data" / "nl2bash" / "learn.jsonl"
    log = pair.log_dir / "nl2bash.jsonl"
    command = [
        sys.executable,
        "-m",
        "errata.cli",
        "events",
        str(tasks),
        "--limit",
        "20",
        "--output",
        str(log),
    ]
    subprocess.run(command, check=True)
    log.chmod(0o644)
    deadline_s = time.monotonic() + LEARN_S_MAX
    while clients.call(pair.learner_address, f"{LEARNER}/GetStatus").get("exampleCount") != "20":
        assert time.monotonic() < deadline_s, pair.learner.logs()
        time.sleep(0.1)


def test_the_search_kernel_that_the_image_was_built_with_is_used(pair: Pair) -> None:
    # Holds on the machine that built the image. What is compiled is kept, and newer than the service.
    folder = f"{STATE_DIR}/kernels"
    kept = pair.rag.execute("find", folder, "-type", "f").stdout.splitlines()
    compiled_here = pair.rag.execute("find", folder, "-type", "f", "-newer", "/proc/1").stdout.splitlines()
    assert kept
    assert compiled_here == []


def test_a_restart_of_either_service_keeps_what_was_learned_and_the_other_goes_on(
    clients: Clients, pair: Pair
) -> None:
    token = clients.record(pair.learner_address, "show free memory", "cat /proc/meminfo", "free -m")
    assert found_commands(clients, pair, "free memory", min_token=token) == ["free -m"]
    ended_well(pair.learner)
    # Without the Learner: the RAG service answers from memory, and after a restart from its snapshot.
    assert found_commands(clients, pair, "free memory") == ["free -m"]
    ended_well(pair.rag)
    pair.rag.start()
    pair.rag.wait_until_healthy()
    assert found_commands(clients, pair, "free memory") == ["free -m"]
    pair.learner.start()
    pair.learner.wait_until_healthy()
    token = clients.record(pair.learner_address, "show the disks", "fdisk", "lsblk")
    assert set(found_commands(clients, pair, "disks", min_token=token)) == {"free -m", "lsblk"}


def test_new_containers_on_the_old_volumes_go_on_from_what_was_there(clients: Clients, pair: Pair) -> None:
    clients.record(pair.learner_address, "show free memory", "cat /proc/meminfo", "free -m")
    before = clients.call(pair.learner_address, f"{LEARNER}/GetStatus")
    for container in (pair.learner, pair.rag):
        ended_well(container)
        container.remove()
    pair.learner = run_learner(pair.podman, pair.log_dir)
    pair.rag = run_rag(pair.podman)
    pair.learner.wait_until_healthy()
    pair.rag.wait_until_healthy()
    after = clients.call(pair.learner_address, f"{LEARNER}/GetStatus")
    assert after["headRevision"] == before["headRevision"]
    assert found_commands(clients, pair, "free memory") == ["free -m"]
