"""The digest by which a watcher proves that it holds what the Learner holds; see `WatchBookmark.digest`.

A sum modulo 2^128 of one hash an example, so that either side updates it in constant time: add the row that
came, subtract the row that went.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

DIGEST_BYTES: Final = 16
_MODULUS: Final = 1 << (8 * DIGEST_BYTES)


def row_hash(key: bytes, revision: int) -> int:
    """The hash of one example.

    Args:
        key: namespace ‖ 0x00 ‖ ID.
        revision: of the change that made the example what it is.
    """
    hashed = blake2b(key + b"\0" + revision.to_bytes(8, "big"), digest_size=DIGEST_BYTES)
    return int.from_bytes(hashed.digest(), "big")


def total(keys: Sequence[bytes], revisions: Sequence[int]) -> int:
    """The sum of the hashes of some examples, to be added to a digest."""
    return sum(map(row_hash, keys, revisions))


def add(digest: int, row: int) -> int:
    """The digest with one row more."""
    return (digest + row) % _MODULUS


def subtract(digest: int, row: int) -> int:
    """The digest with one row less."""
    return (digest - row) % _MODULUS


def encode(digest: int) -> bytes:
    """The digest as the wire has it: 16 big-endian bytes."""
    return digest.to_bytes(DIGEST_BYTES, "big")
