"""A change of embedders on a real store."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from errata.embedding import EmbedderRejectedError, EmbedderUnavailableError
from errata.serving.process import StartError
from errata.v1.learner_pb2 import (
    WATCH_RESET_REASON_EMBEDDER_CHANGED,
    ExampleUpdate,
    WatchUpdatesResponse,
)
from errata.v1.token_pb2 import StateToken
from learner_service.change_feed import ChangeFeed, EmbedderIdentity, WatchOptions
from learner_service.derive import EXAMPLE_BYTES_MAX, example_too_large
from learner_service.errors import EmbedderMismatchError, ReembeddingError, StoreFullError
from learner_service.forgetting import forget
from learner_service.reconciler import Reconciler
from learner_service.reembed import SCANNED_ROWS_MAX, Reembedding
from learner_service.start import adopt_embedder
from learner_service.store.store import Mutation, Store
from learner_service.store.write_transaction import WriteTransaction
from learner_service.tokens import state_token
from tests.block_events import correction
from tests.learner_service.conftest import GIB, ManualClock
from tests.learner_service.learning_parts import (
    DIMENSION,
    IDENTITY,
    FakeEmbedder,
    Parts,
    key_of,
    park,
    vector,
)
from tests.learner_service.samples import delete, example

OTHER = EmbedderIdentity(spec="other", fingerprint="other/8", dimension=DIMENSION)
OLD, NEW = IDENTITY.fingerprint, OTHER.fingerprint
IDS = ["a", "b", "c", "d", "e"]


class OtherEmbedder(FakeEmbedder):
    """Gives other vectors for the same texts."""

    async def documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return -await super().documents(texts)


class Sleeps:
    """Time that passes at once; each sleep is kept."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.then: Callable[[], object] = lambda: None

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.then()
        await asyncio.sleep(0)


class Change:
    """A start with another embedder on a store that holds examples."""

    def __init__(
        self, parts: Parts, identity: EmbedderIdentity = OTHER, embedder: FakeEmbedder | None = None
    ) -> None:
        self.parts = parts
        self.embedder = embedder if embedder is not None else OtherEmbedder()
        self.registry = CollectorRegistry()
        self.sleeps = Sleeps()
        self.reembedding = Reembedding(
            parts.store,
            embedder=self.embedder,
            identity=identity,
            registry=self.registry,
            batch_rows_max=2,
            sleep=self.sleeps,
        )
        self.feed = ChangeFeed(parts.store, identity, check_ready=self.reembedding.check)
        self.identity = identity

    async def begin(self) -> None:
        assert await adopt_embedder(self.parts.store, self.identity.fingerprint, reembed=True)
        self.reembedding.begin()

    async def run(self) -> None:
        await self.begin()
        await self.reembedding.run()

    @asynccontextmanager
    async def held_at(self, text: str) -> AsyncIterator[None]:
        """Embeds anew until the batch that holds a text, and goes on at the end of the block."""
        self.embedder.held.add(text)
        await self.begin()
        running = asyncio.create_task(self.reembedding.run())
        await self.embedder.waiting.wait()
        yield
        self.embedder.release()
        await running

    async def die_at(self, text: str) -> None:
        """Ends as a killed process does, before the batch that holds a text."""
        self.embedder.held.add(text)
        await self.begin()
        running = asyncio.create_task(self.reembedding.run())
        await self.embedder.waiting.wait()
        running.cancel()
        await asyncio.wait([running])

    def metric(self, name: str) -> float | None:
        return self.registry.get_sample_value(f"errata_reembedding_{name}")


@pytest.fixture
async def parts(store: Store, clock: ManualClock) -> Parts:
    """Five blocks that were learned from, in the order of `IDS`."""
    parts = Parts(store, clock)
    await adopt_embedder(store, OLD, reembed=False)
    for each in IDS:
        await parts.record(*correction(each, question(each), f"do {each}"))
        await parts.settle(each)
    return parts


