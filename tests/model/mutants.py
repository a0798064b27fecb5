"""Rules with one fault each, all of which the model check must catch.

Each is the real function with one thought left out, so that it shows what that thought is for.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Final, Self, TypeAlias

from errata.store.v1.store_pb2 import BlockRecord
from errata.v1.learner_pb2 import WatchResetReason
from errata.v1.token_pb2 import StateToken
from learner_service import change_feed, reconciler, tokens
from learner_service.change_feed import Chunk, WatchOptions
from learner_service.keys import BlockKey
from learner_service.reconciler import Result, _Plan
from learner_service.store.read_transaction import ReadTransaction
from learner_service.store.rows import Epoch, LogRow, Tally
from learner_service.store.write_transaction import WriteTransaction
from learner_service.tokens import WatchPosition
from rag_service.mirror import Mirror
from rag_service.progress import Progress
from rag_service.read_your_writes import Epochs, Verdict
from tests.model.rules import REAL, Rules

_Reason: TypeAlias = WatchResetReason.ValueType | None


# --- Whether a stream may go on from a position.


def _no_horizon_check(
    position: WatchPosition, transaction: ReadTransaction, namespaces: Collection[str], fingerprint: str
) -> _Reason:
    return tokens.reset_reason(replace(position, horizon=0), transaction, namespaces, fingerprint)


def _cursor_for_horizon(
    position: WatchPosition, transaction: ReadTransaction, namespaces: Collection[str], fingerprint: str
) -> _Reason:
    changed = replace(position, horizon=position.cursor)
    return tokens.reset_reason(changed, transaction, namespaces, fingerprint)


def _no_epoch_check(
    position: WatchPosition, transaction: ReadTransaction, namespaces: Collection[str], fingerprint: str
) -> _Reason:
    changed = replace(position, epoch=next(transaction.durable_epochs()).nonce)
    return tokens.reset_reason(changed, transaction, namespaces, fingerprint)


def _off_by_one_at_compact_revision(
    position: WatchPosition, transaction: ReadTransaction, namespaces: Collection[str], fingerprint: str
) -> _Reason:
    changed = replace(position, cursor=position.cursor + 1)
    return tokens.reset_reason(changed, transaction, namespaces, fingerprint)


def _token_without_namespaces(
    position: WatchPosition, transaction: ReadTransaction, namespaces: Collection[str], fingerprint: str
) -> _Reason:
    changed = replace(position, namespaces_hash=tokens.namespaces_hash(namespaces))
    return tokens.reset_reason(changed, transaction, namespaces, fingerprint)


def _token_without_fingerprint(
    position: WatchPosition, transaction: ReadTransaction, namespaces: Collection[str], fingerprint: str
) -> _Reason:
    wanted = tokens.start_position(transaction, namespaces, fingerprint)
    changed = replace(position, fingerprint_hash=wanted.fingerprint_hash)
    return tokens.reset_reason(changed, transaction, namespaces, fingerprint)


def _at_the_opening(chunk_number: int) -> bool:
    return chunk_number == 0


# --- What a scan sends.


class _EagerPosition(WatchPosition):
    """Takes the head of every chunk for its base."""

    @classmethod
    def of(cls, position: WatchPosition) -> Self:
        fields = {name: getattr(position, name) for name in WatchPosition.__dataclass_fields__}
        return cls(**fields)

    def advanced(self, *, cursor: int, head: int, epoch: int) -> Self:
        return replace(super().advanced(cursor=cursor, head=head, epoch=epoch), base=head)


def _base_moves_with_each_chunk(
    transaction: ReadTransaction,
    position: WatchPosition,
    options: WatchOptions,
    *,
    scanned_rows_max: int,
    batch_bytes_max: int,
) -> Chunk:
    return change_feed.scan(
        transaction,
        _EagerPosition.of(position),
        options,
        scanned_rows_max=scanned_rows_max,
        batch_bytes_max=batch_bytes_max,
    )


class _UpTo(ReadTransaction):
    """A store whose log ends at a revision, or so it seems."""

    def __init__(self, transaction: ReadTransaction, end: int) -> None:
        super().__init__(transaction._tables, transaction._epoch_nonce)
        self._end = end

    @property
    def head_revision(self) -> int:
        return self._end

    def log_after(self, revision: int) -> Iterator[tuple[int, LogRow]]:
        return (row for row in super().log_after(revision) if row[0] <= self._end)

    def tally(self, namespaces: Collection[str] = ()) -> Tally:
        tally = Tally(0, 0)
        for revision, row in self.log_after(0):
            if row.live and (not namespaces or row.namespace.decode() in namespaces):
                tally = tally.with_row(row.key, revision)
        return tally


def _sync_to_the_head_at_its_start(
    transaction: ReadTransaction,
    position: WatchPosition,
    options: WatchOptions,
    *,
    scanned_rows_max: int,
    batch_bytes_max: int,
) -> Chunk:
    is_first_sync = position.cursor < position.base
    return change_feed.scan(
        _UpTo(transaction, position.base) if is_first_sync else transaction,
        position,
        options,
        scanned_rows_max=scanned_rows_max,
        batch_bytes_max=batch_bytes_max,
    )


def _inclusive_resume(
    transaction: ReadTransaction,
    position: WatchPosition,
    options: WatchOptions,
    *,
    scanned_rows_max: int,
    batch_bytes_max: int,
) -> Chunk:
    return change_feed.scan(
        transaction,
        replace(position, cursor=max(0, position.cursor - 1)),
        options,
        scanned_rows_max=scanned_rows_max,
        batch_bytes_max=batch_bytes_max,
    )


class _LaterHead(ReadTransaction):
    """Rows of one state; head, count and digest of a later one."""

    def __init__(self, rows: ReadTransaction, later: ReadTransaction) -> None:
        super().__init__(later._tables, later._epoch_nonce)
        self._rows = rows

    def log_after(self, revision: int) -> Iterator[tuple[int, LogRow]]:
        return self._rows.log_after(revision)


# --- What the store keeps.


class _WithoutTombstones(WriteTransaction):
    """Removes the row of what is deleted."""

    def delete_example(self, key: BlockKey) -> int | None:
        if not self.is_learned(key):
            return None
        revision = self._next_revision()
        self._supersede(key)
        self._tables["examples"].delete(key.encode())
        self.changed_namespaces.add(key.namespace)
        return revision


def _end_of_log(transaction: ReadTransaction) -> int:
    return next((revision for revision, _ in transaction.log_before()), 0)


class _ReadsHeadFromLog(ReadTransaction):
    @property
    def head_revision(self) -> int:
        return _end_of_log(self)


class _WritesHeadFromLog(WriteTransaction):
    @property
    def head_revision(self) -> int:
        return _end_of_log(self)


class _AnnouncesDurableEpochs(ReadTransaction):
    """Says nothing of the epoch to come."""

    def epochs(self) -> list[Epoch]:
        return list(self.durable_epochs())[::-1]


def _stored_over_a_newer_block(transaction: WriteTransaction, plan: _Plan) -> Result:
    block = transaction.block(plan.key) or BlockRecord()
    changed = replace(plan, modified_us=block.modified_time.ToMicroseconds())
    return reconciler._carry_out_one(transaction, changed)


# --- Read your writes.


def _token_of_the_head(transaction: ReadTransaction, revision: int) -> bytes:
    del revision
    return tokens.state_token(transaction, transaction.head_revision)


def _token_of_the_newest_epoch(transaction: ReadTransaction, revision: int) -> bytes:
    token = StateToken.FromString(tokens.state_token(transaction, revision))
    token.epoch = next(transaction.durable_epochs()).nonce
    return token.SerializeToString()


class _OwnFromHello(Progress):
    """Takes the history of a Hello for that of the state that is held."""

    def hello(self, store_id: bytes, epochs: Epochs) -> None:
        self._own = epochs
        super().hello(store_id, epochs)


class _RevisionsAlone(Progress):
    """Compares revisions and asks for no epoch."""

    def decide(self, token: StateToken) -> Verdict:
        is_there = token.store_id == self.store_id and token.revision <= self.applied_revision
        return Verdict.REACHED if is_there else Verdict.WAIT


# --- What a client keeps.


class _KeepsToken(Mirror):
    """Resumes after a Reset from where it stood, with nothing in its hands."""

    def reset(self) -> None:
        kept = self.resume_token
        super().reset()
        assert self._shadow is not None
        self._shadow.resume_token = kept


MUTANTS: Final[Mapping[str, Rules]] = {
    "no horizon check": replace(REAL, reset_reason=_no_horizon_check),
    "the cursor stands for the horizon": replace(REAL, reset_reason=_cursor_for_horizon),
    "no epoch check": replace(REAL, reset_reason=_no_epoch_check),
    "off by one at the compact revision": replace(REAL, reset_reason=_off_by_one_at_compact_revision),
    "compaction is checked only at the opening": replace(REAL, is_checked=_at_the_opening),
    "token without namespaces": replace(REAL, reset_reason=_token_without_namespaces),
    "token without fingerprint": replace(REAL, reset_reason=_token_without_fingerprint),
    "base moves with each chunk": replace(REAL, scan=_base_moves_with_each_chunk),
    "sync to the head at its start": replace(REAL, scan=_sync_to_the_head_at_its_start),
    "inclusive resume": replace(REAL, scan=_inclusive_resume),
    "bookmark from a later transaction": replace(REAL, chunk_state=_LaterHead),
    "no tombstone": replace(REAL, write_transaction=_WithoutTombstones),
    "revision from the end of the log": replace(
        REAL, read_transaction=_ReadsHeadFromLog, write_transaction=_WritesHeadFromLog
    ),
    "a result is stored over a newer block": replace(REAL, carry_out=_stored_over_a_newer_block),
    "the token names the head": replace(REAL, state_token=_token_of_the_head),
    "the token names the newest epoch": replace(REAL, state_token=_token_of_the_newest_epoch),
    "the epoch to come is not announced": replace(REAL, read_transaction=_AnnouncesDurableEpochs),
    "own is replaced at the Hello": replace(REAL, progress=_OwnFromHello),
    "revisions without epochs": replace(REAL, progress=_RevisionsAlone),
    "token is kept over a Reset": replace(REAL, mirror=_KeepsToken),
}
