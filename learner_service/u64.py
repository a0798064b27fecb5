"""Revisions and times as keys of the store: 8 big-endian bytes, so that bytes order as numbers do."""

from typing import Final

U64_BYTES: Final = 8


def encode_u64(number: int) -> bytes:
    """A revision or a time, at least 0 and below 2^64, as a key."""
    return number.to_bytes(U64_BYTES, "big")


def decode_u64(encoded: bytes) -> int:
    """The number that `encode_u64` gave these bytes for."""
    return int.from_bytes(encoded, "big")
