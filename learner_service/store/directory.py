"""The directory of a store: made, locked against a second process, and on a file system that can bear it.

LMDB maps its file and locks it; file systems that live on another machine do neither faithfully, and the
damage shows only later.
"""

import fcntl
import os
from pathlib import Path
from typing import Final

from errata.serving.logs import get_logger
from learner_service.errors import StoreError

REFUSED: Final = frozenset(
    {
        *("9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4"),
        *("ocfs2", "orangefs", "smb2", "smb3", "smbfs"),
        *("fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
    }
)
USUAL: Final = frozenset(
    {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"}
)

FREE_BYTES_MIN: Final = 1 << 20
"""With less room than this on its file system, a commit that failed is taken to have failed for that."""

_MOUNTS: Final = Path("/proc/self/mountinfo")

log = get_logger()


def check_file_system(directory: Path, mounts: Path = _MOUNTS) -> None:
    """Refuses a directory on a network file system, and warns of an unusual one.

    Args:
        directory: must exist.
        mounts: the kernel's list of mounts; where there is none (not Linux), nothing is checked.

    Raises:
        StoreError: the store would not be safe there.
    """
    kind = file_system_of(directory, mounts)
    if kind in REFUSED:
        raise StoreError(
            f"--store-dir {directory}: it is on {kind}, a network file system, where a memory-mapped store "
            "gets damaged; name a directory on a local disk"
        )
    if kind is not None and kind not in USUAL:
        log.warning("the store is on an unusual file system", file_system=kind, directory=str(directory))


def file_system_of(directory: Path, mounts: Path = _MOUNTS) -> str | None:
    """The type of the file system that holds a directory; None when it cannot be told."""
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    wanted = os.path.realpath(directory)
    best_length, best_kind = -1, None
    for line in lines:
        # Fields 1 to 6, some optional ones, a dash, then the type: see proc(5).
        before, _, after = line.partition(" - ")
        mount_point = _unescape(before.split(" ")[4])
        inside = wanted == mount_point or wanted.startswith(mount_point.rstrip("/") + "/")
        # Of two mounts on one point the later one hides the earlier.
        if inside and len(mount_point) >= best_length:
            best_length, best_kind = len(mount_point), after.split(" ", 1)[0]
    return best_kind


def is_full(directory: Path) -> bool:
    """Whether the file system of a directory has next to no room left for this user."""
    usage = os.statvfs(directory)
    free_blocks = usage.f_bfree if os.geteuid() == 0 else usage.f_bavail
    return free_blocks * usage.f_frsize < FREE_BYTES_MIN


def make_directory(directory: Path) -> None:
    """Makes a directory for its owner alone, where there is none; it is there after a power failure too.

    Raises:
        StoreError: it cannot be made.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise StoreError(f"--store-dir {directory}: a file is in the way; name a directory") from error
    except OSError as error:
        raise StoreError(f"--store-dir {directory}: cannot be made: {error.strerror}") from error
    # The entry of a new directory is durable only when its parent has been synced.
    for folder in (directory, directory.parent):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def lock(directory: Path) -> int:
    """Locks a directory for this process.

    Returns:
        The open file that holds the lock; closing it releases the lock, and so does any end of the process.

    Raises:
        StoreError: another process has it, or the directory cannot be written.
    """
    path = directory / "errata.lock"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"--store-dir {directory}: cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise StoreError(
            f"--store-dir {directory}: another Learner has this store open; "
            "stop it, or name another directory"
        ) from error
    return handle


def _unescape(field: str) -> str:
    for escaped, plain in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(escaped, plain)
    return field
