"""The files that are followed now, and how far each of them was read.

Matches what the directories hold with what the store knows: a file that has grown goes on where it was left,
a renamed one too, and one that was replaced or cut short is read from its start. Reading again what was read
before is harmless; passing over what was not is what must never happen, so in doubt a file is a new one.

Not safe for use from two threads at once; the caller takes turns.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from errata.serving.logs import get_logger
from errata.store.v1.store_pb2 import LogFileRecord
from learner_service.analyzer.directories import FoundFile, LogDirectory, list_files
from learner_service.analyzer.identity import HEAD_BYTES_MAX, Identity

FILES_REMEMBERED_MAX: Final = 10_000
"""Records kept in the store. Beyond it those of files that are gone go, the ones read longest ago first."""

log = get_logger()


@dataclass(slots=True)
class LogFile:
    """One file, where it is and how far it was read."""

    path: Path
    namespace: str
    size_bytes: int = 0
    offset_bytes: int = 0
    """Where to read on."""
    inside_long_line: bool = False
    """True when the offset stands in a line that is passed over."""
    identity: Identity | None = None
    """Under which its record is stored; None as long as there is no record."""
    record: LogFileRecord = field(default_factory=LogFileRecord)
    """As stored."""
    version: tuple[int, int, int, int] | None = None
    """As the directory was last listed; see FoundFile."""
    read_version: tuple[int, int, int, int] | None = None
    """The version of which every complete line was read."""

    @property
    def path_text(self) -> str:
        """The path as a record holds it."""
        return os.fsencode(self.path).decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class FileStatus:
    """How far a file was read."""

    path: str
    offset_bytes: int
    """Read and stored, durably."""
    size_bytes: int
    malformed_line_count: int


class FollowedFiles:
    """See the module."""

    def __init__(
        self, directories: Sequence[LogDirectory], remembered_max: int = FILES_REMEMBERED_MAX
    ) -> None:
        self._directories = tuple(directories)
        self._remembered_max = remembered_max
        self._files: dict[Path, LogFile] = {}
        # What the store holds, by key. Invariant: the key of a file that has one is here, and no two files
        # have the same.
        self._records: dict[bytes, LogFileRecord] = {}
        self._warned: set[Path] = set()

    @property
    def keys(self) -> dict[bytes, LogFileRecord]:
        """The records of the store, by key."""
        return self._records

    def load(self, records: Iterable[tuple[bytes, LogFileRecord]]) -> None:
        """Starts from what the store holds."""
        self._records = dict(records)
        self._files.clear()

    def survey(self) -> list[LogFile]:
        """Looks at the directories, and returns the files that may have something to be read."""
        listing = list_files(self._directories)
        for path, reason in listing.unreadable.items():
            self.warn(path, reason)
        self._warned -= {each.path for each in self._directories} - listing.unreadable.keys()
        self._forget_gone({found.path for found in listing.files})
        heads = {}
        for found in listing.files:
            file = self._file(found)
            if file.read_version != found.version:
                head = self._read_head(file)
                if head is not None:
                    heads[file.path] = head
                if head == b"":
                    file.read_version = found.version
        self._recognise([(self._files[path], head) for path, head in heads.items()])
        return [self._files[path] for path, head in heads.items() if head]

    def stored(
        self, file: LogFile, identity: Identity, record: LogFileRecord, dropped: Iterable[bytes]
    ) -> None:
        """Notes that the record of a file was stored, and others were dropped, durably."""
        for key in dropped:
            self._records.pop(key, None)
        self._records[identity.key] = record
        _take_up(file, identity, record)

    def surplus_key(self) -> bytes | None:
        """A record to drop when another one is added; None as long as there are few."""
        if len(self._records) < self._remembered_max:
            return None
        owned = self._owned_keys()
        gone = (key for key in self._records if key not in owned)
        return min(gone, key=lambda key: self._records[key].read_time.ToMicroseconds(), default=None)

    def statuses(self) -> tuple[FileStatus, ...]:
        """How far each file was read, by path."""
        return tuple(
            FileStatus(
                path=file.path_text,
                offset_bytes=file.offset_bytes,
                size_bytes=file.size_bytes,
                malformed_line_count=file.record.malformed_line_count,
            )
            for _, file in sorted(self._files.items())
        )

    def warn(self, path: Path, reason: str) -> None:
        """Logs that a file or directory cannot be read: once, until it can."""
        if path not in self._warned:
            self._warned.add(path)
            log.warning("logs cannot be read, will look again", path=str(path), reason=reason)

    def _file(self, found: FoundFile) -> LogFile:
        file = self._files.setdefault(found.path, LogFile(found.path, found.namespace))
        file.namespace = found.namespace
        file.size_bytes = found.size_bytes
        file.version = found.version
        return file

    def _forget_gone(self, present: set[Path]) -> None:
        for path in self._files.keys() - present:
            del self._files[path]

    def _read_head(self, file: LogFile) -> bytes | None:
        try:
            with file.path.open("rb", buffering=0) as opened:
                head = opened.read(HEAD_BYTES_MAX) or b""
        except FileNotFoundError:
            return None
        except OSError as error:
            self.warn(file.path, error.strerror or type(error).__name__)
            return None
        self._warned.discard(file.path)
        return head

    def _recognise(self, changed: Sequence[tuple[LogFile, bytes]]) -> None:
        """Finds the record of each file, if it has one.

        In this order: files give up records that are no longer theirs; what is where it was is taken up; and
        only a record that nobody has then can be that of a renamed file. So a copy never takes the record of
        its original.
        """
        for file, head in changed:
            if file.identity is not None and not file.identity.matches(head, file.path_text):
                _start_anew(file)
        free = self._records.keys() - self._owned_keys()
        by_path: dict[str, list[bytes]] = {}
        for key in free:
            by_path.setdefault(self._records[key].path, []).append(key)
        for file, head in changed:
            if file.identity is None:
                self._claim(file, head, by_path.get(file.path_text, ()), free)
        lengths = sorted({self._records[key].identity_bytes for key in free}, reverse=True)
        for file, head in changed:
            if file.identity is None:
                prefixes = (head[:length] for length in lengths if length <= len(head))
                self._claim(file, head, (Identity.of(prefix).key for prefix in prefixes), free)
            if file.offset_bytes > file.size_bytes:
                # It begins as it did, but is shorter than what was read: it was cut and is written anew.
                file.offset_bytes, file.inside_long_line = 0, False

    def _claim(self, file: LogFile, head: bytes, candidates: Iterable[bytes], free: set[bytes]) -> None:
        identities = [Identity.stored(key, self._records[key]) for key in candidates if key in free]
        matching = [identity for identity in identities if identity.matches(head, file.path_text)]
        if matching:
            best = max(matching, key=lambda identity: identity.head_bytes)
            free.discard(best.key)
            _take_up(file, best, self._records[best.key])

    def _owned_keys(self) -> set[bytes]:
        return {file.identity.key for file in self._files.values() if file.identity is not None}


def _take_up(file: LogFile, identity: Identity, record: LogFileRecord) -> None:
    file.identity = identity
    file.record = record
    file.offset_bytes = record.offset_bytes
    file.inside_long_line = record.inside_long_line


def _start_anew(file: LogFile) -> None:
    file.identity = None
    file.record = LogFileRecord()
    file.offset_bytes = 0
    file.inside_long_line = False