@pytest.fixture
def change(parts: Parts) -> Change:
    return Change(parts)


def question(block_id: str) -> str:
    return f"how to {block_id}"


def vector_of(parts: Parts, block_id: str) -> NDArray[np.float32] | None:
    found = parts.example(block_id)
    return None if found is None else np.frombuffer(found.embedding, "<f4")


def assert_all_of(parts: Parts, fingerprint: str, ids: Sequence[str] = IDS) -> None:
    """Every vector in the store is that of its text by the embedder in use, and the store is sound."""
    sign = 1 if fingerprint == OLD else -1
    with parts.store.read() as transaction:
        assert (transaction.embedder_fingerprint, transaction.target_fingerprint) == (fingerprint, "")
        live = [ExampleUpdate.FromString(row.update).put for _, row in transaction.log_after(0) if row.live]
    assert sorted(each.id for each in live) == sorted(ids)
    for each in live:
        assert each.embedder_fingerprint == fingerprint
        assert np.array_equal(np.frombuffer(each.embedding, "<f4"), sign * vector(each.query_text))
    assert parts.store.check() == []


def options(*, token: bytes = b"", fingerprint: str = "") -> WatchOptions:
    return WatchOptions(
        watcher="test",
        resume_token=token,
        embedder_fingerprint=fingerprint,
        namespaces=frozenset(),
        bookmark_interval_s=60.0,
    )


async def messages(feed: ChangeFeed, count: int, **asked: Any) -> list[WatchUpdatesResponse]:
    async with aclosing(feed.watch(options(**asked))) as stream:
        return [WatchUpdatesResponse.FromString(await anext(stream)) for _ in range(count)]


# --- What it does.


async def test_every_example_gets_the_vector_of_the_other_embedder_and_keeps_all_else(
    parts: Parts, change: Change
) -> None:
    before = {each: parts.example(each) for each in IDS}
    await change.run()
    assert_all_of(parts, NEW)
    for each in IDS:
        was, now = before[each], parts.example(each)
        assert was is not None
        assert now is not None
        for field in ("embedding", "embedder_fingerprint", "modified_time"):
            was.ClearField(field)
            now.ClearField(field)
        assert now == was
    assert change.embedder.embedded == [question(each) for each in IDS]
    assert (change.metric("examples"), change.metric("done_examples")) == (5, 5)


async def test_revisions_go_on_in_the_order_that_there_was(parts: Parts, change: Change) -> None:
    await change.run()
    with parts.store.read() as transaction:
        assert [transaction.example_revision(key_of(each)) for each in IDS] == [6, 7, 8, 9, 10]
        assert transaction.head_revision == 10


async def test_deletions_stay(parts: Parts, change: Change) -> None:
    await parts.store.write(delete(key_of("b")))
    await change.run()
    assert_all_of(parts, NEW, ["a", "c", "d", "e"])
    with parts.store.read() as transaction:
        assert [revision for revision, row in transaction.log_after(0) if not row.live] == [6]


async def test_an_empty_store_changes_at_once(store: Store, clock: ManualClock) -> None:
    await adopt_embedder(store, OLD, reembed=False)
    parts = Parts(store, clock)
    await Change(parts).run()
    assert_all_of(parts, NEW, [])


async def test_without_a_change_nothing_is_done(parts: Parts, change: Change) -> None:
    await change.reembedding.run()
    change.reembedding.check()
    assert change.embedder.attempts == []
    assert parts.head == 5
    assert change.metric("examples") == 0


async def test_more_rows_than_one_read_looks_at_are_all_gone_through(
    store: Store, clock: ManualClock
) -> None:
    count = SCANNED_ROWS_MAX + 10

    def fill(transaction: WriteTransaction) -> None:
        for number in range(count):
            made = example(key_of(f"b{number}"), f"text {number}")
            made.embedder_fingerprint = NEW if number < count - 1 else OLD
            made.embedding = (-vector(made.query_text)).tobytes()
            transaction.put_example(made)

    await adopt_embedder(store, OLD, reembed=False)
    await store.write(fill)
    parts = Parts(store, clock)
    change = Change(parts)
    await change.run()
    assert_all_of(parts, NEW, [f"b{number}" for number in range(count)])
    assert change.embedder.embedded == [f"text {count - 1}"]


