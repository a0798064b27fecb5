"""What the subscriber makes of a stream, against a real server that says what the test tells it to."""

import asyncio

import numpy as np
import pytest

from errata.v1 import learner_pb2, rag_pb2
from rag_service.subscriber import UPDATES_PER_SLICE_MAX
from tests.rag_service.following import Builder, Following, following
from tests.rag_service.manual_clock import until
from tests.rag_service.scripted_learner import ToyEmbedder, ToyStore, reset

LIVE, STALE = rag_pb2.INDEX_STATE_LIVE, rag_pb2.INDEX_STATE_STALE
SYNCING, RESYNCING = rag_pb2.INDEX_STATE_SYNCING, rag_pb2.INDEX_STATE_RESYNCING

COMPACTED = learner_pb2.WATCH_RESET_REASON_COMPACTED
EMBEDDER_CHANGED = learner_pb2.WATCH_RESET_REASON_EMBEDDER_CHANGED


@pytest.fixture
def store() -> ToyStore:
    return ToyStore()


@pytest.fixture
def two() -> ToyStore:
    """A store with two examples."""
    store = ToyStore()
    store.put("a", "how to list files")
    store.put("b", "how to count lines")
    return store


def degraded(it: Following) -> bool:
    assert it.mirror.live is not None
    return it.mirror.degraded(it.mirror.live)


async def test_a_first_sync_of_no_examples_ends_at_the_first_bookmark(store: ToyStore) -> None:
    async with following() as it:
        stream = await it.stream()
        stream.send(store.hello())
        await until(lambda: it.progress.store_id == store.store_id)
        assert it.mirror.state == SYNCING
        assert not it.subscriber.synced.is_set()
        stream.send(store.bookmark())
        async with asyncio.timeout(5):
            await it.subscriber.synced.wait()
        assert it.mirror.state == LIVE
        assert it.ids == set()
        assert not degraded(it)


async def test_the_call_says_who_asks_and_what_for() -> None:
    async with following(namespaces=("", "team-a")) as it:
        request = (await it.stream()).request
        assert request.watcher == "test"
        assert request.resume_token == b""
        assert request.embedder_fingerprint == ""
        assert list(request.namespaces) == ["", "team-a"]
        assert request.bookmark_interval.ToTimedelta().total_seconds() == 1


async def test_a_first_sync_is_searchable_only_when_it_is_complete(two: ToyStore) -> None:
    async with following() as it:
        stream = await it.stream()
        stream.send(two.hello(), two.everything(bookmark=False))
        await until(lambda: it.mirror.resume_token == two.resume_token)
        assert it.mirror.live is None
        stream.send(two.bookmark())
        await it.reached(2)
        assert it.ids == {"a", "b"}


async def test_changes_and_deletions_are_seen_as_they_come(two: ToyStore) -> None:
    async with following() as it:
        stream = await it.synced(two)
        stream.send(two.batch(two.put("c", "how to sort")))
        await it.reached(3)
        assert it.ids == {"a", "b", "c"}
        stream.send(two.batch(two.delete("a")))
        await it.reached(4)
        assert it.ids == {"b", "c"}
        stream.send(two.batch(two.put("b", "how to count words")))
        await it.reached(5)
        assert it.ids == {"b", "c"}
        assert it.mirror.state == LIVE
        assert it.mirror.resync_count == 0


async def test_applied_moves_at_bookmarks_alone(two: ToyStore) -> None:
    async with following() as it:
        stream = await it.synced(two)
        stream.send(two.batch(two.put("c", "how to sort"), bookmark=False))
        await until(lambda: "c" in it.ids)
        assert it.progress.applied_revision == 2
        stream.send(two.bookmark())
        await it.reached(3)


async def test_a_large_batch_lets_others_run_in_between(store: ToyStore) -> None:
    async with following() as it:
        stream = await it.synced(store)
        live = it.mirror.live
        assert live is not None
        seen = set()
        count = UPDATES_PER_SLICE_MAX + 1
        stream.send(store.batch(*(store.put(f"e{n}", f"question {n}") for n in range(count))))
        async with asyncio.timeout(5):
            while it.progress.applied_revision < count:
                await asyncio.sleep(0)
                seen.add(live.index.count)
        assert seen > {0, count}


