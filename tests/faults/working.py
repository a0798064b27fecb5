"""People at work on one Learner that comes and goes: blocks that change, are forgotten, are learned again.

Each call is sent again and again until it is acknowledged. What was acknowledged is known in the end, of each
block and of each backfill.
"""

import random
import threading
import time
from types import TracebackType
from typing import Final, Self

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from errata.v1.block_pb2 import BlockEvent
from errata.v1.learner_pb2 import (
    BackfillRequest,
    ForgetExampleRequest,
    GetBackfillRequest,
    GetBackfillResponse,
)
from errata.v1.learner_pb2_grpc import LearnerServiceStub
from tests.block_events import proposed, ran
from tests.faults.recording import ATTEMPT_S_MAX, CHANNEL_OPTIONS, RETRY_DELAY_S, Promise, RecordingThread

BLOCKS_MAX: Final = 3_000
"""Afterwards only blocks that exist change, so that the last life of many costs what the first did."""
NEW_PER_BATCH: Final = 4
CHANGES_PER_BATCH: Final = 6
QUESTION_WORDS: Final = 20
FORGET_SHARE: Final = 0.1
"""Of batches, after which a block is forgotten."""
PAUSE_S_MAX: Final = 0.02
"""Between batches: backfills must get their turn."""
BACKFILL_ALL_SHARE: Final = 0.1
BACKFILL_S_MAX: Final = 5.0
"""How far other backfills reach back."""
POLL_S: Final = 0.02


class WorkingThread(RecordingThread):
    """Records new blocks, changes old ones, and forgets some, of which it still sends events now and then."""

    def __init__(self, address: str, random_: random.Random) -> None:
        super().__init__(address, random_)
        self.forgotten: set[str] = set()
        """The blocks that were forgotten, acknowledged; none of them is among the promises."""
        self.change_count = 0

    def _send(self, stub: LearnerServiceStub, events: list[BlockEvent], promises: dict[str, Promise]) -> None:
        super()._send(stub, events, promises)
        if self._random.random() < FORGET_SHARE and self.promises:
            self._forget(stub, self._random.choice(sorted(self.promises)))
        self._end.wait(self._random.uniform(0, PAUSE_S_MAX))

    def _forget(self, stub: LearnerServiceStub, block_id: str) -> None:
        while not self._given_up.is_set():
            try:
                stub.ForgetExample(
                    ForgetExampleRequest(id=block_id), timeout=ATTEMPT_S_MAX, wait_for_ready=True
                )
            except grpc.RpcError:
                self._end.wait(RETRY_DELAY_S)
            else:
                with self._changed:
                    del self.promises[block_id]
                    self.forgotten.add(block_id)
                return

    def _batch(self) -> tuple[list[BlockEvent], dict[str, Promise]]:
        events: list[BlockEvent] = []
        promises: dict[str, Promise] = {}
        for _ in range(NEW_PER_BATCH if self._next_block < BLOCKS_MAX else 0):
            block_id = f"b{self._next_block}"
            self._next_block += 1
            question, run = self._question(), f"run {block_id}"
            same = self._random.random() < 0.1
            events += [proposed(block_id, question, run if same else "echo wrong"), ran(block_id, run)]
            promises[block_id] = Promise(run, None if same else run, question)
        known = sorted(self.promises)
        for block_id in self._random.sample(known, min(CHANGES_PER_BATCH, len(known))):
            event, promises[block_id] = self._change(block_id, self.promises[block_id])
            events.append(event)
            self.change_count += 1
        if self.forgotten:
            # Says nothing that anybody may learn.
            block_id = self._random.choice(sorted(self.forgotten))
            events.append(ran(block_id, f"run {block_id} once more", at_s=2 + self.batch_count))
        return events, promises

    def _change(self, block_id: str, before: Promise) -> tuple[BlockEvent, Promise]:
        """A later run: of another command for another question, or the same one, which fails this time."""
        at_s = 2 + self.batch_count
        if before.answer == before.run and self._random.random() < 0.2:
            return ran(block_id, before.run, at_s=at_s, exit_code=1), Promise(before.run, None)
        run, question = f"run {block_id} at {at_s}", self._question()
        return ran(block_id, run, at_s=at_s, asked=question), Promise(run, run, question)

    def _question(self) -> str:
        return " ".join(f"{self._random.getrandbits(40):x}" for _ in range(QUESTION_WORDS))


class BackfillingThread:
    """Begins one backfill after another within its `with` block, and looks after each until it has ended."""

    def __init__(self, address: str, random_: random.Random) -> None:
        self._address = address
        self._random = random_
        self._end = threading.Event()
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="backfilling")
        self.ended_count = 0
        self.done_block_count = 0
        """Of all of them."""
        self.wrong: list[str] = []
        """What an answer said that cannot be."""
        self.error: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        error_class: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._given_up.set()
        self.end()

    def end(self) -> None:
        """Returns once the backfill that runs has ended; no other is begun."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with grpc.insecure_channel(self._address, options=CHANNEL_OPTIONS) as channel:
                stub = LearnerServiceStub(channel)
                number = 0
                while not self._end.is_set():
                    number += 1
                    self._backfill(stub, f"backfill-{number}")
        except BaseException as error:  # noqa: BLE001 - reported by the test
            self.error = error

    def _backfill(self, stub: LearnerServiceStub, backfill_id: str) -> None:
        request = BackfillRequest(backfill_id=backfill_id)
        if self._random.random() >= BACKFILL_ALL_SHARE:
            request.start_time.CopyFrom(_ago(self._random.uniform(0.5, BACKFILL_S_MAX)))
        ended = backfilled(stub, request, self._given_up, self.wrong)
        if ended is not None:
            self.ended_count += 1
            self.done_block_count += ended.done_block_count


def backfilled(
    stub: LearnerServiceStub, request: BackfillRequest, given_up: threading.Event, wrong: list[str]
) -> GetBackfillResponse | None:
    """Begins a backfill and returns how it ended, whatever happens to the Learner; None when given up.

    Args:
        stub: of the Learner.
        request: with an ID.
        given_up: ends it early.
        wrong: gets what an answer said that cannot be.
    """
    matched: int | None = None
    done = 0
    name = request.backfill_id
    while not given_up.is_set():
        try:
            if matched is None:
                begun = stub.Backfill(request, timeout=ATTEMPT_S_MAX, wait_for_ready=True)
                matched = begun.matched_block_count
            asked = GetBackfillRequest(backfill_id=name)
            progress = stub.GetBackfill(asked, timeout=ATTEMPT_S_MAX, wait_for_ready=True)
        except grpc.RpcError:
            given_up.wait(RETRY_DELAY_S)
            continue
        if progress.matched_block_count != matched:
            wrong.append(f"{name}: matched {matched}, then {progress.matched_block_count}")
        if not done <= progress.done_block_count <= matched:
            wrong.append(f"{name}: {done} done, then {progress.done_block_count} of {matched}")
        done = progress.done_block_count
        if progress.HasField("end_time"):
            if done != matched or progress.failed_block_count:
                wrong.append(f"{name}: ended with {done} of {matched} done")
            return progress
        given_up.wait(POLL_S)
    return None


def _ago(seconds: float) -> Timestamp:
    time_ = Timestamp()
    time_.FromMicroseconds(time.time_ns() // 1_000 - round(seconds * 1_000_000))
    return time_
