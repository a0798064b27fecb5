"""A Learner whose own log is written into a directory that it follows comes to rest."""

import json
import time
from pathlib import Path

import pytest

from errata.v1.learner_pb2 import GetStatusRequest, GetStatusResponse, ReconcileRequest
from errata.v1.learner_pb2_grpc import LearnerServiceStub
from learner_service.analyzer.analyzer import LOOK_INTERVAL_S
from scripts.processes import Process, start
from tests.learner_service.analyzer.lines import (
    append,
    executed,
    own,
    request,
    response,
    run_cell,
    runme_end,
    runme_request,
)

REST_S_MAX = 30.0
LOOKS = 3
"""Looks at all files without any change, after which it counts as come to rest."""


def at_rest(learner: Process) -> int:
    """Size of its log once that has not grown for some looks; fails when that does not come about.

    No call is made meanwhile: each of them may be logged.
    """
    deadline_s = time.monotonic() + REST_S_MAX
    since_s, before = time.monotonic(), learner.stderr_path.stat().st_size
    while time.monotonic() - since_s < LOOKS * LOOK_INTERVAL_S:
        assert time.monotonic() < deadline_s, "its log still grows"
        time.sleep(0.05)
        size = learner.stderr_path.stat().st_size
        if size != before:
            since_s, before = time.monotonic(), size
    return before


def read_of(learner: Process, status: GetStatusResponse) -> tuple[int, int]:
    """Offset and malformed lines of its log, as it says itself."""
    [file] = [file for file in status.log_files if Path(file.path).name == learner.stderr_path.name]
    return file.offset_bytes, file.malformed_line_count


@pytest.mark.slow
@pytest.mark.parametrize("level", ["debug", "info"])
def test_a_learner_that_follows_its_own_log_reaches_a_fixed_point(tmp_path: Path, level: str) -> None:
    flags = ("--store-dir", str(tmp_path / "store"), "--embedder", "hashing", "--log-level", level)
    # It runs in the directory that its stderr is written to.
    with start("learner_service", *flags, "--log-dir", ".") as learner, learner.sync_channel() as channel:
        stub = LearnerServiceStub(channel)
        size = at_rest(learner)
        offset, malformed = read_of(learner, stub.GetStatus(GetStatusRequest()))
        assert (offset >= size > 0, malformed) == (True, 0)
        # What it may well log: blocks learned, lines it cannot read, calls that fail, a file it cannot open.
        folder = learner.stderr_path.parent
        append(folder / "a.log", request(), response("block-1"), run_cell("block-1", "ls -l"), b"broken\n")
        append(
            folder / "b.log",
            own(executed("block-2")),
            runme_request("block-3", "ls"),
            runme_end("block-3", 1),
        )
        (folder / "c.log").symlink_to("/proc/self/mem")
        with pytest.raises(Exception, match="NOT_FOUND"):
            stub.Reconcile(ReconcileRequest(id="nobody"))
        size = at_rest(learner)
        status = stub.GetStatus(GetStatusRequest())
        offset, malformed = read_of(learner, status)
        assert (offset >= size, malformed) == (True, 0)
        assert (status.block_count, status.example_count) == (3, 1)
        assert all(json.loads(line)["event"] for line in learner.stderr.splitlines())


@pytest.mark.slow
def test_a_store_in_a_directory_that_is_followed_is_no_log(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    flags = ("--store-dir", str(logs / "store"), "--embedder", "hashing")
    with (
        start("learner_service", *flags, "--log-dir", str(logs)) as learner,
        learner.sync_channel() as channel,
    ):
        stub = LearnerServiceStub(channel)
        append(logs / "a.log", own(executed("block-1")))
        until_read = time.monotonic() + REST_S_MAX
        while not stub.GetStatus(GetStatusRequest()).block_count:
            assert time.monotonic() < until_read
            time.sleep(0.05)
        status = stub.GetStatus(GetStatusRequest())
        assert (status.block_count, [Path(file.path).name for file in status.log_files]) == (1, ["a.log"])