async def test_a_reset_is_received_aside_while_the_old_state_is_served(two: ToyStore) -> None:
    async with following() as it:
        stream = await it.synced(two)
        two.delete("a")
        two.put("c", "how to sort")
        stream.send(reset(COMPACTED), two.everything(bookmark=False))
        await until(lambda: it.mirror.resume_token == two.resume_token)
        assert it.mirror.state == RESYNCING
        assert it.ids == {"a", "b"}
        assert it.progress.applied_revision == 2
        assert degraded(it)
        stream.send(two.bookmark())
        await it.reached(4)
        assert it.ids == {"b", "c"}
        assert it.mirror.state == LIVE
        assert not degraded(it)
        assert it.mirror.resync_count == 1


async def test_a_second_reset_drops_the_shadow_of_the_first(two: ToyStore) -> None:
    async with following() as it:
        stream = await it.synced(two)
        stray = ToyStore()
        stray.put("stray", "from a history that is gone")
        stream.send(reset(COMPACTED), stray.everything(bookmark=False), reset(COMPACTED), two.everything())
        await until(lambda: it.mirror.resync_count == 1 and it.mirror.state == LIVE)
        assert it.ids == {"a", "b"}


async def test_a_cut_in_the_middle_of_a_resync_goes_on_with_the_shadow(two: ToyStore) -> None:
    async with following() as it:
        stream = await it.synced(two)
        first = two.put("c", "how to sort")
        stream.send(reset(COMPACTED), two.everything(bookmark=False))
        await until(lambda: it.mirror.state == RESYNCING and it.mirror.resume_token == two.resume_token)
        stream.end()
        stream = await it.stream()
        assert stream.request.resume_token == two.resume_token
        assert it.ids == {"a", "b"}
        stream.send(two.hello(), two.batch(two.put("d", "how to move")))
        await it.reached(first.revision + 1)
        assert it.ids == {"a", "b", "c", "d"}


@pytest.mark.parametrize(
    "lie",
    [{"digest": b"\0" * 16}, {"example_count": 3}, {"revision": 1}],
    ids=["digest", "count", "revision"],
)
async def test_a_bookmark_that_disagrees_makes_the_service_start_from_nothing(
    two: ToyStore, lie: dict[str, bytes | int]
) -> None:
    async with following() as it:
        stream = await it.synced(two)
        stream.send(two.bookmark(**lie))
        stream_after = await it.stream()
        async with asyncio.timeout(5):
            await stream.gone.wait()
        assert stream_after.request.resume_token == b""
        assert it.ids == {"a", "b"}
        assert it.progress.applied_revision == 2
        assert it.mirror.state == RESYNCING
        two.put("c", "how to sort")
        stream_after.send(two.hello(), two.everything())
        await it.reached(3)
        assert it.ids == {"a", "b", "c"}
        assert it.mirror.state == LIVE


async def test_a_shadow_that_disagrees_too_is_never_served(two: ToyStore) -> None:
    async with following() as it:
        stream = await it.synced(two)
        stream.send(two.bookmark(digest=b"\1" * 16))
        for _ in range(3):
            stream = await it.stream()
            stream.send(two.hello(), two.everything(bookmark=False), two.bookmark(digest=b"\1" * 16))
        stream = await it.stream()
        assert stream.request.resume_token == b""
        assert it.ids == {"a", "b"}
        assert it.mirror.state == RESYNCING
        assert it.mirror.resync_count == 1


async def test_a_first_sync_that_disagrees_is_begun_anew_and_not_served(two: ToyStore) -> None:
    async with following() as it:
        stream = await it.stream()
        stream.send(two.hello(), two.everything(bookmark=False), two.bookmark(example_count=1))
        stream = await it.stream()
        assert stream.request.resume_token == b""
        assert it.mirror.state == SYNCING
        assert not it.subscriber.synced.is_set()
        stream.send(two.hello(), two.everything())
        await it.reached(2)
        assert it.mirror.resync_count == 0