# --- While it runs.


async def test_while_it_runs_no_stream_is_served_and_progress_is_told(change: Change) -> None:
    async with change.held_at(question("c")):
        for fingerprint in ("", OLD, NEW):
            with pytest.raises(ReembeddingError) as caught:
                await messages(change.feed, 1, fingerprint=fingerprint)
            assert (caught.value.done_count, caught.value.total_count) == (2, 5)
        assert (change.metric("examples"), change.metric("done_examples")) == (5, 2)
        with change.parts.store.read() as transaction:
            assert (transaction.embedder_fingerprint, transaction.target_fingerprint) == (OLD, NEW)
    hello, batch = await messages(change.feed, 2)
    assert hello.hello.embedder_fingerprint == NEW
    assert batch.batch.bookmark.example_count == 5


async def test_no_stream_is_served_from_the_moment_it_has_begun(change: Change) -> None:
    await change.begin()
    with pytest.raises(ReembeddingError):
        change.reembedding.check()


async def test_streams_of_before_are_reset_and_those_of_the_old_embedder_refused(
    parts: Parts, change: Change
) -> None:
    _, batch = await messages(ChangeFeed(parts.store, IDENTITY), 2)
    await change.run()
    hello, reset, after = await messages(change.feed, 3, token=batch.batch.token)
    assert hello.hello.embedder == "other"
    assert reset.reset.reason == WATCH_RESET_REASON_EMBEDDER_CHANGED
    assert len(after.batch.updates) == 5
    with pytest.raises(EmbedderMismatchError) as caught:
        await messages(change.feed, 1, fingerprint=OLD)
    assert (caught.value.want, caught.value.got) == (OLD, NEW)


async def test_the_token_of_an_example_stays_good(parts: Parts, change: Change) -> None:
    with parts.store.read() as transaction:
        before = StateToken.FromString(state_token(transaction, 3))
    await change.run()
    with parts.store.read() as transaction:
        assert before.store_id == transaction.store_id
        assert before.epoch in [epoch.nonce for epoch in transaction.epochs()]
        assert before.revision <= transaction.head_revision


async def test_events_are_taken_and_wait(parts: Parts, change: Change) -> None:
    async with change.held_at(question("a")):
        await parts.record(*correction("f", "how to f", "do f"))
        await parts.record(*correction("a", "how to a", "do it better", at_s=10))
    assert [parts.pending(each) is not None for each in ("f", "a")] == [True, True]
    assert_all_of(parts, NEW)
    learner = Parts(parts.store, parts.clock, embedder=change.embedder)
    learner.reconciler = reconciler(change)
    await learner.reconcile("f", "a")
    assert (parts.answer("f"), parts.answer("a")) == ("do f", "do it better")
    assert_all_of(parts, NEW, [*IDS, "f"])


def reconciler(change: Change) -> Reconciler:
    return Reconciler(
        store=change.parts.store,
        embedder=OtherEmbedder(),
        identity=change.identity,
        policy=change.parts.policy,
    )


async def test_what_is_learned_or_forgotten_meanwhile_stays_so(parts: Parts, change: Change) -> None:
    async with change.held_at(question("a")):
        await parts.record(*correction("a", "how to a", "do it better", at_s=10))
        await reconciler(change).reconcile([key_of("a")])
        await parts.store.write(lambda transaction: forget(transaction, key_of("b")))
        head = parts.head
    assert parts.answer("a") == "do it better"
    assert parts.answer("b") is None
    assert_all_of(parts, NEW, ["a", "c", "d", "e"])
    # Neither got a revision more.
    assert parts.head == head + 3


# --- What fails.


