import asyncio

import numpy as np
import pytest

from errata.embedding import EmbedderRejectedError, EmbedderUnavailableError
from errata.v1.example_pb2 import EXAMPLE_ORIGIN_CORRECTION
from errata.v1.learner_pb2 import (
    NOT_LEARNED_REASON_ERROR,
    NOT_LEARNED_REASON_FAILED,
    NOT_LEARNED_REASON_FORGOTTEN,
    NOT_LEARNED_REASON_NOT_EXECUTED,
    NOT_LEARNED_REASON_TOO_LARGE,
    NOT_LEARNED_REASON_UNSPECIFIED,
    RECONCILE_OUTCOME_CREATED,
    RECONCILE_OUTCOME_DELETED,
    RECONCILE_OUTCOME_FAILED,
    RECONCILE_OUTCOME_NOT_LEARNED,
    RECONCILE_OUTCOME_UNCHANGED,
    RECONCILE_OUTCOME_UPDATED,
)
from learner_service.derive import EXAMPLE_BYTES_MAX
from learner_service.forgetting import forget
from learner_service.keys import BlockKey
from learner_service.reconciler import Deferred, Settled, Superseded
from learner_service.store.store import Store
from learner_service.workqueue.lanes import Lane
from tests.block_events import correction, proposed, ran
from tests.learner_service.conftest import ManualClock
from tests.learner_service.learning_parts import IDENTITY, FakeEmbedder, Parts, key_of, vector

ASKED = "list files"


@pytest.fixture
def parts(store: Store, clock: ManualClock) -> Parts:
    return Parts(store, clock)


async def test_a_block_that_was_corrected_gives_an_example_with_the_vector_of_its_question(
    parts: Parts,
) -> None:
    await parts.record(*correction("b", ASKED, "ls -l", labels={"team": "infra"}))
    settled = await parts.settle("b")
    assert settled == Settled(RECONCILE_OUTCOME_CREATED, NOT_LEARNED_REASON_UNSPECIFIED, 1)
    example = parts.example("b")
    assert example is not None
    assert (example.id, example.query_text, example.answer[0].contents) == ("b", ASKED, "ls -l")
    assert (example.origin, dict(example.labels)) == (EXAMPLE_ORIGIN_CORRECTION, {"team": "infra"})
    assert example.embedder_fingerprint == IDENTITY.fingerprint
    assert np.frombuffer(example.embedding, "<f4").tolist() == vector(ASKED).tolist()
    assert parts.pending("b") is None
    assert parts.store.check() == []


@pytest.mark.parametrize(
    ("documents_max", "batch_sizes"),
    [(16, [2] * 8), (256, [16]), (1, [1] * 16)],  # a model on this machine, a server, one at a time
)
async def test_a_backfill_embeds_a_part_at_once_that_follows_the_embedder(
    store: Store, clock: ManualClock, documents_max: int, batch_sizes: list[int]
) -> None:
    parts = Parts(store, clock, embedder=FakeEmbedder(documents_max))
    for number in range(16):
        await parts.record(*correction(f"b{number}", f"{ASKED} {number}", "ls -l"))
    keys = [key_of(f"b{number}") for number in range(16)]
    await parts.reconciler.reconcile(keys, Lane.BACKFILL)
    assert parts.embedder.batch_sizes == batch_sizes
    assert all(parts.example(key.id) is not None for key in keys)


async def test_a_block_that_gives_no_example_says_why_and_takes_no_revision(parts: Parts) -> None:
    await parts.record(proposed("b", ASKED, "ls"))
    settled = await parts.settle("b")
    assert settled == Settled(RECONCILE_OUTCOME_NOT_LEARNED, NOT_LEARNED_REASON_NOT_EXECUTED, None)
    assert (parts.head, parts.embedder.attempts, parts.pending("b")) == (0, [], None)


async def test_a_block_that_has_not_changed_costs_no_embedding_and_no_revision(parts: Parts) -> None:
    await parts.record(*correction("b", ASKED, "ls -l"))
    await parts.settle("b")
    before = parts.example("b")
    for _ in range(3):
        settled = await parts.settle("b")
        assert settled == Settled(RECONCILE_OUTCOME_UNCHANGED, NOT_LEARNED_REASON_UNSPECIFIED, 1)
    assert (parts.head, parts.embedder.attempts) == (1, [ASKED])
    assert parts.example("b") == before


