"""Stores of other layouts, in containers: migrated at the start, or refused and left alone.

The program with a migration is the image with a module of the tests mounted into it: no released layout is
older than today's, see `tests/learner_service/store/older_store.py`.
"""

import time
from collections.abc import Mapping

from learner_service.store.schema import SCHEMA
from tests.go_tools import ROOT
from tests.images.clients import Clients
from tests.images.conftest import Pair, run_learner
from tests.images.podman import LEARNER_IMAGE, LEARNER_PORT, STATE_DIR, Container, Podman

LEARNER, RAG = "errata.v1.LearnerService", "errata.v1.RagService"
FOLLOW_S_MAX = 90.0
"""A RAG service whose Learner was away for long calls again after 30 s at most, and then once more."""
STORE_DIR = f"{STATE_DIR}/store"
VOLUMES: Mapping[str, str] = {
    "store": STATE_DIR,
    # Without its bytecode: that of this machine is of another Python, and the root is read-only.
    str(ROOT / "tests"): "/tests-of-errata/tests:ro",
}


def older_store(podman: Podman, *arguments: str, ports: tuple[int, ...] = ()) -> Container:
    """Runs the module of the tests in the image of the Learner."""
    return podman.run(
        LEARNER_IMAGE,
        *("-m", "tests.learner_service.store.older_store", *arguments),
        name="learner",
        entrypoint="python",
        environ={"PYTHONPATH": "/tests-of-errata"},
        volumes=VOLUMES,
        ports=ports,
    )


def changed(podman: Podman, *arguments: str) -> None:
    container = older_store(podman, *arguments)
    assert container.wait() == 0, container.logs()
    container.remove()


def test_an_older_store_is_migrated_at_the_start_and_goes_on_under_todays_image(
    clients: Clients, pair: Pair
) -> None:
    clients.record(pair.learner_address, "show free memory", "cat /proc/meminfo", "free -m")
    before = clients.call(pair.learner_address, f"{LEARNER}/GetStatus")
    pair.learner.stop()
    pair.learner.remove()
    changed(pair.podman, "down", STORE_DIR)

    # Today's image has no migration from there: it says so, and changes nothing.
    refused = run_learner(pair.podman, pair.log_dir)
    assert refused.wait() == 1
    assert f"error: --store-dir {STORE_DIR}: written by a version too old" in refused.logs()
    refused.remove()

    migrating = older_store(pair.podman, "serve", ports=(LEARNER_PORT,))
    migrating.wait_until_healthy()
    assert "the store has been brought up to date" in migrating.logs()
    assert clients.call(migrating.address(LEARNER_PORT), f"{LEARNER}/GetStatus")["digest"] == before["digest"]
    assert migrating.stop().exit_code == 0
    migrating.remove()

    pair.learner = run_learner(pair.podman, pair.log_dir)
    pair.learner.wait_until_healthy()
    after = clients.call(pair.learner_address, f"{LEARNER}/GetStatus")
    assert [after[field] for field in ("storeId", "headRevision", "digest")] == [
        before[field] for field in ("storeId", "headRevision", "digest")
    ]
    # The RAG service, which never ended, finds the Learner at its new address and follows the same history.
    clients.record(pair.learner_address, "show the disks", "fdisk", "lsblk")
    deadline_s = time.monotonic() + FOLLOW_S_MAX
    while "lsblk" not in clients.search(pair.rag_address, "disks"):
        assert time.monotonic() < deadline_s, pair.rag.logs()
        time.sleep(0.2)
    assert "free -m" in clients.search(pair.rag_address, "free memory")


def test_a_newer_store_is_refused_with_a_line_that_says_why_and_stays_as_it_is(
    clients: Clients, pair: Pair
) -> None:
    clients.record(pair.learner_address, "show free memory", "cat /proc/meminfo", "free -m")
    pair.learner.stop()
    pair.learner.remove()
    changed(pair.podman, "stamp", STORE_DIR, str(SCHEMA.version + 1))
    refused = run_learner(pair.podman, pair.log_dir)
    assert refused.wait() == 1
    assert f"error: --store-dir {STORE_DIR}: written by a newer version" in refused.logs()
    refused.remove()

    changed(pair.podman, "stamp", STORE_DIR, str(SCHEMA.version))
    pair.learner = run_learner(pair.podman, pair.log_dir)
    pair.learner.wait_until_healthy()
    assert clients.call(pair.learner_address, f"{LEARNER}/GetStatus")["exampleCount"] == "1"
