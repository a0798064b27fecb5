"""The functions under test, as a record: the real ones, unless a mutant replaces one."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from errata.v1.learner_pb2 import WatchResetReason
from learner_service import change_feed, reconciler, tokens
from learner_service.change_feed import ChangeFeed, Chunk, WatchOptions
from learner_service.reconciler import Result, _Plan
from learner_service.store.read_transaction import ReadTransaction
from learner_service.store.tables import Table
from learner_service.store.write_transaction import WriteTransaction
from learner_service.tokens import WatchPosition
from rag_service.mirror import Mirror
from rag_service.progress import Progress

ReadTables = Callable[[Mapping[str, Table], int], ReadTransaction]
WriteTables = Callable[[Mapping[str, Table], int, Callable[[], int]], WriteTransaction]
StartPosition = Callable[[ReadTransaction, Collection[str], str], WatchPosition]
ResetReason = Callable[
    [WatchPosition, ReadTransaction, Collection[str], str], "WatchResetReason.ValueType | None"
]


class Scan(Protocol):
    """See `learner_service.change_feed.scan`."""

    def __call__(
        self,
        transaction: ReadTransaction,
        position: WatchPosition,
        options: WatchOptions,
        *,
        scanned_rows_max: int,
        batch_bytes_max: int,
    ) -> Chunk: ...


def every_chunk(chunk_number: int) -> bool:
    """A position is checked again for every chunk of a stream."""
    del chunk_number
    return True


def one_state(begun: ReadTransaction, now: ReadTransaction) -> ReadTransaction:
    """A chunk is read from one state: that in which its read began, whatever is committed meanwhile."""
    del now
    return begun


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Everything that decides whether a promise holds."""

    read_transaction: ReadTables = ReadTransaction
    write_transaction: WriteTables = WriteTransaction
    start_position: StartPosition = tokens.start_position
    reset_reason: ResetReason = tokens.reset_reason
    is_checked: Callable[[int], bool] = every_chunk
    """Whether the position is checked for the chunk of a stream with this number, from 0."""
    chunk_state: Callable[[ReadTransaction, ReadTransaction], ReadTransaction] = one_state
    """What a chunk is read from: of the state when its read began, and that when it ends."""
    scan: Scan = change_feed.scan
    state_token: Callable[[ReadTransaction, int], bytes] = tokens.state_token
    carry_out: Callable[[WriteTransaction, _Plan], Result] = reconciler._carry_out_one
    feed: type[ChangeFeed] = ChangeFeed
    """Announces streams, and shares what it has read among them."""
    mirror: type[Mirror] = Mirror
    progress: type[Progress] = Progress


REAL = Rules()
