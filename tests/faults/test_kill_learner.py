"""Kills a Learner in the middle of learning, again and again, and looks for what it had promised."""

import random
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from errata.v1.learner_pb2 import GetStatusRequest, GetStatusResponse
from errata.v1.learner_pb2_grpc import LearnerServiceStub
from errata.v1.rag_pb2 import GetIndexStatusRequest, SearchRequest
from errata.v1.rag_pb2_grpc import RagServiceStub
from scripts.processes import Process, start
from tests.e2e.services import check_no_bug, free_address, until
from tests.faults.broken_learner import LOSES, VARIABLE
from tests.faults.follower import FollowingThread
from tests.faults.recording import BLOCKS_PER_BATCH, RecordingThread
from tests.faults.survivors import losses, pending_block_count

SEED = 20_240_416

EVENTS_BEFORE_KILL = (60, 400)
"""Events acknowledged by a process before it is killed: some number between these."""
DELAY_S_MAX = 0.05
"""Of a kill, after that: so that it may come at any point of a commit."""
PENDING_PER_KILL_MIN = 10
"""Blocks that wait at a kill, on average: with fewer, learning was not under way, and nothing was tested."""
CONVERGE_S_MAX = 90.0
"""The RAG service backs off from a Learner that comes and goes, for up to 30 s."""


@dataclass
class Killing:
    """One run: a store, an address, and what happened."""

    store_dir: Path
    random_: random.Random = field(default_factory=lambda: random.Random(SEED))
    address: str = field(default_factory=free_address)
    acknowledged_at_kills: list[int] = field(default_factory=list)
    """Events acknowledged by the process that was killed."""
    pending_at_kills: list[int] = field(default_factory=list)
    """Blocks that waited in its store."""

    def learner(self, fault: str | None = None) -> Process:
        module = "learner_service" if fault is None else "tests.faults.broken_learner"
        environ = {} if fault is None else {VARIABLE: fault}
        flags = ("--store-dir", str(self.store_dir), "--embedder", "hashing", "--listen", self.address)
        return start(module, *flags, environ=environ)

    def run_until_killed(
        self,
        recording: RecordingThread,
        *,
        follower: FollowingThread | None = None,
        fault: str | None = None,
    ) -> None:
        """Starts a Learner, lets it work, and kills it."""
        with self.learner(fault) as process:
            before = recording.acknowledged_event_count
            if follower is not None:
                # Hello, and something that makes it resume afterwards.
                follower.wait_for_message(follower.message_count + 2)
            recording.wait_for_acknowledged(before + self.random_.randint(*EVENTS_BEFORE_KILL))
            time.sleep(self.random_.uniform(0, DELAY_S_MAX))
            check_no_bug(process)
            process.kill()
        self.acknowledged_at_kills.append(recording.acknowledged_event_count - before)
        self.pending_at_kills.append(pending_block_count(self.store_dir))

    def check_not_void(self) -> None:
        """Fails when too little was going on for a loss to show."""
        kills = len(self.pending_at_kills)
        assert min(self.acknowledged_at_kills) >= EVENTS_BEFORE_KILL[0], self
        assert sum(self.pending_at_kills) >= PENDING_PER_KILL_MIN * kills, self


def learned_everything(process: Process) -> GetStatusResponse:
    """The status of a Learner once nothing waits in it."""
    with process.sync_channel() as channel:
        stub = LearnerServiceStub(channel)
        until(
            lambda: stub.GetStatus(GetStatusRequest()).queued_block_count == 0,
            "everything is learned from",
            CONVERGE_S_MAX,
        )
        return stub.GetStatus(GetStatusRequest())


@pytest.mark.parametrize(
    "kill_count", [pytest.param(3, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.soak)]
)
def test_nothing_that_was_acknowledged_is_lost_when_a_learner_is_killed_while_it_learns(
    tmp_path: Path, kill_count: int
) -> None:
    killing = Killing(tmp_path / "store")
    with ExitStack() as running:
        rag = running.enter_context(start("rag_service", "--learner", killing.address, until="listening"))
        follower = running.enter_context(FollowingThread(killing.address))
        with RecordingThread(killing.address, killing.random_) as recording:
            for _ in range(kill_count):
                killing.run_until_killed(recording, follower=follower)
            learner = running.enter_context(killing.learner())
            recording.wait_for_acknowledged(recording.acknowledged_event_count + EVENTS_BEFORE_KILL[0])
        assert recording.error is None
        killing.check_not_void()

        status = learned_everything(learner)
        expected = [promise.answer for promise in recording.promises.values() if promise.answer is not None]
        assert (status.block_count, status.example_count) == (len(recording.promises), len(expected))
        assert status.failed_block_count == 0
        follower.wait_for_bookmark(status.head_revision)
        assert follower.broken_promises == []
        assert follower.example_count == len(expected)
        assert follower.resumed_count >= kill_count
        check_rag_converges(rag, status, expected)
        assert learner.terminate() == 0
        check_no_bug(learner)
        check_no_bug(rag)
    assert losses(killing.store_dir, recording.promises) == []


def check_rag_converges(rag: Process, status: GetStatusResponse, answers: list[str]) -> None:
    """The RAG service comes to hold what the Learner holds.

    It applies a revision only at a bookmark whose digest is its own.
    """
    with rag.sync_channel() as channel:
        stub = RagServiceStub(channel)

        def applied() -> int:
            return stub.GetIndexStatus(GetIndexStatusRequest()).applied_revision

        until(lambda: applied() == status.head_revision, "the RAG service has caught up", CONVERGE_S_MAX)
        held = stub.GetIndexStatus(GetIndexStatusRequest())
        assert (held.store_id, held.example_count) == (status.store_id, status.example_count)
        assert held.quarantined_example_count == 0
        found = stub.Search(SearchRequest(text="anything", limit=100))
        assert {result.example.answer[0].contents for result in found.results} <= set(answers)
        assert len(found.results) == min(100, len(answers))


@pytest.mark.slow
@pytest.mark.parametrize("fault", LOSES)
def test_a_learner_that_breaks_a_promise_is_found_out(tmp_path: Path, fault: str) -> None:
    killing = Killing(tmp_path / "store")
    with RecordingThread(killing.address, killing.random_) as recording:
        killing.run_until_killed(recording, fault=fault)
        broken = dict(recording.promises)
        with killing.learner() as learner:
            recording.wait_for_acknowledged(recording.acknowledged_event_count + EVENTS_BEFORE_KILL[0])
            recording.end()
            learned_everything(learner)
            assert learner.terminate() == 0
    found = losses(killing.store_dir, recording.promises)
    lost = {sentence.partition(":")[0] for sentence in found}
    # Each block that only the broken process acknowledged, and that had something to teach.
    only_there = {
        block_id
        for block_id, promise in broken.items()
        if promise.answer is not None and recording.promises[block_id] == promise
    }
    assert len(only_there) > 10
    assert only_there <= lost
    # And no other, but for those of the batch that was on its way when it was killed.
    assert len(lost - broken.keys()) <= BLOCKS_PER_BATCH
