"""Tells whether an index reflects a write: by the token of the write and the histories of the store.

A token (store, epoch, revision) names one change. Revisions alone would lie after a restored backup, which
hands them out again for other changes; so each process that writes the store opens an epoch with a random
nonce, and a change belongs to the last epoch that starts below its revision. Pure: no clock, no waiting.
"""

from collections.abc import Iterable
from enum import Enum
from typing import Final

from google.protobuf.message import DecodeError

from errata.v1 import learner_pb2, token_pb2
from rag_service.errors import TokenMalformedError


class Verdict(Enum):
    """What can be said of a token."""

    REACHED = "reached"
    """The index reflects the change."""
    WAIT = "wait"
    """It does not yet, or nobody can tell yet."""
    LOST = "lost"
    """The store has lost the change: it will never be reflected."""


class Epochs:
    """The epochs of one history of a store, oldest first; immutable.

    An epoch ends where its successor begins; the last one has not ended.
    """

    __slots__ = ("_index_by_nonce", "_nonces", "_starts")

    def __init__(self, epochs: Iterable[learner_pb2.Epoch] = ()) -> None:
        listed = [(epoch.nonce, epoch.start_revision) for epoch in epochs]
        self._nonces = tuple(nonce for nonce, _ in listed)
        self._starts = tuple(start for _, start in listed)
        self._index_by_nonce = {nonce: index for index, nonce in enumerate(self._nonces)}

    def __contains__(self, nonce: int) -> bool:
        return nonce in self._index_by_nonce

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Epochs):
            return NotImplemented
        return self._nonces == other._nonces and self._starts == other._starts

    def __hash__(self) -> int:
        return hash((self._nonces, self._starts))

    def __repr__(self) -> str:
        return f"Epochs({list(zip(self._nonces, self._starts, strict=True))})"

    def listed(self) -> list[learner_pb2.Epoch]:
        """The epochs as a Hello lists them."""
        return [
            learner_pb2.Epoch(nonce=nonce, start_revision=start)
            for nonce, start in zip(self._nonces, self._starts, strict=True)
        ]

    @property
    def first_start(self) -> int | None:
        """Start of the oldest epoch listed; None when none is."""
        return self._starts[0] if self._starts else None

    def start(self, nonce: int) -> int:
        """Start of an epoch that is in this history."""
        return self._starts[self._index_by_nonce[nonce]]

    def end(self, nonce: int) -> int | None:
        """Start of the successor of an epoch that is in this history; None when it has none."""
        following = self._index_by_nonce[nonce] + 1
        return self._starts[following] if following < len(self._starts) else None

    def of_revision(self, revision: int) -> int | None:
        """The last epoch that starts below `revision`; None when all start at or above it."""
        for nonce, start in zip(reversed(self._nonces), reversed(self._starts), strict=True):
            if start < revision:
                return nonce
        return None


NO_EPOCHS: Final = Epochs()
"""The history before anything is known of a store."""


def decide(
    token: token_pb2.StateToken, *, store_id: bytes, known: Epochs, own: Epochs, applied_revision: int
) -> Verdict:
    """Tells what an index can say of a token. The first rule that matches decides.

    Args:
        token: as `decode` gave it.
        store_id: the store of the last Hello.
        known: the epochs of the last Hello.
        own: those of the Hello under which the index's last bookmark came.
        applied_revision: of that bookmark.
    """
    epoch, revision = token.epoch, token.revision
    if token.store_id != store_id:
        return Verdict.WAIT
    if epoch in known:
        end = known.end(epoch)
        if end is not None and end < revision:
            return Verdict.LOST
    if epoch not in own:
        return Verdict.WAIT
    # An epoch older than the first known is not lost, only too old to be listed still.
    gone = epoch not in known and known.first_start is not None and own.start(epoch) >= known.first_start
    # A change that its epoch did not make, being older than all that were kept, is not lost with it.
    if gone and own.start(epoch) < revision:
        return Verdict.LOST
    own_end = own.end(epoch)
    if (own_end is None or revision <= own_end) and revision <= applied_revision:
        return Verdict.REACHED
    return Verdict.WAIT


def encode(token: token_pb2.StateToken) -> bytes:
    """The token as clients carry it."""
    return token.SerializeToString(deterministic=True)


def decode(encoded: bytes, *, field: str = "min_token") -> token_pb2.StateToken:
    """The token that `encode` gave these bytes for.

    Raises:
        TokenMalformedError: it is none; names `field`.
    """
    try:
        token = token_pb2.StateToken.FromString(encoded)
    except DecodeError:
        raise TokenMalformedError(field) from None
    if not token.store_id or token.revision < 1:
        raise TokenMalformedError(field)
    return token


def token_for(revision: int, epochs: Epochs, store_id: bytes) -> bytes:
    """The token of a change; empty when no epoch of `epochs` can have made it.

    Args:
        revision: of the change; 0 for none.
        epochs: a history that contains the change.
        store_id: the store of that history.
    """
    epoch = epochs.of_revision(revision)
    if epoch is None:
        return b""
    return encode(token_pb2.StateToken(store_id=store_id, epoch=epoch, revision=revision))
