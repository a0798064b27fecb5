"""What a client remembers of its own writes, so that its searches see them.

A token names a change: a store, an epoch of that store, and a revision. In one history of a store the
greatest revision implies all others. A restored backup begins another history, in which changes of the old
one are lost; which of two epochs is the later cannot be told from tokens. So the greatest revision of each
epoch is kept, and when a service says that one is lost, the next takes its place. A token of another store
replaces all.
"""

import threading
from typing import Final

from google.protobuf.message import DecodeError

from errata.v1.token_pb2 import StateToken

EPOCHS_MAX: Final = 16
"""Of which a revision is kept; the smallest goes. Each start of a Learner is an epoch, and but for restored
backups the greatest revision alone would do."""


class OwnWrites:
    """The tokens of what was written. Safe to use from many threads."""

    def __init__(self) -> None:
        """Remembers nothing yet."""
        # Guards both fields, which change together.
        self._lock = threading.Lock()
        self._store_id = b""
        self._revision_by_epoch: dict[int, int] = {}

    def remember(self, token: bytes) -> None:
        """Adds what a call returned; an empty token adds nothing.

        Raises:
            ValueError: it is no token.
        """
        if not token:
            return
        read = _read(token)
        with self._lock:
            if read.store_id != self._store_id:
                self._store_id = read.store_id
                self._revision_by_epoch.clear()
            known = self._revision_by_epoch.get(read.epoch, 0)
            self._revision_by_epoch[read.epoch] = max(known, read.revision)
            if len(self._revision_by_epoch) > EPOCHS_MAX:
                del self._revision_by_epoch[
                    min(self._revision_by_epoch, key=self._revision_by_epoch.__getitem__)
                ]

    def newest(self) -> bytes:
        """The token that implies the others; empty when nothing is remembered."""
        with self._lock:
            if not self._revision_by_epoch:
                return b""
            epoch = max(self._revision_by_epoch, key=self._revision_by_epoch.__getitem__)
            newest = StateToken(store_id=self._store_id, epoch=epoch, revision=self._revision_by_epoch[epoch])
        return newest.SerializeToString(deterministic=True)

    def forget(self, token: bytes) -> None:
        """Drops a token that is lost, and what was remembered of its epoch up to it."""
        read = _read(token)
        with self._lock:
            same_store = read.store_id == self._store_id
            if same_store and self._revision_by_epoch.get(read.epoch, 0) <= read.revision:
                self._revision_by_epoch.pop(read.epoch, None)


def _read(token: bytes) -> StateToken:
    try:
        read = StateToken.FromString(token)
    except DecodeError:
        read = StateToken()
    if not read.store_id or read.revision < 1:
        raise ValueError("not a token of Errata; pass one on as it was received, or none")
    return read
