"""What makes a file the same file: the bytes that it begins with.

Inodes and paths are no identity: logs are renamed, copied, and moved between containers. The first min(1 KiB,
size) bytes of a log hardly ever change and hardly ever repeat. Where two files do begin with the same bytes,
the path tells the second one apart. A log that moves to the directory of another namespace is another log:
its lines are to be learned from there, too.
"""

from collections.abc import Container, Iterable, Iterator
from hashlib import blake2b
from typing import Final, NamedTuple
from zlib import crc32

from errata.store.v1.store_pb2 import LogFileRecord

HEAD_BYTES_MAX: Final = 1024
"""Of a file, hashed: more than the first line of any real log."""
TAIL_BYTES_MAX: Final = 256
"""Before an offset, summed up: enough to tell whether what was read there is still there."""
_IDENTITY_BYTES: Final = 16


class Identity(NamedTuple):
    """The identity of a file, and what it was made from."""

    key: bytes
    """Names the file in the store."""
    head_bytes: int
    """How many bytes of the file it covers: 1 to `HEAD_BYTES_MAX`."""
    has_path: bool
    """True when it covers the path too."""

    @classmethod
    def of(cls, head: bytes, namespace: str, path: str | None = None) -> "Identity":
        """The identity of a file that begins with `head`; with a path, of that file alone."""
        hashed = blake2b(head, digest_size=_IDENTITY_BYTES, key=namespace.encode())
        if path is not None:
            hashed.update(b"\0" + path.encode())
        return cls(hashed.digest(), len(head), path is not None)

    @classmethod
    def stored(cls, key: bytes, record: LogFileRecord) -> "Identity":
        """The identity under which a record is stored."""
        return cls(key, record.identity_bytes, record.identity_has_path)

    def matches(self, head: bytes, namespace: str, path: str) -> bool:
        """True when a file that begins with `head`, at least as far as is known of it, is this one.

        Args:
            head: its first bytes, at most `HEAD_BYTES_MAX`.
            namespace: of the directory that it is in.
            path: where it is.
        """
        if len(head) < self.head_bytes:
            return False
        seen = self.of(head[: self.head_bytes], namespace, path if self.has_path else None)
        return seen.key == self.key

    def extended(self, head: bytes, namespace: str, path: str, taken: Container[bytes]) -> "Identity":
        """This identity after the file has grown.

        Args:
            head: its first bytes, at most `HEAD_BYTES_MAX`.
            namespace: of the directory that it is in.
            path: where it is.
            taken: keys of other files.
        """
        if len(head) <= self.head_bytes:
            return self
        return new_identity(head, namespace, path, taken, has_path=self.has_path)


def new_identity(
    head: bytes, namespace: str, path: str, taken: Container[bytes], *, has_path: bool = False
) -> Identity:
    """An identity for a file that is seen for the first time.

    Args:
        head: its first bytes, 1 to `HEAD_BYTES_MAX`.
        namespace: of the directory that it is in.
        path: where it is.
        taken: keys of other files.
        has_path: True to cover the path in any case.
    """
    plain = Identity.of(head, namespace)
    return Identity.of(head, namespace, path) if has_path or plain.key in taken else plain


def prefix_keys(head: bytes, namespace: str, lengths: Iterable[int]) -> Iterator[bytes]:
    """The keys, without a path, of files that begin with the first so many bytes of `head`.

    Args:
        head: the first bytes of a file.
        namespace: of the directory that it is in.
        lengths: ascending; those beyond `head` give none.
    """
    hashed = blake2b(digest_size=_IDENTITY_BYTES, key=namespace.encode())
    covered = 0
    for length in lengths:
        if length > len(head):
            return
        hashed.update(head[covered:length])
        covered = length
        yield hashed.copy().digest()


def tail_checksum(tail: bytes) -> int:
    """A checksum of what stands before an offset, never 0: that is written where there is none."""
    return crc32(tail) or 1
