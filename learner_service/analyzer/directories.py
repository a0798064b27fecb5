"""Which files are logs: everything in the followed directories that is not visibly something else.

Dialects are known by content, so names decide little. Passed over are hidden files, which is how a program
that writes a log as a whole keeps it out of sight until it is complete; half-written, compressed and backup
files; and the files of a store.

Directories below are followed too, links to files and to directories included. A file that can be reached in
two ways is one file.
"""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

_SUFFIXES_PASSED_OVER: Final = (
    *("~", ".tmp", ".part", ".swp", ".bak", ".lock", ".mdb"),
    *(".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip"),
)


class Version(NamedTuple):
    """Changes whenever a file does."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int
    """Its owner, mode, links and name count as changes as well."""

    @classmethod
    def of(cls, status: os.stat_result) -> "Version":
        """The version of a file with this status."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class LogDirectory:
    """A directory whose files are followed, those in directories below it included."""

    namespace: str
    """Of the blocks that its logs speak of. Empty when it was given none."""
    path: Path


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A log file as it was when it was last looked at."""

    path: str
    namespace: str
    version: Version


@dataclass(frozen=True, slots=True)
class Listing:
    """What the directories hold."""

    files: tuple[FoundFile, ...]
    """By path; one that can be reached in two ways is listed once."""
    unreadable: dict[str, str]
    """Directories that could not be listed, and why."""


def is_passed_over(name: str) -> bool:
    """True for the name of a file, or of a directory, that is visibly no log."""
    return name.startswith(".") or name.endswith(_SUFFIXES_PASSED_OVER)


def list_files(directories: Sequence[LogDirectory]) -> Listing:
    """Lists the log files of the directories.

    A file below two of them belongs to the nearer one.
    """
    found: dict[tuple[int, int], FoundFile] = {}
    unreadable: dict[str, str] = {}
    for directory in sorted(directories, key=lambda each: len(each.path.parts), reverse=True):
        for path, status in _walk(os.fspath(directory.path), unreadable):
            file = FoundFile(path, directory.namespace, Version.of(status))
            found.setdefault(file.version[:2], file)
    return Listing(tuple(sorted(found.values(), key=lambda file: file.path)), unreadable)


def _walk(top: str, unreadable: dict[str, str]) -> list[tuple[str, os.stat_result]]:
    """The files below a directory, each directory once however many links lead to it."""
    files: list[tuple[str, os.stat_result]] = []
    visited: set[tuple[int, int]] = set()
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        try:
            status = os.stat(folder)  # noqa: PTH116 - ten thousand paths a second are too many objects
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                # A file goes by its own name where it has one here besides a link.
                listed = sorted(entries, key=lambda entry: (entry.is_symlink(), entry.name))
        except OSError as error:
            # One below that is gone was there a moment ago.
            if folder == top or not isinstance(error, FileNotFoundError):
                unreadable[folder] = error.strerror or type(error).__name__
            continue
        folders: list[str] = []
        for entry in listed:
            if not is_passed_over(entry.name):
                _sort_in(entry, files, folders)
        waiting += reversed(folders)
    return files


def _sort_in(entry: "os.DirEntry[str]", files: list[tuple[str, os.stat_result]], folders: list[str]) -> None:
    try:
        status = entry.stat()
    except OSError:
        return  # gone since it was listed, or a link to nowhere
    if stat.S_ISREG(status.st_mode):
        files.append((entry.path, status))
    elif stat.S_ISDIR(status.st_mode):
        folders.append(entry.path)
