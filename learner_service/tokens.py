"""The two tokens that the Learner hands out: of a stream, and of a state that a search can wait for.

Both are opaque to clients. A stream token says where a scan of the log stands, and what it has seen; whether
it may still be resumed from is for `reset_reason` alone to say.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final, Self

from google.protobuf.message import DecodeError

from errata.store.v1.store_pb2 import WatchToken
from errata.v1.learner_pb2 import WatchResetReason
from errata.v1.token_pb2 import StateToken
from learner_service.errors import TokenMalformedError
from learner_service.store.read_transaction import ReadTransaction

_PAGE_TOKEN_DIGITS_MAX: Final = 16
_HEX_DIGITS: Final = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchPosition:
    """Where a stream stands. A value: each step of a scan makes a new one."""

    store_id: bytes
    epoch: int
    cursor: int
    """Every row up to this revision has been sent."""
    horizon: int
    """The newest head that any scan of the stream has seen."""
    base: int
    """Tombstones up to this revision are not needed."""
    namespaces_hash: int
    fingerprint_hash: int

    def encode(self) -> bytes:
        """The position as a token."""
        return WatchToken(
            store_id=self.store_id,
            epoch=self.epoch,
            cursor=self.cursor,
            horizon=self.horizon,
            base=self.base,
            namespaces_hash=self.namespaces_hash,
            fingerprint_hash=self.fingerprint_hash,
        ).SerializeToString()

    @classmethod
    def decode(cls, token: bytes) -> Self:
        """The position that `encode` gave this token for.

        Raises:
            TokenMalformedError: no position gives these bytes.
        """
        try:
            read = WatchToken.FromString(token)
        except DecodeError as error:
            raise TokenMalformedError("resume_token") from error
        ordered = 0 <= read.cursor <= read.horizon and 0 <= read.base <= read.horizon
        if not read.store_id or not ordered:
            raise TokenMalformedError("resume_token")
        return cls(
            store_id=read.store_id,
            epoch=read.epoch,
            cursor=read.cursor,
            horizon=read.horizon,
            base=read.base,
            namespaces_hash=read.namespaces_hash,
            fingerprint_hash=read.fingerprint_hash,
        )

    def advanced(self, *, cursor: int, head: int, epoch: int) -> Self:
        """The position after a chunk that ended at `cursor`, read when the head was `head`."""
        return replace(self, cursor=cursor, horizon=max(self.horizon, head), epoch=epoch)

    def bookmarked(self, head: int) -> Self:
        """The position at a bookmark: all is held up to the head, tombstones before it are not needed."""
        return replace(self, cursor=head, base=head)


def start_position(
    transaction: ReadTransaction, namespaces: Collection[str], fingerprint: str
) -> WatchPosition:
    """The position of a stream that has received nothing: a scan that needs no tombstone made before it."""
    head = transaction.head_revision
    return WatchPosition(
        store_id=transaction.store_id,
        epoch=next(transaction.durable_epochs()).nonce,
        cursor=0,
        horizon=head,
        base=head,
        namespaces_hash=namespaces_hash(namespaces),
        fingerprint_hash=_hash(fingerprint.encode()),
    )


def reset_reason(
    position: WatchPosition, transaction: ReadTransaction, namespaces: Collection[str], fingerprint: str
) -> WatchResetReason.ValueType | None:
    """Why a stream cannot go on from a position; None when it can."""
    if position.store_id != transaction.store_id:
        return WatchResetReason.WATCH_RESET_REASON_STORE_CHANGED
    if not _is_of_this_history(position, transaction):
        return WatchResetReason.WATCH_RESET_REASON_HISTORY_LOST
    if position.namespaces_hash != namespaces_hash(namespaces):
        return WatchResetReason.WATCH_RESET_REASON_FILTER_CHANGED
    if position.fingerprint_hash != _hash(fingerprint.encode()):
        return WatchResetReason.WATCH_RESET_REASON_EMBEDDER_CHANGED
    if max(position.cursor, position.base) < transaction.compact_revision:
        return WatchResetReason.WATCH_RESET_REASON_COMPACTED
    return None


def _is_of_this_history(position: WatchPosition, transaction: ReadTransaction) -> bool:
    """False when a scan of the stream saw a head that this store has lost, as after a restored backup."""
    end = transaction.head_revision
    for epoch in transaction.durable_epochs():
        if epoch.nonce == position.epoch:
            return position.horizon <= end
        end = epoch.start_revision
    return False


def namespaces_hash(namespaces: Collection[str]) -> int:
    """Names a set of namespaces; 0 for all."""
    if not namespaces:
        return 0
    # 0 means all, so no set may have it.
    return max(1, _hash(b"\0".join(name.encode() for name in sorted(set(namespaces))) + b"\0"))


def state_token(transaction: ReadTransaction, revision: int) -> bytes:
    """A token for the state that holds a change: its revision, in the last epoch that starts below it.

    Of a change older than every epoch that is remembered, the oldest: whoever has that has the change.
    """
    nonce = 0
    for epoch in transaction.durable_epochs():
        nonce = epoch.nonce
        # Of epochs that start at one revision only the last can have given a later one.
        if epoch.start_revision < revision:
            break
    return StateToken(store_id=transaction.store_id, epoch=nonce, revision=revision).SerializeToString()


def _hash(value: bytes) -> int:
    return int.from_bytes(blake2b(value, digest_size=8).digest(), "big")


def encode_page_token(number: int) -> str:
    """A token for the page of a list that continues below a time or a revision."""
    return format(number, "x")


def decode_page_token(token: str) -> int | None:
    """Where a page begins; None for the first.

    Raises:
        TokenMalformedError: no list gave this token.
    """
    if not token:
        return None
    if len(token) > _PAGE_TOKEN_DIGITS_MAX or not set(token) <= _HEX_DIGITS:
        raise TokenMalformedError("page_token")
    return int(token, 16)
