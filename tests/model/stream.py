"""One WatchUpdates stream, from the side of the Learner: does step by step what `ChangeFeed` does."""

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from errata.v1.learner_pb2 import WatchDraining, WatchReset, WatchUpdatesResponse
from learner_service.change_feed import Chunk, WatchOptions
from learner_service.store.read_transaction import ReadTransaction
from learner_service.tokens import WatchPosition
from tests.model.learner import Learner
from tests.model.oracle import TrueState
from tests.model.rules import Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkBounds:
    """How much one chunk of a stream may be."""

    scanned_rows_max: int
    batch_bytes_max: int


class Sent(NamedTuple):
    """A message on its way, and where it comes from."""

    message: bytes
    truth: TrueState
    """When it was sent. What it was read from may be older, but is part of the same history."""
    learner: Learner


class Stream:
    """See the module. Messages lie in `on_its_way` until the client takes them."""

    def __init__(self, learner: Learner, options: WatchOptions, bounds: ChunkBounds, rules: Rules) -> None:
        """Answers a call.

        Args:
            learner: the process that the call reaches.
            options: what the client asks for.
            bounds: of its chunks.
            rules: how its positions are checked and its chunks read.
        """
        self.learner = learner
        self.options = options
        self.on_its_way: deque[Sent] = deque()
        self.is_open = True
        """False once the Learner sends nothing more."""
        self._bounds = bounds
        self._rules = rules
        self._begun: ReadTransaction | None = None
        self._chunk_count = 0
        self._send(learner.hello(options))
        if options.resume_token:
            self._position = WatchPosition.decode(options.resume_token)
        else:
            self._position = rules.start_position(learner.read(), options.namespaces, learner.fingerprint)

    def begin_read(self) -> None:
        """Takes the state that the next chunk is read from."""
        if self._begun is None:
            self._begun = self.learner.read()

    def end_read(self) -> None:
        """Sends the next chunk, read from the state that was taken."""
        chunk = self._next_chunk()
        self._chunk_count += 1
        self._position = chunk.position
        if chunk.message:
            self._send(chunk.message)

    def drain(self) -> None:
        """Parts from the client in good order: the process ends."""
        draining = WatchDraining(token=self._position.encode())
        self._send(WatchUpdatesResponse(draining=draining).SerializeToString())
        self.is_open = False

    def _next_chunk(self) -> Chunk:
        self.begin_read()
        assert self._begun is not None
        begun, self._begun = self._begun, None
        return self._read_chunk(self._rules.chunk_state(begun, self.learner.read()))

    def _read_chunk(self, transaction: ReadTransaction) -> Chunk:
        """As `ChangeFeed._read_chunk`."""
        namespaces, fingerprint = self.options.namespaces, self.learner.fingerprint
        if self._rules.is_checked(self._chunk_count):
            reason = self._rules.reset_reason(self._position, transaction, namespaces, fingerprint)
            if reason is not None:
                start = self._rules.start_position(transaction, namespaces, fingerprint)
                reset = WatchUpdatesResponse(reset=WatchReset(reason=reason))
                return Chunk(reset.SerializeToString(), start, complete=False)
        return self._rules.scan(
            transaction,
            self._position,
            self.options,
            scanned_rows_max=self._bounds.scanned_rows_max,
            batch_bytes_max=self._bounds.batch_bytes_max,
        )

    def _send(self, message: bytes) -> None:
        self.on_its_way.append(Sent(message, self.learner.truth, self.learner))


class SharingStream(Stream):
    """A stream whose chunks come from the real `ChangeFeed`, of the size that they have in earnest."""

    def _next_chunk(self) -> Chunk:
        return self.learner.shared_chunk(self._position, self.options)