async def test_a_text_that_is_refused_loses_its_example_alone_and_says_why(
    parts: Parts, change: Change
) -> None:
    change.embedder.errors[question("c")] = EmbedderRejectedError("too long for this model")
    with capture_logs() as said:
        await change.run()
    assert_all_of(parts, NEW, ["a", "b", "d", "e"])
    parked = parts.pending("c")
    assert parked is not None
    assert (parked.parked, parked.last_error) == (True, "too long for this model")
    _, batch = await messages(change.feed, 2)
    assert [update.put.id for update in batch.batch.updates] == ["a", "b", "d", "e"]
    assert change.metric("lost_examples_total") == 1
    assert [line["count"] for line in said if line["log_level"] == "warning"] == [1]


async def test_a_block_that_waits_keeps_its_turn_when_its_text_is_refused(
    parts: Parts, change: Change
) -> None:
    change.embedder.errors[question("c")] = EmbedderRejectedError("no")
    await parts.record(*correction("c", "how to do c", "do c", at_s=10))
    waiting = parts.pending("c")
    await change.run()
    assert parts.answer("c") is None
    assert parts.pending("c") == waiting


async def test_a_block_that_had_failed_keeps_its_example_with_a_new_vector(
    parts: Parts, change: Change
) -> None:
    await parts.store.write(park("c"))
    failed = parts.pending("c")
    await change.run()
    assert parts.pending("c") == failed
    assert_all_of(parts, NEW)


async def test_an_example_that_the_longer_vector_makes_too_large_is_lost(parts: Parts) -> None:
    large = parts.example("a")
    assert large is not None
    large.answer[0].contents += "x" * (EXAMPLE_BYTES_MAX - large.ByteSize() - 60)
    assert not example_too_large(large, DIMENSION)
    longer = EmbedderIdentity(spec="longer", fingerprint="longer/64", dimension=64)
    await parts.store.write(lambda transaction: transaction.put_example(large))
    await Change(parts, longer).run()
    assert parts.answer("a") is None
    parked = parts.pending("a")
    assert parked is not None
    assert "larger than 1,048,576 bytes" in parked.last_error


async def test_an_embedder_that_is_away_is_waited_for_longer_each_time(parts: Parts, change: Change) -> None:
    away = EmbedderUnavailableError("cannot be reached")
    change.embedder.errors.update({question("a"): away, question("c"): away})

    def come_back() -> None:
        if len(change.sleeps.seconds) in (8, 9):
            change.embedder.errors.popitem()

    change.sleeps.then = come_back
    with capture_logs() as said:
        await change.run()
    assert change.sleeps.seconds == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert_all_of(parts, NEW)
    waits = [line for line in said if line["log_level"] == "warning"]
    assert len(waits) == 9
    assert (waits[0]["reason"], waits[0]["done"], waits[0]["total"]) == ("cannot be reached", 0, 5)


class FullAtTimes(Store):
    """Has no room for every second write."""

    writes = 0

    async def write(self, mutation: Mutation[Any]) -> Any:
        self.writes += 1
        if self.writes % 2:
            raise StoreFullError("no room")
        return await super().write(mutation)


async def test_a_full_store_is_waited_for_and_nothing_is_embedded_twice(
    tmp_path: Path, clock: ManualClock
) -> None:
    with FullAtTimes.open(tmp_path / "store", clock_us=clock, bytes_max=GIB) as store:
        store.writes = 1
        await adopt_embedder(store, OLD, reembed=False)
        parts = Parts(store, clock)
        for each in IDS:
            store.writes = 1
            await parts.record(*correction(each, question(each), f"do {each}"))
            store.writes = 1
            await parts.settle(each)
        change = Change(parts)
        store.writes = 1
        await change.run()
        assert_all_of(parts, NEW)
        assert change.embedder.attempts == [question(each) for each in IDS]
        assert change.sleeps.seconds == [1] * 4


# --- Cut short.