@pytest.mark.parametrize(
    "embedding",
    [
        b"",
        b"\0" * 32,
        np.full(8, np.nan, "<f4").tobytes(),
        np.full(8, 1.0, "<f4").tobytes(),
        np.full(4, 0.5, "<f4").tobytes(),
        b"abc",
    ],
    ids=["none", "zeros", "nan", "not unit length", "other dimension", "no floats"],
)
async def test_a_malformed_example_is_received_but_not_found_and_stops_nothing(
    two: ToyStore, embedding: bytes
) -> None:
    async with following() as it:
        stream = await it.synced(two)
        stream.send(two.batch(two.put("a", "how to list files", embedding=embedding)))
        await it.reached(3)
        assert it.mirror.live is not None
        assert it.ids == {"b"}
        assert it.mirror.live.index.quarantined_count == 1
        assert it.mirror.state == LIVE
        assert degraded(it)
        stream.send(two.batch(two.put("a", "how to list all files")))
        await it.reached(4)
        assert it.ids == {"a", "b"}
        assert it.mirror.live.index.quarantined_count == 0
        assert not degraded(it)


async def test_another_embedder_serves_from_the_moment_its_examples_do(two: ToyStore) -> None:
    old, new = ToyEmbedder("toy/8"), ToyEmbedder("toy/16", 16)
    builder = Builder(toy=old, toy16=new)
    async with following(build=builder) as it:
        stream = await it.synced(two)
        stream.end()
        anew = ToyStore(embedder=new, spec="toy16")
        anew.put("a", "how to list files")
        stream = await it.stream()
        assert stream.request.resume_token == two.resume_token
        stream.send(anew.hello(), reset(EMBEDDER_CHANGED), anew.everything(bookmark=False))
        await until(lambda: it.mirror.resume_token == anew.resume_token)
        assert it.mirror.live is not None
        assert it.mirror.live.source.embedder is old
        assert not old.closed
        stream.send(anew.bookmark())
        await until(lambda: it.ids == {"a"})
        assert it.mirror.live.source.embedder is new
        await until(lambda: old.closed)
        assert not new.closed


async def test_an_embedder_is_built_once_for_all_streams(two: ToyStore) -> None:
    builder = Builder()
    async with following(build=builder) as it:
        stream = await it.synced(two)
        for _ in range(3):
            stream.end()
            stream = await it.stream()
            stream.send(two.hello(), two.bookmark())
            stream.send(two.batch(two.put("a", f"question {two.head}")))
            await it.reached(two.head)
        assert builder.built == ["toy"]


@pytest.mark.parametrize("change", ["store", "embedder"])
async def test_a_stream_that_goes_on_from_another_state_without_a_reset_is_not_believed(
    two: ToyStore, change: str
) -> None:
    other = ToyEmbedder("toy/other")
    async with following(build=Builder(toy=ToyEmbedder(), other=other)) as it:
        stream = await it.synced(two)
        stream.end()
        stream = await it.stream()
        changed = (
            ToyStore(store_id=b"store-2") if change == "store" else ToyStore(embedder=other, spec="other")
        )
        changed.head = 2
        stream.send(changed.hello(), changed.batch(changed.put("c", "how to sort")))
        stream = await it.stream()
        assert stream.request.resume_token == b""
        assert it.ids == {"a", "b"}


async def test_what_comes_before_the_hello_is_not_believed(two: ToyStore) -> None:
    async with following() as it:
        (await it.stream()).send(two.everything())
        stream = await it.synced(two)
        assert it.mirror.resync_count == 0
        stream.end()
        (await it.stream()).send(two.batch(two.put("c", "how to sort")))
        stream = await it.stream()
        assert stream.request.resume_token == b""
        assert it.ids == {"a", "b"}


async def test_an_update_out_of_order_is_not_believed(two: ToyStore) -> None:
    async with following() as it:
        stream = await it.synced(two)
        _, old = two.rows[b"\0a"]
        stream.send(two.batch(old))
        stream = await it.stream()
        assert stream.request.resume_token == b""
        assert it.ids == {"a", "b"}