async def test_an_event_that_leaves_the_example_as_it_is_costs_neither(parts: Parts) -> None:
    await parts.record(*correction("b", ASKED, "ls -l", at_s=0))
    await parts.settle("b")
    await parts.record(ran("b", "rm", at_s=50, exit_code=1))
    assert parts.pending("b") is not None
    settled = await parts.settle("b")
    assert settled.outcome == RECONCILE_OUTCOME_UNCHANGED
    assert (parts.head, parts.embedder.attempts, parts.pending("b")) == (1, [ASKED], None)


async def test_another_answer_to_the_same_question_keeps_its_vector(parts: Parts) -> None:
    await parts.record(*correction("b", ASKED, "ls -l"))
    await parts.settle("b")
    before = parts.example("b")
    await parts.record(ran("b", "ls -lh", at_s=50))
    settled = await parts.settle("b")
    assert settled == Settled(RECONCILE_OUTCOME_UPDATED, NOT_LEARNED_REASON_UNSPECIFIED, 2)
    after = parts.example("b")
    assert before is not None
    assert after is not None
    assert (after.answer[0].contents, after.embedding) == ("ls -lh", before.embedding)
    assert parts.embedder.attempts == [ASKED]


async def test_another_question_is_embedded_anew(parts: Parts) -> None:
    await parts.record(*correction("b", ASKED, "ls -l"))
    await parts.settle("b")
    await parts.record(ran("b", "ls -l", at_s=50, asked="show sizes"))
    assert (await parts.settle("b")).outcome == RECONCILE_OUTCOME_UPDATED
    example = parts.example("b")
    assert example is not None
    assert np.frombuffer(example.embedding, "<f4").tolist() == vector("show sizes").tolist()
    assert parts.embedder.embedded == [ASKED, "show sizes"]


async def test_a_vector_of_another_embedder_is_never_kept(parts: Parts) -> None:
    await parts.record(*correction("b", ASKED, "ls -l"))
    await parts.settle("b")
    stored = parts.example("b")
    assert stored is not None
    stored.embedder_fingerprint = "other/8"
    await parts.store.write(lambda transaction: transaction.put_example(stored))
    assert (await parts.settle("b")).outcome == RECONCILE_OUTCOME_UPDATED
    assert parts.embedder.embedded == [ASKED, ASKED]


async def test_a_block_that_stops_qualifying_loses_its_example_and_regains_it_when_it_qualifies_again(
    parts: Parts,
) -> None:
    await parts.record(*correction("b", ASKED, "ls -l"))
    await parts.settle("b")
    await parts.record(ran("b", "ls -l", at_s=50, exit_code=2))
    assert await parts.settle("b") == Settled(RECONCILE_OUTCOME_DELETED, NOT_LEARNED_REASON_FAILED, 2)
    assert parts.example("b") is None
    # The second time there is nothing to delete, but a search may still wait for the deletion.
    assert await parts.settle("b") == Settled(RECONCILE_OUTCOME_NOT_LEARNED, NOT_LEARNED_REASON_FAILED, 2)
    await parts.record(ran("b", "ls -l", at_s=60, exit_code=0))
    assert await parts.settle("b") == Settled(RECONCILE_OUTCOME_CREATED, NOT_LEARNED_REASON_UNSPECIFIED, 3)
    assert parts.store.check() == []


async def test_the_result_for_a_block_that_changed_meanwhile_is_dropped_and_the_block_waits_on(
    parts: Parts,
) -> None:
    await parts.record(*correction("b", ASKED, "ls -l"), *correction("other", "show date", "date"))
    parts.embedder.held = {ASKED}
    reconciling = asyncio.create_task(parts.reconcile("b", "other"))
    await parts.embedder.waiting.wait()
    await parts.record(ran("b", "ls -lh", at_s=50))
    parts.embedder.release()
    results = await reconciling
    assert results[key_of("b")] == Superseded()
    assert isinstance(results[key_of("other")], Settled)
    assert parts.example("b") is None
    assert parts.pending("b") is not None
    await parts.settle("b")
    assert (parts.answer("b"), parts.pending("b")) == ("ls -lh", None)


async def test_a_block_that_is_forgotten_meanwhile_is_not_learned_after_all(parts: Parts) -> None:
    await parts.record(*correction("b", ASKED, "ls -l"))
    parts.embedder.held = {ASKED}
    reconciling = asyncio.create_task(parts.reconcile("b"))
    await parts.embedder.waiting.wait()
    await parts.store.write(lambda transaction: forget(transaction, key_of("b")))
    parts.embedder.release()
    assert (await reconciling)[key_of("b")] == Superseded()
    assert parts.example("b") is None
    settled = await parts.settle("b")
    assert settled == Settled(RECONCILE_OUTCOME_NOT_LEARNED, NOT_LEARNED_REASON_FORGOTTEN, None)
    assert parts.store.check() == []


