"""One state at a bookmark: what tells it from others, and all that a snapshot of it holds."""

import contextlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from errata.snapshot.v1 import snapshot_pb2
from errata.v1 import learner_pb2
from rag_service.held_state import HeldState
from rag_service.mirror import Replica
from rag_service.snapshot.deletions import SNAPSHOT_ID_BYTES
from rag_service.snapshot.file import write_file
from rag_service.snapshot.sections import sections_of


@dataclass(frozen=True, slots=True)
class Point:
    """Names a state of a replica at a bookmark."""

    replica: Replica
    received_revision: int
    applied_revision: int

    @classmethod
    def of(cls, replica: Replica) -> "Point":
        """The state of a replica as it is now."""
        return cls(replica, replica.index.received_revision, replica.applied_revision)

    def is_held_by(self, other: "Point | None") -> bool:
        """Whether the other one holds the same examples."""
        return (
            other is not None
            and self.replica is other.replica
            and self.received_revision == other.received_revision
        )


@dataclass(frozen=True, slots=True)
class Capture:
    """A state at a bookmark that is kept for writing; see `HeldState`."""

    point: Point
    header: snapshot_pb2.SnapshotHeader
    held: HeldState
    deletions: dict[bytes, int] = field(default_factory=dict)
    """Those that have come since; see `SnapshotDirectory.record`."""

    @classmethod
    def of(cls, replica: Replica, *, namespaces: Sequence[str], bookmark_time_us: int) -> "Capture":
        """Keeps a replica, which is at a bookmark, as it is now.

        Args:
            replica: the live one.
            namespaces: the ones that are followed, sorted; all of them when empty.
            bookmark_time_us: when the bookmark came, in microseconds since 1970.
        """
        index, source = replica.index, replica.source
        header = snapshot_pb2.SnapshotHeader(
            snapshot_id=secrets.token_bytes(SNAPSHOT_ID_BYTES),
            namespaces=namespaces,
            embedder=source.embedder_spec,
            embedder_fingerprint=source.embedder.fingerprint,
            dimension=source.embedder.dimension,
            store_id=source.store_id,
            epochs=replica.own_epochs.listed(),
            bookmark=learner_pb2.WatchBookmark(
                token=replica.resume_token,
                revision=replica.applied_revision,
                example_count=index.count,
                digest=index.digest,
            ),
            received_revision=index.received_revision,
        )
        header.bookmark_time.FromMicroseconds(bookmark_time_us)
        return cls(Point.of(replica), header, index.hold())

    def write(self, path: Path, step: Callable[[], None]) -> None:
        """Writes a snapshot, durably; see `write_file`. Where that fails, nothing is left."""
        try:
            write_file(path, self.header, sections_of(self.held), step)
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            raise
