"""Identity of a block and of the example learned from it: a namespace and an ID within it.

Encoded as namespace ‖ 0 ‖ ID. Neither part can hold a zero byte, so the encoding is one to one, and all keys
of a namespace stand together in the order of bytes.
"""

from typing import NamedTuple, Self


class BlockKey(NamedTuple):
    """Names one block of one namespace."""

    namespace: str
    """Up to 63 of `a` to `z`, `0` to `9`, `-` and `_`; empty is the default namespace."""
    id: str
    """1 to 255 bytes of UTF-8 without control characters."""

    def encode(self) -> bytes:
        """The key as the store keeps it."""
        return self.namespace.encode() + b"\0" + self.id.encode()

    @classmethod
    def decode(cls, encoded: bytes) -> Self:
        """The key that `encode` gave these bytes for."""
        namespace, _, block_id = encoded.partition(b"\0")
        return cls(namespace.decode(), block_id.decode())
