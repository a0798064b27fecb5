"""What stands in the rows of the store that are no messages of `store.proto`."""

from dataclasses import dataclass
from typing import NamedTuple

from errata import digest
from errata.v1.example_pb2 import Example
from learner_service.u64 import U64_BYTES


class LogRow(NamedTuple):
    """One row of the log: the newest change of one example."""

    live: bool
    """False when the change was a deletion."""
    key: bytes
    """The block key, encoded."""
    update: bytes
    """The ExampleUpdate, encoded, as a watcher receives it."""

    def encode(self) -> bytes:
        """The row as stored: what a scan must know comes first, so that the update need not be decoded."""
        return bytes((self.live,)) + len(self.key).to_bytes(2, "big") + self.key + self.update

    @classmethod
    def decode(cls, encoded: bytes) -> "LogRow":
        """The row that `encode` gave these bytes for."""
        end = 3 + int.from_bytes(encoded[1:3], "big")
        return cls(encoded[0] == 1, encoded[3:end], encoded[end:])

    @property
    def namespace(self) -> bytes:
        """The namespace of the example, encoded."""
        return self.key[: self.key.index(0)]


@dataclass(frozen=True, slots=True)
class Tally:
    """How many live examples there are, and their digest."""

    count: int
    digest: int

    def encode(self) -> bytes:
        """The tally as stored."""
        return self.count.to_bytes(U64_BYTES, "big") + digest.encode(self.digest)

    @classmethod
    def decode(cls, encoded: bytes | None) -> "Tally":
        """The tally that `encode` gave these bytes for; of nothing, the empty one."""
        if encoded is None:
            return cls(0, 0)
        return cls(int.from_bytes(encoded[:U64_BYTES], "big"), int.from_bytes(encoded[U64_BYTES:], "big"))

    def with_row(self, key: bytes, revision: int) -> "Tally":
        """The tally with one live row more."""
        return Tally(self.count + 1, digest.add(self.digest, digest.row_hash(key, revision)))

    def without_row(self, key: bytes, revision: int) -> "Tally":
        """The tally with one live row less."""
        return Tally(self.count - 1, digest.subtract(self.digest, digest.row_hash(key, revision)))


class Epoch(NamedTuple):
    """A time in which one process wrote the store."""

    start_revision: int
    nonce: int


class StoredExample(NamedTuple):
    """The newest change of an example."""

    revision: int
    example: Example | None
    """None when it was deleted."""


@dataclass(frozen=True, slots=True)
class QueueSummary:
    """What waits for its turn."""

    queued_block_count: int
    parked_block_count: int
    oldest_enqueued_us: int | None
