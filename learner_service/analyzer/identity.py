"""What makes a file the same file: the bytes that it begins with.

Inodes and paths are no identity: logs are renamed, copied, and moved between containers. The first min(1 KiB,
size) bytes of a log hardly ever change and hardly ever repeat. Where two files do begin with the same bytes,
the path tells the second one apart.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Final, NamedTuple

from errata.store.v1.store_pb2 import LogFileRecord

HEAD_BYTES_MAX: Final = 1024
"""Of a file, hashed: more than the first line of any real log."""
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
    def of(cls, head: bytes, path: str | None = None) -> "Identity":
        """The identity of a file that begins with `head`; with a path, of that file alone."""
        hashed = blake2b(head, digest_size=_IDENTITY_BYTES)
        if path is not None:
            hashed.update(b"\0" + path.encode())
        return cls(hashed.digest(), len(head), path is not None)

    @classmethod
    def stored(cls, key: bytes, record: LogFileRecord) -> "Identity":
        """The identity under which a record is stored."""
        return cls(key, record.identity_bytes, record.identity_has_path)

    def matches(self, head: bytes, path: str) -> bool:
        """True when a file that begins with `head`, at least as far as is known of it, is this one.

        Args:
            head: its first bytes, at most `HEAD_BYTES_MAX`.
            path: where it is.
        """
        if len(head) < self.head_bytes:
            return False
        return self.of(head[: self.head_bytes], path if self.has_path else None).key == self.key

    def extended(self, head: bytes, path: str, taken: Mapping[bytes, object]) -> "Identity":
        """This identity after the file has grown.

        Args:
            head: its first bytes, at most `HEAD_BYTES_MAX`.
            path: where it is.
            taken: keys of other files.
        """
        if len(head) <= self.head_bytes:
            return self
        return new_identity(head, path, taken, has_path=self.has_path)


def new_identity(
    head: bytes, path: str, taken: Mapping[bytes, object], *, has_path: bool = False
) -> Identity:
    """An identity for a file that is seen for the first time.

    Args:
        head: its first bytes, 1 to `HEAD_BYTES_MAX`.
        path: where it is.
        taken: keys of other files.
        has_path: True to cover the path in any case.
    """
    plain = Identity.of(head)
    return Identity.of(head, path) if has_path or plain.key in taken else plain
