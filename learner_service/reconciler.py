"""Makes the example of a block what the block says it should be.

Level-triggered: it compares the example that a block *should* give with the one it has and makes them equal,
whatever happened in between. A result is stored only if its block is still the version that was read
(`modified_time`); otherwise it is dropped, and the block stays queued. What is as it should be costs no
embedding and no revision, and what keeps its question keeps its vector.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from errata.embedding import EmbedderError, EmbedderRejectedError
from errata.store.v1.store_pb2 import PendingRecord
from errata.v1.example_pb2 import Example
from errata.v1.learner_pb2 import (
    NOT_LEARNED_REASON_ERROR,
    NOT_LEARNED_REASON_TOO_LARGE,
    NOT_LEARNED_REASON_UNSPECIFIED,
    RECONCILE_OUTCOME_CREATED,
    RECONCILE_OUTCOME_DELETED,
    RECONCILE_OUTCOME_FAILED,
    RECONCILE_OUTCOME_NOT_LEARNED,
    RECONCILE_OUTCOME_UNCHANGED,
    RECONCILE_OUTCOME_UPDATED,
    NotLearnedReason,
    ReconcileOutcome,
)
from learner_service.backfill.rows import Reconciled
from learner_service.change_feed import EmbedderIdentity
from learner_service.derive import (
    EXAMPLE_BYTES_MAX,
    Candidate,
    Policy,
    build_example,
    derive,
    example_too_large,
    same_example,
    vector_reusable,
)
from learner_service.keys import BlockKey
from learner_service.store.read_transaction import ReadTransaction
from learner_service.store.store import Store
from learner_service.store.write_transaction import WriteTransaction
from learner_service.workqueue.lanes import Lane

BACKFILL_SHARE: Final = 1 / 8
"""Of the texts that are best embedded at once, how many of a backfill are: live work waits for them. With a
model on this machine it is two, some 10 ms; with a server that takes long whatever it is asked, more."""

_CHANGED: Final = frozenset({RECONCILE_OUTCOME_CREATED, RECONCILE_OUTCOME_UPDATED, RECONCILE_OUTCOME_DELETED})


class DocumentEmbedder(Protocol):
    """Turns texts into vectors, off the event loop."""

    @property
    def documents_max(self) -> int:
        """Texts that are best embedded at once."""

    async def documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One unit row a text.

        Raises:
            EmbedderRejectedError: a text is refused for good.
            EmbedderError: anything that may pass.
        """


@dataclass(frozen=True, slots=True)
class Settled:
    """The example of a block now is what the block says."""

    outcome: ReconcileOutcome.ValueType
    reason: NotLearnedReason.ValueType
    revision: int | None
    """Of the newest change of the example; None when there never was one, or its deletion is forgotten."""


@dataclass(frozen=True, slots=True)
class Superseded:
    """The block changed meanwhile: the result was dropped, the block waits for its next turn."""


@dataclass(frozen=True, slots=True)
class Deferred:
    """Something failed that may pass; nothing was stored, the block still waits."""

    error: EmbedderError


Result = Settled | Superseded | Deferred


@dataclass(slots=True)
class _Plan:
    """What is to be done about one block, from one read of it."""

    key: BlockKey
    modified_us: int
    wanted: Example | None = None
    """None when the block should have no example, or could not be given one."""
    reason: NotLearnedReason.ValueType = NOT_LEARNED_REASON_UNSPECIFIED
    already_so: bool = False
    """True when the stored example is the wanted one."""
    failure: str = ""
    """Why it failed for good, for people. The example that there was stays."""

    @property
    def lacks_vector(self) -> bool:
        """Whether something must be embedded before it can be carried out."""
        return self.wanted is not None and not self.wanted.embedding


