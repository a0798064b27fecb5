"""Learners that die by SIGKILL at the worst points, hundreds of times, on one store that people work on.

`KILL_SEED=N` chooses other passages and other work.
"""

import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc
import pytest

from errata.v1.learner_pb2 import BackfillRequest, GetBackfillResponse
from errata.v1.learner_pb2_grpc import LearnerServiceStub
from scripts.processes import Process, start
from tests.e2e.services import check_no_bug, free_address
from tests.faults.broken_learner import DOUBLES, LOSES
from tests.faults.broken_learner import VARIABLE as FAULT_VARIABLE
from tests.faults.learner_that_dies import (
    AFTER_COMMIT,
    AFTER_EMBEDDING,
    BACKFILL_COUNTED,
    BACKFILL_HANDED_OUT,
    BACKFILL_STORED,
    BEFORE_COMMIT,
    LAST_WORDS,
    POINTS,
    VARIABLE,
)
from tests.faults.recording import CHANNEL_OPTIONS, Promise
from tests.faults.survivors import losses
from tests.faults.test_kill_learner import learned_everything
from tests.faults.working import BackfillingThread, WorkingThread, backfilled

SEED: Final = int(os.environ.get("KILL_SEED", "20240416"))

PASSAGES_MAX: Final = {
    BEFORE_COMMIT: 40,
    AFTER_COMMIT: 40,
    AFTER_EMBEDDING: 25,
    BACKFILL_HANDED_OUT: 6,
    BACKFILL_COUNTED: 12,
    BACKFILL_STORED: 8,
}
"""A life ends at some passage up to this. The first commits are those of the start."""
OUTSIDE: Final = "from outside"
OUTSIDE_S_MAX: Final = 1.2
"""Of a life that is ended from outside, the start included, of which it is about a third."""
LIFE_S_MAX: Final = 60.0
"""A point that is not passed within this is never passed, and nothing was tested."""
EVERYTHING_S_MAX: Final = 120.0
"""Of a backfill of every block, which rests a lot."""
WORK_EVENTS: Final = 100
"""Acknowledged by the first life and by the last, so that there is something to lose and to compare."""


@dataclass
class Killing:
    """One run: a store, an address, and how its Learners ended."""

    store_dir: Path
    address: str = field(default_factory=free_address)
    random_: random.Random = field(default_factory=lambda: random.Random(SEED))
    deaths: Counter[str] = field(default_factory=Counter)

    def learner(self) -> Process:
        """One that lives."""
        return start("learner_service", *self._flags)

    def broken_learner(self, fault: str) -> Process:
        """One that breaks a promise."""
        return start("tests.faults.broken_learner", *self._flags, environ={FAULT_VARIABLE: fault})

    def run_until_killed(self, point: str) -> None:
        """Runs a Learner that dies at some passage of a point, or from outside."""
        if point == OUTSIDE:
            with start("learner_service", *self._flags, until="running") as process:
                time.sleep(self.random_.uniform(0, OUTSIDE_S_MAX))
                assert process.exit_code is None, process.stderr
                process.kill()
                check_no_bug(process)
        else:
            self.run_until_dead(point, self.random_.randint(1, PASSAGES_MAX[point]))
        self.deaths[point] += 1

    def run_until_dead(self, point: str, passage: int) -> None:
        """Runs a Learner until it dies at a passage of a point."""
        order = {VARIABLE: f"{point}:{passage}"}
        with start("tests.faults.learner_that_dies", *self._flags, until="running", environ=order) as process:
            assert process.wait(LIFE_S_MAX) == -signal.SIGKILL, process.stderr
            assert f"\n{LAST_WORDS}{point}\n" in process.stderr
            check_no_bug(process)

    @property
    def _flags(self) -> tuple[str, ...]:
        return ("--store-dir", str(self.store_dir), "--embedder", "hashing", "--listen", self.address)


