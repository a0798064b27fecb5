import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import pytest

from errata import digest
from errata.v1.learner_pb2 import (
    WATCH_RESET_REASON_EMBEDDER_CHANGED,
    WATCH_RESET_REASON_FILTER_CHANGED,
    WATCH_RESET_REASON_HISTORY_LOST,
    WATCH_RESET_REASON_STORE_CHANGED,
    ExampleUpdate,
    WatchBookmark,
    WatchUpdatesResponse,
)
from learner_service.change_feed import BATCH_BYTES_MAX, ChangeFeed, EmbedderIdentity, WatchOptions, _Watcher
from learner_service.errors import EmbedderMismatchError, TokenMalformedError
from learner_service.keys import BlockKey
from learner_service.store.store import Store
from learner_service.tokens import WatchPosition
from tests.learner_service.samples import FINGERPRINT, delete, put

IDENTITY = EmbedderIdentity(spec="hashing", fingerprint=FINGERPRINT, dimension=2)
A, B = BlockKey("", "a"), BlockKey("team", "b")


@pytest.fixture
async def feed(store: Store) -> ChangeFeed:
    made = ChangeFeed(store, IDENTITY, jitter=lambda: 0.0)
    made.follow_commits(asyncio.get_running_loop())
    return made


def options(
    *,
    token: bytes = b"",
    namespaces: frozenset[str] = frozenset(),
    interval_s: float = 60.0,
    fingerprint: str = "",
) -> WatchOptions:
    return WatchOptions(
        watcher="test",
        resume_token=token,
        embedder_fingerprint=fingerprint,
        namespaces=namespaces,
        bookmark_interval_s=interval_s,
    )


async def next_of(stream: AsyncIterator[bytes]) -> WatchUpdatesResponse:
    async with asyncio.timeout(10):
        return WatchUpdatesResponse.FromString(await anext(stream))


class Mirror:
    """What a client holds that follows a stream, checked at every bookmark."""

    def __init__(self) -> None:
        self.revisions: dict[BlockKey, int] = {}
        self.token = b""
        self.last_revision = 0

    def apply(self, update: ExampleUpdate) -> None:
        assert update.revision > self.last_revision
        self.last_revision = update.revision
        if update.HasField("put"):
            self.revisions[BlockKey(update.put.namespace, update.put.id)] = update.revision
        else:
            self.revisions.pop(BlockKey(update.deleted.namespace, update.deleted.id), None)

    def check(self, bookmark: WatchBookmark) -> None:
        total = 0
        for key, revision in self.revisions.items():
            total = digest.add(total, digest.row_hash(key.encode(), revision))
        assert bookmark.example_count == len(self.revisions)
        assert bookmark.digest == digest.encode(total)

    def take(self, message: WatchUpdatesResponse) -> bool:
        """Applies one message; True when it carried a bookmark."""
        match message.WhichOneof("message"):
            case "batch":
                for update in message.batch.updates:
                    self.apply(update)
                self.token = message.batch.token
                if not message.batch.HasField("bookmark"):
                    return False
                assert message.batch.bookmark.token == message.batch.token
                self.check(message.batch.bookmark)
                return True
            case "bookmark":
                self.token = message.bookmark.token
                self.check(message.bookmark)
                return True
            case "reset":
                self.__init__()  # type: ignore[misc]  # a reset is a new beginning
        return False


async def sync(stream: AsyncIterator[bytes], mirror: Mirror) -> None:
    while not mirror.take(await next_of(stream)):
        pass


async def test_an_empty_store_gives_a_hello_and_a_bookmark(feed: ChangeFeed, store: Store) -> None:
    async with aclosing(feed.watch(options())) as stream:
        hello = (await next_of(stream)).hello
        with store.read() as transaction:
            assert hello.store_id == transaction.store_id
        assert (hello.dimension, hello.embedder, hello.embedder_fingerprint) == (2, "hashing", FINGERPRINT)
        assert len(hello.epochs) == 1
        bookmark = (await next_of(stream)).bookmark
        assert (bookmark.revision, bookmark.example_count, bookmark.digest) == (0, 0, bytes(16))