class Reconciler:
    """See the module. Any number of calls at once, but never two for one block."""

    def __init__(
        self, *, store: Store, embedder: DocumentEmbedder, identity: EmbedderIdentity, policy: Policy
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._identity = identity
        self._policy = policy

    async def reconcile(self, keys: Sequence[BlockKey], lane: Lane = Lane.LIVE) -> Mapping[BlockKey, Result]:
        """Brings the examples of some blocks up to date, durably. Keys that name no block are left out.

        The write is one for all of them, and so is the embedding of live work; a backfill lets others in
        between.

        Raises:
            StoreFullError: there is no room; nothing changed.
        """
        plans, deferred = await self._embed(self._plan(keys), lane)
        if not plans:
            return deferred
        results = await self._store.write(lambda transaction: _carry_out(transaction, plans))
        return {**deferred, **results}

    def _plan(self, keys: Iterable[BlockKey]) -> list[_Plan]:
        with self._store.read() as transaction:
            return [plan for key in keys if (plan := self._plan_one(transaction, key)) is not None]

    def _plan_one(self, transaction: ReadTransaction, key: BlockKey) -> _Plan | None:
        record = transaction.block(key)
        if record is None:
            return None
        plan = _Plan(key, record.modified_time.ToMicroseconds())
        candidate = derive(record, self._policy)
        if not isinstance(candidate, Candidate):
            plan.reason = candidate
            return plan
        wanted = build_example(key, candidate, fingerprint=self._identity.fingerprint)
        if example_too_large(wanted, self._identity.dimension):
            plan.reason = NOT_LEARNED_REASON_TOO_LARGE
            plan.failure = f"the example would be larger than {EXAMPLE_BYTES_MAX:,} bytes"
            return plan
        plan.wanted = wanted
        stored = transaction.example(key)
        if stored is not None and stored.example is not None:
            plan.already_so = same_example(stored.example, wanted)
            if vector_reusable(stored.example, wanted):
                wanted.embedding = stored.example.embedding
        return plan

    async def _embed(self, plans: list[_Plan], lane: Lane) -> tuple[list[_Plan], dict[BlockKey, Result]]:
        """Gives every plan its vector; returns those that can be carried out, and those that must wait."""
        lacking = [plan for plan in plans if plan.lacks_vector]
        at_once = max(len(lacking), 1)
        if lane is Lane.BACKFILL:
            at_once = max(int(self._embedder.documents_max * BACKFILL_SHARE), 1)
        deferred: dict[BlockKey, Result] = {}
        try:
            for start in range(0, len(lacking), at_once):
                await self._embed_together(lacking[start : start + at_once])
        except EmbedderError:
            # One text may be what fails: alone, each gets what is its own.
            for plan in lacking:
                if plan.lacks_vector and (error := await self._embed_alone(plan)) is not None:
                    deferred[plan.key] = Deferred(error)
        return [plan for plan in plans if plan.key not in deferred], deferred

    async def _embed_together(self, plans: Sequence[_Plan]) -> None:
        if not plans:
            return
        wanted = [plan.wanted for plan in plans if plan.wanted is not None]
        vectors = await self._embedder.documents([example.query_text for example in wanted])
        for example, vector in zip(wanted, vectors, strict=True):
            example.embedding = vector.astype("<f4", copy=False).tobytes()

    async def _embed_alone(self, plan: _Plan) -> EmbedderError | None:
        try:
            await self._embed_together([plan])
        except EmbedderRejectedError as error:
            plan.wanted = None
            plan.reason = NOT_LEARNED_REASON_ERROR
            plan.failure = str(error)
        except EmbedderError as error:
            return error
        return None


def _carry_out(transaction: WriteTransaction, plans: Iterable[_Plan]) -> dict[BlockKey, Result]:
    results: dict[BlockKey, Result] = {}
    counted: list[Reconciled] = []
    for plan in plans:
        result = results[plan.key] = _carry_out_one(transaction, plan)
        if isinstance(result, Settled):
            failed = result.outcome == RECONCILE_OUTCOME_FAILED
            counted.append(Reconciled(plan.key, plan.modified_us, result.outcome in _CHANGED, failed))
    transaction.backfills.count(counted)
    return results


def _carry_out_one(transaction: WriteTransaction, plan: _Plan) -> Result:
    record = transaction.block(plan.key)
    if record is None or record.modified_time.ToMicroseconds() != plan.modified_us:
        return Superseded()
    if plan.failure:
        return _park(transaction, plan)
    transaction.delete_pending(plan.key)
    learned = transaction.is_learned(plan.key)
    if plan.wanted is None:
        transaction.delete_example(plan.key)
        outcome = RECONCILE_OUTCOME_DELETED if learned else RECONCILE_OUTCOME_NOT_LEARNED
    elif plan.already_so:
        outcome = RECONCILE_OUTCOME_UNCHANGED
    else:
        transaction.put_example(plan.wanted)
        outcome = RECONCILE_OUTCOME_UPDATED if learned else RECONCILE_OUTCOME_CREATED
    return Settled(outcome, plan.reason, transaction.example_revision(plan.key))


def _park(transaction: WriteTransaction, plan: _Plan) -> Settled:
    """Puts a block aside that failed for good, with the reason, until an event changes it."""
    parked = transaction.pending(plan.key) or PendingRecord()
    parked.failed_attempt_count += 1
    parked.last_error = plan.failure
    parked.parked = True
    parked.ClearField("retry_time")
    transaction.put_pending(plan.key, parked)
    return Settled(RECONCILE_OUTCOME_FAILED, plan.reason, transaction.example_revision(plan.key))