async def test_a_text_that_is_refused_for_good_parks_its_block_and_keeps_the_old_example(
    parts: Parts,
) -> None:
    await parts.record(*correction("b", ASKED, "ls -l"))
    await parts.settle("b")
    parts.embedder.errors["poison"] = EmbedderRejectedError("too strange")
    await parts.record(ran("b", "ls -l", at_s=50, asked="poison"), *correction("good", "show date", "date"))
    results = await parts.reconcile("b", "good")
    assert results[key_of("b")] == Settled(RECONCILE_OUTCOME_FAILED, NOT_LEARNED_REASON_ERROR, 1)
    good = results[key_of("good")]
    assert isinstance(good, Settled)
    assert good.outcome == RECONCILE_OUTCOME_CREATED
    parked = parts.pending("b")
    assert parked is not None
    assert (parked.parked, parked.failed_attempt_count, parked.last_error) == (True, 1, "too strange")
    assert parts.answer("b") == "ls -l"
    example = parts.example("b")
    assert example is not None
    assert example.query_text == ASKED
    assert parts.store.check() == []


async def test_a_parked_block_comes_back_with_a_new_event(parts: Parts) -> None:
    parts.embedder.errors["poison"] = EmbedderRejectedError("too strange")
    await parts.record(*correction("b", "poison", "ls -l"))
    assert (await parts.settle("b")).outcome == RECONCILE_OUTCOME_FAILED
    await parts.record(ran("b", "ls -l", at_s=50, asked=ASKED))
    waiting = parts.pending("b")
    assert waiting is not None
    assert (waiting.parked, waiting.failed_attempt_count, waiting.last_error) == (False, 0, "")
    assert (await parts.settle("b")).outcome == RECONCILE_OUTCOME_CREATED
    assert parts.pending("b") is None
    assert parts.store.check() == []


async def test_what_may_pass_defers_a_block_and_stores_nothing(parts: Parts) -> None:
    parts.embedder.errors["later"] = error = EmbedderUnavailableError("no connection")
    await parts.record(*correction("b", "later", "ls -l"), *correction("good", "show date", "date"))
    before = parts.pending("b")
    results = await parts.reconcile("b", "good")
    assert results[key_of("b")] == Deferred(error)
    assert isinstance(results[key_of("good")], Settled)
    assert parts.pending("b") == before
    assert parts.example("b") is None
    parts.embedder.errors.clear()
    assert (await parts.settle("b")).outcome == RECONCILE_OUTCOME_CREATED


async def test_an_example_that_would_be_too_large_is_refused_before_it_is_embedded(parts: Parts) -> None:
    await parts.record(*correction("b", ASKED, "ls -l"))
    await parts.settle("b")
    await parts.record(ran("b", "x" * (EXAMPLE_BYTES_MAX - 100), at_s=50))
    assert await parts.settle("b") == Settled(RECONCILE_OUTCOME_FAILED, NOT_LEARNED_REASON_TOO_LARGE, 1)
    parked = parts.pending("b")
    assert parked is not None
    assert parked.parked
    assert "1,048,576" in parked.last_error
    assert (parts.answer("b"), parts.embedder.attempts) == ("ls -l", [ASKED])


async def test_many_blocks_are_embedded_together_and_become_durable_together(parts: Parts) -> None:
    events = [event for number in range(20) for event in correction(f"b{number}", f"do {number}", "ls")]
    await parts.record(*events)
    commits: list[int] = []
    parts.store.on_commit(lambda commit: commits.append(commit.head_revision))
    results = await parts.reconcile(*(f"b{number}" for number in range(20)))
    assert len(results) == 20
    assert commits == [20]
    assert parts.embedder.attempts == [f"do {number}" for number in range(20)]


async def test_blocks_of_the_same_id_in_two_namespaces_are_two(parts: Parts) -> None:
    await parts.record(*correction("b", ASKED, "ls -l"), *correction("b", ASKED, "dir", namespace="team-a"))
    other = BlockKey("team-a", "b")
    await parts.reconcile("b", other)
    assert (parts.answer("b"), parts.answer(other)) == ("ls -l", "dir")


async def test_a_key_without_a_block_is_left_out(parts: Parts) -> None:
    assert await parts.reconcile("nobody") == {}
    assert await parts.reconcile() == {}