async def test_a_batch_carries_the_bookmark_that_completes_it(feed: ChangeFeed, store: Store) -> None:
    for mutation in (put(A), put(B), delete(A), put(A, "again")):
        await store.write(mutation)
    mirror = Mirror()
    async with aclosing(feed.watch(options())) as stream:
        assert (await next_of(stream)).hello.example_count == 2
        message = await next_of(stream)
        assert [update.revision for update in message.batch.updates] == [2, 4]
        assert message.batch.bookmark.revision == 4
        mirror.take(message)
        await store.write(delete(B))
        await sync(stream, mirror)
    assert mirror.revisions == {A: 4}


async def test_a_resumed_stream_sends_only_what_was_missed(feed: ChangeFeed, store: Store) -> None:
    mirror = Mirror()
    for number in range(10):
        await store.write(put(BlockKey("", str(number))))
    async with aclosing(feed.watch(options())) as stream:
        await next_of(stream)
        await sync(stream, mirror)
    await store.write(delete(BlockKey("", "3")))
    await store.write(put(B))
    async with aclosing(feed.watch(options(token=mirror.token))) as stream:
        await next_of(stream)
        message = await next_of(stream)
        assert [update.revision for update in message.batch.updates] == [11, 12]
        mirror.take(message)
    assert len(mirror.revisions) == 10


async def test_batches_are_bounded_in_bytes_and_each_can_be_resumed_after(
    feed: ChangeFeed, store: Store
) -> None:
    for number in range(8):
        await store.write(put(BlockKey("", str(number)), padding_bytes=BATCH_BYTES_MAX // 3))
    mirror, batch_count = Mirror(), 0
    complete = False
    while not complete:
        # A new stream for each batch: what the token says is all that goes on.
        async with aclosing(feed.watch(options(token=mirror.token))) as stream:
            await next_of(stream)
            message = await next_of(stream)
            assert message.ByteSize() <= BATCH_BYTES_MAX + 4096
            complete = mirror.take(message)
            batch_count += 1
    assert batch_count == 4
    assert len(mirror.revisions) == 8


async def test_an_example_larger_than_a_batch_is_a_batch_of_its_own(feed: ChangeFeed, store: Store) -> None:
    await store.write(put(A))
    await store.write(put(B, padding_bytes=2 * BATCH_BYTES_MAX))
    async with aclosing(feed.watch(options())) as stream:
        await next_of(stream)
        mirror = Mirror()
        await sync(stream, mirror)
        assert mirror.revisions == {A: 1, B: 2}


async def test_a_stream_of_some_namespaces_has_its_own_count_and_digest(
    feed: ChangeFeed, store: Store
) -> None:
    for number in range(20):
        await store.write(put(BlockKey("", str(number))))
    await store.write(put(B))
    mirror = Mirror()
    async with aclosing(feed.watch(options(namespaces=frozenset({"team"})))) as stream:
        assert (await next_of(stream)).hello.example_count == 1
        await sync(stream, mirror)
        assert mirror.revisions == {B: 21}
        await store.write(put(A))
        await store.write(delete(B))
        message = await next_of(stream)
        # The commit outside of its namespaces has not woken it.
        assert [update.revision for update in message.batch.updates] == [23]
        mirror.take(message)
        assert mirror.revisions == {}


async def test_quiet_streams_get_bookmarks(feed: ChangeFeed) -> None:
    async with aclosing(feed.watch(options(interval_s=0.01))) as stream:
        kinds = [(await next_of(stream)).WhichOneof("message") for _ in range(4)]
    assert kinds == ["hello", "bookmark", "bookmark", "bookmark"]


async def test_the_bookmarks_of_streams_opened_at_once_are_spread(store: Store) -> None:
    jitters = iter((0.0, 1.0))
    feed = ChangeFeed(store, IDENTITY, jitter=lambda: next(jitters, 0.0))
    told = []

    async def follow(name: str, stream: AsyncIterator[bytes]) -> None:
        message = await next_of(stream)
        told.append((name, message.WhichOneof("message")))

    async with (
        aclosing(feed.watch(options(interval_s=2.0))) as first,
        aclosing(feed.watch(options(interval_s=2.0))) as second,
    ):
        for stream in (first, second):
            for _ in range(2):
                await next_of(stream)
        await asyncio.gather(follow("first", first), follow("second", second))
    # Four fifths of the interval have passed for the second when it has passed for the first.
    assert told == [("second", "bookmark"), ("first", "bookmark")]


async def test_watchers_at_one_place_receive_the_same_bytes(feed: ChangeFeed, store: Store) -> None:
    await store.write(put(A))
    async with aclosing(feed.watch(options())) as first, aclosing(feed.watch(options())) as second:
        for _ in range(2):
            await anext(first)
            await anext(second)
        await store.write(put(B))
        messages = await asyncio.gather(anext(first), anext(second))
        assert messages[0] is messages[1]


def changed(**changes: object) -> Callable[[bytes], bytes]:
    def apply(token: bytes) -> bytes:
        position = WatchPosition.decode(token)
        values = {field: getattr(position, field) for field in position.__dataclass_fields__}
        return WatchPosition(**{**values, **changes}).encode()

    return apply


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (changed(store_id=b"another store..."), WATCH_RESET_REASON_STORE_CHANGED),
        (changed(epoch=1), WATCH_RESET_REASON_HISTORY_LOST),
        (changed(horizon=1_000), WATCH_RESET_REASON_HISTORY_LOST),
        (changed(namespaces_hash=7), WATCH_RESET_REASON_FILTER_CHANGED),
        (changed(fingerprint_hash=7), WATCH_RESET_REASON_EMBEDDER_CHANGED),
    ],
)
async def test_a_token_that_cannot_go_on_gets_a_reset_with_its_reason_and_then_everything(
    feed: ChangeFeed, store: Store, change: Callable[[bytes], bytes], reason: int
) -> None:
    await store.write(put(A))
    mirror = Mirror()
    async with aclosing(feed.watch(options())) as stream:
        await next_of(stream)
        await sync(stream, mirror)
    async with aclosing(feed.watch(options(token=change(mirror.token)))) as stream:
        await next_of(stream)
        message = await next_of(stream)
        assert message.reset.reason == reason
        mirror.take(message)
        await sync(stream, mirror)
    assert mirror.revisions == {A: 1}


