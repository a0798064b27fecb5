"""Why a snapshot cannot be used. It never ends the service: what a snapshot holds can be received again."""

from pathlib import Path

from rag_service.errors import RagError


class SnapshotError(RagError):
    """A snapshot, or the directory of the snapshots, cannot be used."""


class SnapshotDamagedError(SnapshotError):
    """A file is not what was written."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path} is damaged: {problem}")
        self.path = path


class SnapshotForeignError(SnapshotError):
    """A snapshot is whole, but not one that this service may start from."""


class SnapshotAbandonedError(SnapshotError):
    """Nobody wants the snapshot any more that was being written."""

    def __init__(self) -> None:
        super().__init__("the snapshot was given up before it was complete")


class DirectoryInUseError(SnapshotError):
    """Another process uses the directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__(
            f"--snapshot-dir {directory} is used by another RAG service; give each one a directory of its own"
        )
        self.directory = directory
