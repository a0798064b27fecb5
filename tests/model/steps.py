"""What can happen within a transaction of the Learner: done by the real code, and told to the oracle."""

from collections.abc import Callable
from dataclasses import dataclass

from errata.store.v1.store_pb2 import BlockRecord
from errata.v1.example_pb2 import Example
from learner_service.forgetting import forget
from learner_service.keys import BlockKey
from learner_service.reconciler import Settled, Superseded, _Plan
from learner_service.store.read_transaction import ReadTransaction
from learner_service.store.write_transaction import WriteTransaction
from tests.model.memory_store import MutationFailedError
from tests.model.oracle import FORGET, Change, Event, TrueState
from tests.model.promises import promise
from tests.model.rules import Rules

Step = Callable[[WriteTransaction, TrueState], TrueState]
"""Changes a transaction, and returns what is true after it."""

_EMBEDDING = b"\0\0\x80\x3f\0\0\0\0"
_TEXT = "text"


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """What a worker wants to do about a block, from the event that it read."""

    plan: _Plan
    event: Event


def example(key: BlockKey, text: str) -> Example:
    """An example whose whole content is a text."""
    return Example(namespace=key.namespace, id=key.id, query_text=text, embedding=_EMBEDDING)


def put(key: BlockKey, text: str) -> Step:
    """Learns or changes an example."""

    def step(transaction: WriteTransaction, truth: TrueState) -> TrueState:
        return truth.changed(Change(transaction.put_example(example(key, text)), key, text))

    return step


def delete(key: BlockKey) -> Step:
    """Deletes an example, if there is one."""

    def step(transaction: WriteTransaction, truth: TrueState) -> TrueState:
        revision = transaction.delete_example(key)
        promise((revision is None) == (truth.text(key) is None), "what is not there is not deleted")
        return _deleted(truth, key, revision)

    return step


def fail(transaction: WriteTransaction, truth: TrueState) -> TrueState:
    """Gives the whole transaction up."""
    del transaction, truth
    raise MutationFailedError


def compact(*, deleted_before_us: int, kept_min: int, kept_max: int, dropped_max: int) -> Step:
    """Forgets deletions, which changes nothing of what is true."""

    def step(transaction: WriteTransaction, truth: TrueState) -> TrueState:
        transaction.compact(
            deleted_before_us=deleted_before_us,
            kept_min=kept_min,
            kept_max=kept_max,
            dropped_max=dropped_max,
        )
        return truth

    return step


def record(key: BlockKey, event: Event) -> Step:
    """Stores an event of a block, which is dropped when the block is forgotten."""

    def step(transaction: WriteTransaction, truth: TrueState) -> TrueState:
        block = transaction.block(key) or BlockRecord()
        promise(block.forgotten == (truth.events.get(key) is FORGET), "what is forgotten stays forgotten")
        if block.forgotten:
            return truth
        block.labels[_TEXT].value = event.text
        block.eval_mode = not event.teaches
        transaction.put_block(key, block)
        return truth.happened(key, event)

    return step


def forget_block(key: BlockKey) -> Step:
    """Forgets a block for good."""

    def step(transaction: WriteTransaction, truth: TrueState) -> TrueState:
        revision = forget(transaction, key)
        return _deleted(truth.happened(key, FORGET), key, revision)

    return step


def plan(transaction: ReadTransaction, truth: TrueState, key: BlockKey, *, fails: bool) -> Planned | None:
    """Reads a block, as the Reconciler does, and what is to be done about it; None when there is no block."""
    block = transaction.block(key)
    if block is None:
        return None
    planned = _Plan(key, block.modified_time.ToMicroseconds())
    if not block.forgotten and not block.eval_mode:
        planned.wanted = example(key, block.labels[_TEXT].value)
        stored = transaction.example(key)
        if stored is not None and stored.example is not None:
            planned.already_so = stored.example.query_text == planned.wanted.query_text
    if fails and planned.wanted is not None:
        planned.wanted, planned.failure = None, "the embedder refuses the text"
    return Planned(planned, truth.events[key])


def carry_out(planned: Planned, rules: Rules) -> Step:
    """Stores the result of a plan, unless the block has changed meanwhile."""

    def step(transaction: WriteTransaction, truth: TrueState) -> TrueState:
        work, event = planned.plan, planned.event
        newest = truth.events[work.key]
        result = rules.carry_out(transaction, work)
        waiting = transaction.pending(work.key)
        if newest is not event:
            promise(isinstance(result, Superseded), "no result is stored over a newer block")
            promise(
                (waiting is not None) == (newest is not FORGET), "a block that changed waits for its turn"
            )
            return truth
        promise(isinstance(result, Settled), "the result of the newest event is stored")
        assert isinstance(result, Settled)
        if work.failure:
            promise(waiting is not None and waiting.parked, "what failed for good is put aside")
            return truth
        promise(waiting is None, "what is done does not wait")
        if not event.teaches:
            return _deleted(truth, work.key, result.revision)
        if truth.text(work.key) == event.text:
            return truth
        promise(result.revision is not None, "an example has a revision")
        assert result.revision is not None
        return truth.changed(Change(result.revision, work.key, event.text))

    return step


def _deleted(truth: TrueState, key: BlockKey, revision: int | None) -> TrueState:
    """What is true when an example must not be there.

    Args:
        truth: before.
        key: of the example.
        revision: as the store says: of its deletion.
    """
    if truth.text(key) is None:
        return truth
    promise(revision is not None, "a deletion has a revision")
    assert revision is not None
    return truth.changed(Change(revision, key, None))
