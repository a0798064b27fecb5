"""The directory that a service keeps its snapshot in, and that no other process may use meanwhile.

    lock               held by the process that uses the directory
    snapshot           the newest one that is whole; replaced in one step
    deletions.ID       what was deleted since the snapshot with this ID
    snapshot.tmp       one that is being written, or was when a process ended

What holds after every step, and so whenever the process is killed: if there is a snapshot, its deletions are
beside it, and all that were recorded are among them. Before a deletion counts as recorded it is durable, or
the snapshot is gone. A snapshot from an earlier process that was not adopted goes with the first record: who
does not know what it holds cannot tell what of it has been deleted.
"""

import contextlib
import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from errata.serving.logs import get_logger
from rag_service.snapshot.deletions import DeletionLog
from rag_service.snapshot.errors import DirectoryInUseError
from rag_service.snapshot.file import SnapshotFile

_LOCK: Final = "lock"
_SNAPSHOT: Final = "snapshot"
_TEMPORARY: Final = "snapshot.tmp"
_DELETIONS: Final = "deletions."

_log = get_logger()


class SnapshotDirectory:
    """The files of a directory. Used by one thread at a time, but for what says otherwise."""

    def __init__(self, path: Path) -> None:
        """Touches nothing; see `acquire`."""
        self._path = path
        self._lock_descriptor: int | None = None
        # Of the snapshot in the directory, once it is adopted or installed.
        self._log: DeletionLog | None = None
        # False while there may be a snapshot that must go before a deletion counts as recorded.
        self._settled = False
        # True when that has failed and was said: it is tried at every bookmark.
        self._failure_told = False

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._path

    @property
    def temporary_path(self) -> Path:
        """Where to write a snapshot that is to be installed; may be asked and used by any thread."""
        return self._path / _TEMPORARY

    @property
    def has_snapshot(self) -> bool:
        """Whether there is a snapshot that was adopted or installed; may be asked by any thread."""
        return self._log is not None

    @property
    def settled(self) -> bool:
        """False when `record` has something to do though nothing was deleted; may be asked by any thread."""
        return self._settled

    def acquire(self) -> None:
        """Makes the directory where it is not there, and takes it for this process; again does nothing.

        Raises:
            DirectoryInUseError: another process has it.
            NotADirectoryError, FileExistsError: something else has this name.
            OSError: it cannot be made or written.
        """
        if self._lock_descriptor is not None:
            return
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.temporary_path.unlink(missing_ok=True)
            self._settled = not self._snapshot_path.exists()
        except BlockingIOError:
            os.close(descriptor)
            raise DirectoryInUseError(self._path) from None
        except BaseException:
            os.close(descriptor)
            raise
        self._lock_descriptor = descriptor

    def open_snapshot(self) -> SnapshotFile | None:
        """Opens the snapshot that an earlier process left; None when there is none, or it cannot be adopted
        because the directory is not acquired.

        Raises:
            SnapshotError: it cannot be used.
            OSError: it cannot be read.
        """
        if self._lock_descriptor is None:
            return None
        try:
            return SnapshotFile.open(self._snapshot_path)
        except FileNotFoundError:
            return None

    def open_deletions(self, snapshot_id: bytes) -> tuple[DeletionLog, dict[bytes, int]]:
        """Opens the deletions since the snapshot that an earlier process left; see `DeletionLog.open`.

        Raises:
            SnapshotDamagedError: they cannot be used, and so the snapshot cannot.
            OSError: they cannot be read and written.
        """
        return DeletionLog.open(self._deletions_path(snapshot_id), snapshot_id)

    def adopt(self, deletions: DeletionLog) -> None:
        """Takes the snapshot that an earlier process left for the state that is served; takes over its
        deletions.
        """
        self._log = deletions
        self._settled = True
        self._remove_deletions_but(deletions.path)

    def record(self, deletions: Mapping[bytes, int]) -> None:
        """Sees to it that no snapshot in the directory gives back what was deleted.

        Where that cannot be written the snapshot goes. Raises nothing: where even that fails, `settled` is
        False, and the next call tries again.

        Args:
            deletions: key to revision of the deletion.
        """
        if self._log is not None and deletions:
            try:
                self._log.append(deletions)
            except OSError as error:
                _log.warning("cannot write deletions, removing the snapshot", problem=str(error))
                self._let_go()
        if not self._settled:
            self._discard()

    def install(self, snapshot_id: bytes, deletions: Mapping[bytes, int]) -> None:
        """Puts the snapshot that was written at `temporary_path` in the place of the one that there is.

        Args:
            snapshot_id: its ID.
            deletions: key to revision of each deletion since the state that it holds.

        Raises:
            OSError: it cannot be; then the one that there was is still there, or none.
        """
        made = DeletionLog.create(self._deletions_path(snapshot_id), snapshot_id, deletions)
        try:
            # Its deletions are there before it is.
            self._sync()
            self.temporary_path.replace(self._snapshot_path)
        except BaseException:
            made.close()
            raise
        self._let_go()
        try:
            self._sync()
        except BaseException:
            # Which of the two is there after a power cut nobody knows, and so not what was deleted since.
            made.close()
            self._discard()
            raise
        self.adopt(made)

    def close(self) -> None:
        """Lets go of the directory; nothing may follow."""
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._lock_descriptor is not None:
            os.close(self._lock_descriptor)
            self._lock_descriptor = None

    @property
    def _snapshot_path(self) -> Path:
        return self._path / _SNAPSHOT

    def _deletions_path(self, snapshot_id: bytes) -> Path:
        return self._path / f"{_DELETIONS}{snapshot_id.hex()}"

    def _let_go(self) -> None:
        """Forgets the snapshot that there is; it is to be replaced or removed."""
        if self._log is not None:
            self._log.close()
            self._log = None
        self._settled = False

    def _discard(self) -> None:
        try:
            self.acquire()
            self._snapshot_path.unlink(missing_ok=True)
            self._sync()
        except (OSError, DirectoryInUseError) as error:
            if not self._failure_told:
                self._failure_told = True
                _log.error(
                    "cannot remove a snapshot that may hold deleted examples, still trying",
                    problem=str(error),
                )
            return
        self._failure_told = False
        self._settled = True
        self._remove_deletions_but(None)

    def _remove_deletions_but(self, kept: Path | None) -> None:
        # One that stays belongs to a snapshot that is gone, and harms nobody.
        with contextlib.suppress(OSError):
            for path in self._path.glob(f"{_DELETIONS}*"):
                if path != kept:
                    path.unlink(missing_ok=True)

    def _sync(self) -> None:
        """Makes the names in the directory durable."""
        descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