async def test_a_change_that_was_killed_is_taken_up_where_it_was(parts: Parts, change: Change) -> None:
    await change.die_at(question("c"))
    again = Change(parts)
    await again.run()
    assert again.embedder.attempts == [question(each) for each in ("c", "d", "e")]
    assert_all_of(parts, NEW)
    assert again.metric("done_examples") == 5


async def test_a_change_that_was_killed_can_be_taken_back(parts: Parts, change: Change) -> None:
    before = vector_of(parts, "e")
    await change.die_at(question("c"))
    back = Change(parts, IDENTITY, FakeEmbedder())
    await back.run()
    assert back.embedder.attempts == [question(each) for each in ("a", "b")]
    assert_all_of(parts, OLD)
    assert np.array_equal(vector_of(parts, "e"), before)  # type: ignore[arg-type]  # None fails too


async def test_it_can_be_killed_again_and_again_and_turn_each_time(parts: Parts, change: Change) -> None:
    await change.die_at(question("e"))
    await Change(parts, IDENTITY, FakeEmbedder()).die_at(question("c"))
    again = Change(parts)
    await again.run()
    assert_all_of(parts, NEW)


async def test_streams_of_before_a_change_that_was_taken_back_go_on(parts: Parts, change: Change) -> None:
    _, batch = await messages(ChangeFeed(parts.store, IDENTITY), 2)
    await change.die_at(question("c"))
    back = Change(parts, IDENTITY, FakeEmbedder())
    await back.run()
    _, after = await messages(back.feed, 2, token=batch.batch.token)
    updates = after.batch.updates
    assert sorted(update.put.id for update in updates) == ["a", "b"]
    assert {update.put.embedder_fingerprint for update in updates} == {OLD}


# --- Which starts are allowed.


async def test_another_embedder_is_refused_with_the_way_out(parts: Parts) -> None:
    with pytest.raises(StartError) as caught:
        await adopt_embedder(parts.store, NEW, reembed=False)
    for said in (OLD, NEW, "--embedder", "--reembed"):
        assert said in str(caught.value)
    with parts.store.read() as transaction:
        assert (transaction.embedder_fingerprint, transaction.target_fingerprint) == (OLD, "")


async def test_the_target_is_noted_before_anything_else(parts: Parts) -> None:
    assert await adopt_embedder(parts.store, NEW, reembed=True)
    with parts.store.read() as transaction:
        assert (transaction.embedder_fingerprint, transaction.target_fingerprint) == (OLD, NEW)


@pytest.mark.parametrize(
    ("fingerprint", "reembed"), [(OLD, False), (NEW, False), ("third/8", False), ("third/8", True)]
)
async def test_while_a_change_is_under_way_only_a_start_that_ends_it_or_takes_it_back_is_allowed(
    parts: Parts,
    fingerprint: str,
    reembed: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    await adopt_embedder(parts.store, NEW, reembed=True)
    with pytest.raises(StartError) as caught:
        await adopt_embedder(parts.store, fingerprint, reembed=reembed)
    for said in (OLD, NEW, fingerprint, "--reembed", "--embedder"):
        assert said in str(caught.value)
    for allowed in (NEW, OLD, NEW):
        assert await adopt_embedder(parts.store, allowed, reembed=True)
    with parts.store.read() as transaction:
        assert (transaction.embedder_fingerprint, transaction.target_fingerprint) == (OLD, NEW)


async def test_after_a_change_the_embedder_is_as_any_other(parts: Parts, change: Change) -> None:
    await change.run()
    for reembed in (False, True):
        assert not await adopt_embedder(parts.store, NEW, reembed=reembed)
    with pytest.raises(StartError):
        await adopt_embedder(parts.store, OLD, reembed=False)


async def test_a_new_store_needs_no_change(store: Store) -> None:
    assert not await adopt_embedder(store, NEW, reembed=True)
    with store.read() as transaction:
        assert (transaction.embedder_fingerprint, transaction.target_fingerprint) == (NEW, "")
