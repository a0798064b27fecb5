"""A sender that never gives up, and what it was promised.

It sends blocks of known outcome, batch after batch, each again and again until it is acknowledged. So at any
moment it knows what must have survived whatever happens to the Learner.
"""

import random
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import grpc

from errata.v1.block_pb2 import BlockEvent
from errata.v1.learner_pb2 import RecordEventsRequest
from errata.v1.learner_pb2_grpc import LearnerServiceStub
from tests.block_events import proposed, ran

BLOCKS_PER_BATCH: Final = 10
"""So few that a kill often meets one on its way."""
QUESTION_WORDS: Final = 120
"""Of words that nobody has seen: embedding them takes longer than recording them, on any machine, so there
always is something that waits to be learned."""
ATTEMPT_S_MAX: Final = 5.0
RETRY_DELAY_S: Final = 0.02


@dataclass(frozen=True)
class Promise:
    """What must be known of a block once its events are acknowledged."""

    run: str
    """What ran last."""
    answer: str | None
    """What its example answers; None when it must have none."""
    question: str = ""
    """What its example asks; nobody looks when it is empty."""


class RecordingThread:
    """See the module. Runs within its `with` block, and ends with everything that it sent acknowledged."""

    def __init__(self, address: str, random_: random.Random) -> None:
        self._address = address
        self._random = random_
        self._end = threading.Event()
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recording")
        self._changed = threading.Condition()
        self._next_block = 0
        self.promises: dict[str, Promise] = {}
        """Of every block of which an event was acknowledged."""
        self.acknowledged_event_count = 0
        self.attempt_count = 0
        self.batch_count = 0
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
            # There may be nobody any more who could acknowledge what was sent.
            self._given_up.set()
        self.end()

    def end(self) -> None:
        """Returns once everything that was sent is acknowledged; nothing more is sent."""
        self._end.set()
        self._thread.join()

    def wait_for_acknowledged(self, event_count: int, seconds: float = 60.0) -> None:
        """Returns once so many events are acknowledged."""
        with self._changed:
            reached = self._changed.wait_for(
                lambda: self.error is not None or self.acknowledged_event_count >= event_count, seconds
            )
        assert self.error is None, repr(self.error)
        assert reached, f"{self.acknowledged_event_count} of {event_count} events after {seconds:g} s"

    def _run(self) -> None:
        try:
            with grpc.insecure_channel(self._address, options=CHANNEL_OPTIONS) as channel:
                stub = LearnerServiceStub(channel)
                while not self._end.is_set():
                    self._send(stub, *self._batch())
        except BaseException as error:  # noqa: BLE001 - reported by the test
            with self._changed:
                self.error = error
                self._changed.notify_all()

    def _send(self, stub: LearnerServiceStub, events: list[BlockEvent], promises: dict[str, Promise]) -> None:
        """Sends a batch until it is acknowledged, also after the end was asked for."""
        request = RecordEventsRequest(events=events)
        self.batch_count += 1
        while not self._given_up.is_set():
            self.attempt_count += 1
            try:
                stub.RecordEvents(request, timeout=ATTEMPT_S_MAX, wait_for_ready=True)
            except grpc.RpcError:
                self._end.wait(RETRY_DELAY_S)
            else:
                self._acknowledged(promises, len(events))
                return

    def _acknowledged(self, promises: dict[str, Promise], event_count: int) -> None:
        with self._changed:
            self.promises.update(promises)
            self.acknowledged_event_count += event_count
            self._changed.notify_all()

    def _batch(self) -> tuple[list[BlockEvent], dict[str, Promise]]:
        events: list[BlockEvent] = []
        promises: dict[str, Promise] = {}
        for _ in range(BLOCKS_PER_BATCH):
            block_id = f"b{self._next_block}"
            self._next_block += 1
            question = " ".join(f"{self._random.getrandbits(40):x}" for _ in range(QUESTION_WORDS))
            run = f"run {block_id}"
            same = self._random.random() < 0.1
            events += [proposed(block_id, question, run if same else "echo wrong"), ran(block_id, run)]
            promises[block_id] = Promise(run, None if same else run)
        known = sorted(self.promises)
        for block_id in self._random.sample(known, min(2, len(known))):
            event, promises[block_id] = self._change(block_id, self.promises[block_id])
            events.append(event)
        return events, promises

    def _change(self, block_id: str, before: Promise) -> tuple[BlockEvent, Promise]:
        """A later run of a block: of another command, or the same one, which fails this time."""
        at_s = 2 + self.batch_count
        if before.answer == before.run and self._random.random() < 0.3:
            return ran(block_id, before.run, at_s=at_s, exit_code=1), Promise(before.run, None)
        run = f"run {block_id} at {at_s}"
        return ran(block_id, run, at_s=at_s), Promise(run, run)


CHANNEL_OPTIONS: Final = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 100),
    ("grpc.use_local_subchannel_pool", 1),
]
"""A killed Learner is found again as soon as it is back."""
