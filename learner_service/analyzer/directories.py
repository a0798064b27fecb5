"""Which files are logs: everything in the followed directories that is not visibly something else.

Dialects are known by content, so names decide little. Passed over are hidden files, which is how a program
that writes a log as a whole keeps it out of sight until it is complete; half-written, compressed and backup
files; and the files of a store.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SUFFIXES_PASSED_OVER: Final = (
    *("~", ".tmp", ".part", ".swp", ".bak", ".lock", ".mdb"),
    *(".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip"),
)


@dataclass(frozen=True, slots=True)
class LogDirectory:
    """A directory whose files are followed, those in directories below it included."""

    namespace: str
    """Of the blocks that its logs speak of. Empty when it was given none."""
    path: Path


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A log file as it was when the directory was listed."""

    path: Path
    namespace: str
    size_bytes: int
    version: tuple[int, int, int, int]
    """Device, inode, size and modification time: changes whenever the file does."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What the directories hold."""

    files: tuple[FoundFile, ...]
    """By path; one that can be reached in two ways is listed once."""
    unreadable: dict[Path, str]
    """Directories that could not be listed, and why."""


def list_files(directories: Sequence[LogDirectory]) -> Listing:
    """Lists the log files of the directories.

    A file below two of them belongs to the nearer one.
    """
    found: dict[tuple[int, int], FoundFile] = {}
    unreadable: dict[Path, str] = {}
    for directory in sorted(directories, key=lambda each: len(each.path.parts), reverse=True):
        for path in _walk(directory.path, unreadable):
            try:
                status = path.stat()
            except OSError:
                continue  # gone since it was listed, or a link to nowhere
            if stat.S_ISREG(status.st_mode):
                version = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
                file = FoundFile(path, directory.namespace, status.st_size, version)
                found.setdefault(version[:2], file)
    return Listing(tuple(sorted(found.values(), key=lambda file: file.path)), unreadable)


def _walk(top: Path, unreadable: dict[Path, str]) -> Iterator[Path]:
    def refused(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError) or Path(error.filename) == top:
            unreadable[Path(error.filename)] = error.strerror or type(error).__name__

    for folder, folders, names in os.walk(top, onerror=refused):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and not name.endswith(_SUFFIXES_PASSED_OVER):
                yield Path(folder, name)
