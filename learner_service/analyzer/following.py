"""The files that are followed now, and how far each of them was read.

Matches what the directories hold with what the store knows: a file that has grown goes on where it was left,
a renamed one too, and one that was replaced or cut short is read from its start. Reading again what was read
before is harmless; passing over what was not is what must never happen, so in doubt a file is a new one.

Not safe for use from two threads at once; the caller takes turns. `files` alone may be called at any time.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from errata.serving.logs import get_logger
from errata.store.v1.store_pb2 import LogFileRecord
from learner_service.analyzer.directories import FoundFile, LogDirectory, Version, list_files
from learner_service.analyzer.identity import Identity, prefix_keys
from learner_service.analyzer.opening import opened, read_head

FILES_REMEMBERED_MAX: Final = 10_000
"""Records kept in the store. Beyond it those of files that are gone go, the ones read longest ago first."""

log = get_logger()


@dataclass(slots=True)
class LogFile:
    """One file, where it is and how far it was read."""

    path: str
    namespace: str
    version: Version
    """As it was last looked at."""
    offset_bytes: int = 0
    """Where to read on."""
    inside_long_line: bool = False
    """True when the offset stands in a line that is passed over."""
    identity: Identity | None = None
    """Under which its record is stored; None as long as there is no record."""
    record: LogFileRecord = field(default_factory=LogFileRecord)
    """As stored."""
    read_version: Version | None = None
    """The version of which every complete line was read."""
    unread_since_us: int | None = None
    """When it was first seen to hold more than was read, by the wall clock; None when it does not."""
    behind_s: float | None = None
    """How much older the last line read is than the newest one; None when they do not say."""

    @property
    def path_text(self) -> str:
        """The path as a record holds it."""
        return os.fsencode(self.path).decode("utf-8", "replace")

    @property
    def size_bytes(self) -> int:
        """Its size when it was last looked at."""
        return self.version.size_bytes

    def is_read(self) -> None:
        """Notes that every complete line was read."""
        self.read_version = self.version
        self.unread_since_us = None
        self.behind_s = None

    def start_again(self) -> None:
        """Goes back to the start; what is known of the file stays."""
        self.offset_bytes = 0
        self.inside_long_line = False

    def become_another(self) -> None:
        """Forgets what is known: another file stands at the path."""
        self.identity = None
        self.record = LogFileRecord()
        self.start_again()

    def take_up(self, identity: Identity, record: LogFileRecord) -> None:
        """Goes on as a record says."""
        self.identity = identity
        self.record = record
        self.offset_bytes = record.offset_bytes
        self.inside_long_line = record.inside_long_line


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
        self,
        directories: Sequence[LogDirectory],
        clock_us: Callable[[], int],
        remembered_max: int = FILES_REMEMBERED_MAX,
    ) -> None:
        self._directories = tuple(directories)
        self._clock_us = clock_us
        self._remembered_max = remembered_max
        self._files: dict[str, LogFile] = {}
        # What the store holds, by key. Invariant: the key of a file that has one is here, and no two files
        # have the same.
        self._records: dict[bytes, LogFileRecord] = {}
        self._warned: set[str] = set()

    @property
    def keys(self) -> dict[bytes, LogFileRecord]:
        """The records of the store, by key."""
        return self._records

    def files(self) -> list[LogFile]:
        """Every file, by path; may be called from any thread at any time."""
        # Making a list of a dictionary is one step of the interpreter: no other thread comes between.
        return sorted(list(self._files.values()), key=lambda file: file.path)  # noqa: C414

    def load(self, records: Iterable[tuple[bytes, LogFileRecord]]) -> None:
        """Starts from what the store holds."""
        self._records = dict(records)
        self._files.clear()

    def survey(self) -> list[LogFile]:
        """Looks at the directories, and returns the files that may have something to be read."""
        listing = list_files(self._directories)
        for path, reason in listing.unreadable.items():
            self.warn(path, reason)
        for path in self._files.keys() - {found.path for found in listing.files}:
            del self._files[path]
        self._warned &= self._files.keys() | listing.unreadable.keys()
        return self._changed([self._file(found) for found in listing.files])

    def look_at(self, paths: Iterable[str]) -> list[LogFile] | None:
        """Looks at some files that are known, and returns those that may have something to be read.

        Returns:
            None when one of the paths is anything but a file that is known and still there: what has become
            of that only a survey can tell.
        """
        files = []
        for path in paths:
            file = self._files.get(path)
            if file is None:
                return None
            try:
                version = Version.of(os.stat(path))  # noqa: PTH116 - as in `directories.py`
            except OSError:
                return None
            if version[:2] != file.version[:2]:
                return None
            file.version = version
            files.append(file)
        return self._changed(files)

    def stored(
        self, file: LogFile, identity: Identity, record: LogFileRecord, dropped: Iterable[bytes]
    ) -> None:
        """Notes that the record of a file was stored, and others were dropped, durably."""
        for key in dropped:
            self._records.pop(key, None)
        self._records[identity.key] = record
        file.take_up(identity, record)

    def surplus_keys(self, added_count: int) -> list[bytes]:
        """Records to drop when some are added; none as long as there are few."""
        surplus_count = len(self._records) + added_count - self._remembered_max
        if added_count == 0 or surplus_count <= 0:
            return []
        owned = self._owned_keys()
        gone = [key for key in self._records if key not in owned]
        gone.sort(key=lambda key: self._records[key].read_time.ToMicroseconds())
        return gone[:surplus_count]

    def warn(self, path: str, reason: str) -> None:
        """Logs that a file or directory cannot be read: once, until it can."""
        if path not in self._warned:
            self._warned.add(path)
            log.warning("logs cannot be read, will look again", path=path, reason=reason)

    def _file(self, found: FoundFile) -> LogFile:
        file = self._files.get(found.path)
        if file is None:
            file = self._files[found.path] = LogFile(found.path, found.namespace, found.version)
        file.namespace = found.namespace
        file.version = found.version
        return file

    def _changed(self, files: Iterable[LogFile]) -> list[LogFile]:
        """Those of the files that have changed since they were read, each with the record that is its own."""
        heads: list[tuple[LogFile, bytes]] = []
        for file in files:
            if file.read_version != file.version:
                head = self._read_head(file)
                if head is not None:
                    heads.append((file, head))
                if head == b"":
                    file.is_read()
        self._recognise(heads)
        unread = [file for file, head in heads if head]
        for file in unread:
            if file.unread_since_us is None:
                file.unread_since_us = self._clock_us()
        return unread

    def _read_head(self, file: LogFile) -> bytes | None:
        try:
            with opened(file.path) as handle:
                head = read_head(handle)
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
            if file.identity is not None and not file.identity.matches(head, file.namespace, file.path_text):
                file.become_another()
        if any(file.identity is None for file, _ in changed):
            self._claim_all([(file, head) for file, head in changed if file.identity is None])
        for file, _ in changed:
            if file.offset_bytes > file.size_bytes:
                # It begins as it did, but is shorter than what was read: it was cut and is written anew.
                file.start_again()

    def _claim_all(self, unknown: Sequence[tuple[LogFile, bytes]]) -> None:
        free = self._records.keys() - self._owned_keys()
        by_path: dict[str, list[bytes]] = {}
        for key in free:
            by_path.setdefault(self._records[key].path, []).append(key)
        for file, head in unknown:
            self._claim(file, head, by_path.get(file.path_text, ()), free)
        lengths = sorted({self._records[key].identity_bytes for key in free})
        for file, head in unknown:
            if file.identity is None and lengths:
                self._claim(file, head, prefix_keys(head, file.namespace, lengths), free)

    def _claim(self, file: LogFile, head: bytes, candidates: Iterable[bytes], free: set[bytes]) -> None:
        identities = [Identity.stored(key, self._records[key]) for key in candidates if key in free]
        matching = [each for each in identities if each.matches(head, file.namespace, file.path_text)]
        if matching:
            best = max(matching, key=lambda identity: identity.head_bytes)
            free.discard(best.key)
            file.take_up(best, self._records[best.key])

    def _owned_keys(self) -> set[bytes]:
        return {file.identity.key for file in self._files.values() if file.identity is not None}
