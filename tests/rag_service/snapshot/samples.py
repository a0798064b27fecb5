"""Snapshots of indexes, without a service around them."""

from collections.abc import Collection
from pathlib import Path

from errata.snapshot.v1 import snapshot_pb2
from errata.v1 import learner_pb2
from rag_service.held_state import HeldState
from rag_service.index import ExampleIndex
from rag_service.snapshot.file import SnapshotFile, write_file
from rag_service.snapshot.sections import filled_index, sections_of


def small_index(dimension: int) -> ExampleIndex:
    return ExampleIndex(dimension=dimension, capacity_max=1_000)


def header_of(index: ExampleIndex) -> snapshot_pb2.SnapshotHeader:
    """A header that tells the truth about the state as it is now."""
    return snapshot_pb2.SnapshotHeader(
        snapshot_id=bytes(range(16)),
        namespaces=["", "team-a"],
        embedder="toy",
        embedder_fingerprint="toy/8",
        dimension=index.dimension,
        bookmark=learner_pb2.WatchBookmark(
            token=b"token",
            revision=index.received_revision,
            example_count=index.count,
            digest=index.digest,
        ),
        received_revision=index.received_revision,
    )


def written(path: Path, index: ExampleIndex) -> Path:
    """Writes the state as it is now."""
    return written_held(path, header_of(index), index.hold())


def written_held(path: Path, header: snapshot_pb2.SnapshotHeader, held: HeldState) -> Path:
    """Writes a state that is held, and lets go of it."""
    try:
        write_file(path, header, sections_of(held), lambda: None)
    finally:
        held.release()
    return path


def read(path: Path, deleted: Collection[bytes] = ()) -> ExampleIndex:
    """The index that a snapshot gives back."""
    with SnapshotFile.open(path) as file:
        return filled_index(file, small_index, deleted)
