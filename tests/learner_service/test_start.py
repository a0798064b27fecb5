import pytest
from structlog.testing import capture_logs

from errata.serving.process import StartError
from learner_service.derive import Policy
from learner_service.forgetting import forget
from learner_service.keys import BlockKey
from learner_service.start import NO_REDACTION_HASH, adopt_embedder, adopt_policy, adopt_redaction
from learner_service.store.store import Store
from tests.block_events import correction, ran
from tests.learner_service.backfilling import Filled
from tests.learner_service.conftest import ManualClock
from tests.learner_service.learning_parts import Parts, key_of


@pytest.fixture
def parts(store: Store, clock: ManualClock) -> Parts:
    return Parts(store, clock)


async def test_a_new_store_takes_the_embedder_that_it_is_started_with_and_no_other_later(
    store: Store,
) -> None:
    assert not await adopt_embedder(store, "hashing/h1/384/q1", reembed=False)
    assert not await adopt_embedder(store, "hashing/h1/384/q1", reembed=True)
    with pytest.raises(StartError) as caught:
        await adopt_embedder(store, "minilm/8199be6f/384/q1", reembed=False)
    message = str(caught.value)
    for said in ("hashing/h1/384/q1", "minilm/8199be6f/384/q1", "--embedder", "--reembed"):
        assert said in message
    with store.read() as transaction:
        assert transaction.embedder_fingerprint == "hashing/h1/384/q1"


async def test_redaction_that_is_off_is_warned_of_at_each_start(store: Store) -> None:
    for rules_hash, warned in ((b"one", False), (None, True), (None, True), (b"one", False)):
        with capture_logs() as said:
            await adopt_redaction(store, rules_hash)
        assert [line["log_level"] for line in said] == ["warning"] * warned
        with store.read() as transaction:
            assert transaction.redaction_hash == (rules_hash or NO_REDACTION_HASH)


async def test_a_start_under_the_same_policy_queues_nothing(parts: Parts) -> None:
    await adopt_policy(parts.store, Policy.CORRECTIONS)
    await parts.record(ran("b", "ls", asked="list files"))
    await parts.settle("b")
    await adopt_policy(parts.store, Policy.CORRECTIONS)
    assert parts.pending("b") is None


async def test_a_start_under_another_policy_begins_a_backfill_of_everything(
    parts: Parts, clock: ManualClock
) -> None:
    await adopt_policy(parts.store, Policy.CORRECTIONS)
    elsewhere = BlockKey("team-a", "b")
    await parts.record(
        ran("ran", "ls", asked="list files"),
        *correction("corrected", "show date", "date"),
        ran("b", "ls", asked="list files", namespace="team-a"),
        ran("forgotten", "ls", asked="list files"),
    )
    await parts.reconcile("ran", "corrected", elsewhere)
    await parts.store.write(lambda transaction: forget(transaction, key_of("forgotten")))
    assert (parts.answer("ran"), parts.answer("corrected")) == (None, "date")

    await adopt_policy(parts.store, Policy.EXECUTIONS)
    # A start that is cut short has begun it, and the next one goes on with it.
    await adopt_policy(parts.store, Policy.EXECUTIONS)
    assert parts.store.check() == []
    filled = Filled(parts.store, clock, policy=Policy.EXECUTIONS)
    (backfill_id,) = backfill_ids(parts.store)
    assert await filled.counts(backfill_id) == (4, 0, 0, 0)
    async with filled.running():
        await filled.ended(backfill_id)
    assert await filled.counts(backfill_id) == (4, 4, 2, 0)
    assert [filled.parts.answer(each) for each in ("ran", "corrected", elsewhere)] == ["ls", "date", "ls"]


async def test_a_new_store_and_one_of_the_same_policy_need_no_backfill(parts: Parts) -> None:
    for _ in range(2):
        await adopt_policy(parts.store, Policy.CORRECTIONS)
        await parts.record(ran("b", "ls", asked="list files"))
    assert backfill_ids(parts.store) == []


async def test_going_back_to_a_policy_begins_anew(parts: Parts, clock: ManualClock) -> None:
    policies = (Policy.CORRECTIONS, Policy.EXECUTIONS, Policy.CORRECTIONS, Policy.EXECUTIONS)
    await parts.record(ran("b", "ls", asked="list files"))
    for policy in policies:
        await adopt_policy(parts.store, policy)
    first, second = backfill_ids(parts.store)
    filled = Filled(parts.store, clock, policy=Policy.EXECUTIONS)
    async with filled.running():
        await filled.ended(first, second)
    assert filled.parts.answer("b") == "ls"
    assert await filled.counts(first) == await filled.counts(second) == (1, 1, 1, 0)


def backfill_ids(store: Store) -> list[str]:
    with store.read() as transaction:
        return [backfill_id for backfill_id, _ in transaction.backfills.all()]
