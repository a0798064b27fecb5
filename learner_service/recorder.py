"""Records events: the one way in, for requests and for logs alike.

Redact, fold, store: a block that an event changed is stored and queued for learning in one transaction, and
an event that says nothing new writes nothing, so sending events again is free.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet

from errata.store.v1.store_pb2 import BlockRecord
from errata.text import redact_event
from errata.v1.block_pb2 import BlockEvent
from learner_service.fold import fold
from learner_service.keys import BlockKey
from learner_service.store.store import Store
from learner_service.store.write_transaction import WriteTransaction

INLINE_BYTES_MAX = 64 * 1024
"""Events of more bytes together are redacted in a thread: the event loop serves everybody."""

Notify = Callable[[AbstractSet[BlockKey]], None]
"""Is told of each block that changed, once that is durable."""


class Recorder:
    """Records the events of requests and tells of the blocks that changed."""

    def __init__(self, store: Store, notify: Notify, *, redaction: bool = True) -> None:
        """Takes its parts.

        Args:
            store: gets the blocks.
            notify: is told of those that changed.
            redaction: False stores secrets as they come.
        """
        self._store = store
        self._notify = notify
        self._redaction = redaction

    async def record(self, events: Sequence[BlockEvent]) -> AbstractSet[BlockKey]:
        """Records events, all or none, and returns the blocks that changed once that is durable.

        Args:
            events: validated; secrets in them are redacted in place, unless redaction is off.

        Raises:
            StoreFullError: there is no room; nothing was recorded.
        """
        if self._redaction and sum(event.ByteSize() for event in events) > INLINE_BYTES_MAX:
            await asyncio.to_thread(_redact, events)
        elif self._redaction:
            _redact(events)
        changed = await self._store.write(lambda transaction: record_events(transaction, events))
        if changed:
            self._notify(changed)
        return changed


def record_events(transaction: WriteTransaction, events: Iterable[BlockEvent]) -> set[BlockKey]:
    """Folds events into the store within a transaction; returns the blocks that changed.

    Args:
        transaction: of the caller, who may store more in it, such as how far a log was read.
        events: validated and redacted.
    """
    folded: dict[BlockKey, BlockRecord] = {}
    changed: set[BlockKey] = set()
    for event in events:
        key = BlockKey(event.namespace, event.block_id)
        if key not in folded:
            folded[key] = transaction.block(key) or BlockRecord()
        after = fold(folded[key], event)
        if after is not None:
            folded[key] = after
            changed.add(key)
    # In the order of the events, so that a list by time shows blocks of one request in that order too.
    for key, record in folded.items():
        if key in changed:
            transaction.put_block(key, record)
    return changed


def _redact(events: Iterable[BlockEvent]) -> None:
    for event in events:
        redact_event(event)