@pytest.mark.parametrize("token", [b"\xff", b"nonsense", b"\x08\x01"])
async def test_a_token_that_cannot_be_read_is_refused(feed: ChangeFeed, token: bytes) -> None:
    with pytest.raises(TokenMalformedError, match="resume_token"):
        await anext(feed.watch(options(token=token)))


async def test_another_embedder_is_refused_with_both_names(feed: ChangeFeed) -> None:
    with pytest.raises(EmbedderMismatchError) as caught:
        await anext(feed.watch(options(fingerprint="minilm/1")))
    assert (caught.value.want, caught.value.got) == ("minilm/1", FINGERPRINT)


async def test_draining_ends_every_stream_with_its_token(feed: ChangeFeed, store: Store) -> None:
    await store.write(put(A))
    mirror = Mirror()
    stream = feed.watch(options())
    await next_of(stream)
    await sync(stream, mirror)
    draining = asyncio.create_task(feed.drain())
    assert (await next_of(stream)).draining.token == mirror.token
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    await draining
    assert feed.watcher_count == 0


async def test_a_watcher_shows_with_its_lag(feed: ChangeFeed, store: Store) -> None:
    stream = feed.watch(options())
    await next_of(stream)
    await next_of(stream)
    await store.write(put(A))
    assert feed.lags() == [("test", 1)]
    await stream.aclose()
    assert feed.lags() == []


async def test_the_lags_can_be_asked_for_while_streams_open(feed: ChangeFeed) -> None:
    class OpensAnother(_Watcher):
        """As when the event loop opens a stream while a thread looks at this one."""

        @property
        def options(self) -> WatchOptions:
            feed._watchers.add(_Watcher(options()))
            return options()

        @options.setter
        def options(self, _: WatchOptions) -> None:
            pass

    feed._watchers.update(OpensAnother(options()) for _ in range(3))
    assert len(feed.lags()) == 3
    assert feed.watcher_count == 6