@pytest.mark.parametrize(
    "kill_count", [pytest.param(8, marks=pytest.mark.slow), pytest.param(500, marks=pytest.mark.soak)]
)
def test_nothing_is_lost_or_doubled_when_a_learner_dies_at_the_worst_points(
    tmp_path: Path, kill_count: int
) -> None:
    killing = Killing(tmp_path / "store")
    begin_s = time.monotonic()
    with ExitStack() as running:
        working = running.enter_context(WorkingThread(killing.address, random.Random(SEED + 1)))
        backfilling = running.enter_context(BackfillingThread(killing.address, random.Random(SEED + 2)))
        points = (*POINTS, OUTSIDE)
        for number in range(kill_count):
            killing.run_until_killed(points[number % len(points)])
            if number % 50 == 49:
                say(f"{number + 1} kills after {time.monotonic() - begin_s:.0f} s")
        with killing.learner() as learner:
            working.wait_for_acknowledged(working.acknowledged_event_count + WORK_EVENTS)
            working.end()
            backfilling.end()
            before = learned_everything(learner)
            check_no_bug(learner)
            assert learner.terminate() == 0
    assert (working.error, backfilling.error, backfilling.wrong) == (None, None, [])
    check_not_void(killing, working, backfilling)
    assert before.block_count == len(working.promises) + len(working.forgotten)
    answers = [promise.answer for promise in working.promises.values()]
    assert before.example_count == len(answers) - answers.count(None)
    assert losses(killing.store_dir, working.promises, working.forgotten) == []

    check_backfill_of_everything(killing, before.block_count, before.head_revision)
    assert losses(killing.store_dir, working.promises, working.forgotten) == []
    say(f"{kill_count} kills in {time.monotonic() - begin_s:.0f} s, seed {SEED}: {dict(killing.deaths)}")
    say(
        f"{working.acknowledged_event_count} events acknowledged in {working.batch_count} batches sent "
        f"{working.attempt_count} times, {working.change_count} of them changes"
    )
    say(
        f"{before.block_count} blocks, {len(working.forgotten)} of them forgotten, "
        f"{before.example_count} examples at revision {before.head_revision}"
    )
    say(f"{backfilling.ended_count} backfills, of {backfilling.done_block_count} blocks together")


def say(line: str) -> None:
    """Tells who runs this with `-s`."""
    sys.stdout.write(f"\n{line}")
    sys.stdout.flush()


def check_not_void(killing: Killing, working: WorkingThread, backfilling: BackfillingThread) -> None:
    """Fails when something that a kill could have broken did not happen."""
    assert killing.deaths.keys() == {*POINTS, OUTSIDE}
    # Some call was cut short, or the kills came when nobody was at work.
    assert working.attempt_count > working.batch_count
    assert working.change_count > WORK_EVENTS / 4
    assert working.forgotten
    assert backfilling.done_block_count > 0


def check_backfill_of_everything(killing: Killing, block_count: int, head_revision: int) -> None:
    """Kills a backfill in which nobody else is at work: each block is counted, once, and none changes."""
    request = BackfillRequest(backfill_id="everything")
    wrong: list[str] = []
    ended: list[GetBackfillResponse | None] = []
    given_up = threading.Event()

    def backfill() -> None:
        with grpc.insecure_channel(killing.address, options=CHANNEL_OPTIONS) as channel:
            ended.append(backfilled(LearnerServiceStub(channel), request, given_up, wrong))

    thread = threading.Thread(target=backfill)
    with ExitStack() as ending:
        ending.callback(thread.join)
        ending.callback(given_up.set)
        thread.start()
        # So early that there always is more to do in the next life.
        killing.run_until_dead(BACKFILL_HANDED_OUT, 2)
        killing.run_until_dead(BACKFILL_COUNTED, 1)
        killing.run_until_dead(BACKFILL_STORED, 1)
        with killing.learner() as learner:
            thread.join(EVERYTHING_S_MAX)
            status = learned_everything(learner)
            assert learner.terminate() == 0
    assert wrong == []
    assert [
        (each.matched_block_count, each.done_block_count, each.changed_block_count)
        for each in ended
        if each is not None
    ] == [(block_count, block_count, 0)]
    assert status.head_revision == head_revision


@pytest.mark.slow
@pytest.mark.parametrize("fault", LOSES)
def test_a_learner_that_loses_what_it_acknowledged_is_found_out(tmp_path: Path, fault: str) -> None:
    promised, found = after_a_kill_of(fault, tmp_path / "store")
    lost = {sentence.partition(":")[0] for sentence in found}
    assert len(lost & promised.keys()) > 10


@pytest.mark.slow
def test_a_learner_that_doubles_what_it_learned_is_found_out(tmp_path: Path) -> None:
    _, found = after_a_kill_of(DOUBLES, tmp_path / "store")
    assert len([sentence for sentence in found if sentence.endswith("has more than one row")]) > 10


def after_a_kill_of(fault: str, store_dir: Path) -> tuple[Mapping[str, Promise], list[str]]:
    """What was promised, and what is wrong, once a broken Learner was killed and another one went on."""
    killing = Killing(store_dir)
    with WorkingThread(killing.address, killing.random_) as working:
        with killing.broken_learner(fault) as broken:
            working.wait_for_acknowledged(WORK_EVENTS)
            broken.kill()
        with killing.learner() as learner:
            working.end()
            learned_everything(learner)
            assert learner.terminate() == 0
    return working.promises, losses(store_dir, working.promises, working.forgotten)
