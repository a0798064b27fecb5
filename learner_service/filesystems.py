"""Which file systems the store can stand on.

LMDB maps its file and locks it; file systems that live on another machine do neither faithfully, and the
damage shows only later.
"""

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


def _unescape(field: str) -> str:
    for escaped, plain in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(escaped, plain)
    return field
