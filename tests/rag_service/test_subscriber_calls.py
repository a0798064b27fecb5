"""When the subscriber gives up a call, when it calls again, and with which token."""

import asyncio
from functools import partial

import grpc
import pytest

from errata.v1 import learner_pb2, rag_pb2
from rag_service.mirror import SILENCE_S_MAX
from rag_service.read_your_writes import Verdict, decode, token_for
from rag_service.reconnect import DELAY_S_MAX, DELAY_S_MIN, FIRST_DELAY_S_MAX, REFUSED_DELAY_S_MAX, Reconnect
from tests.rag_service.following import Builder, Following, following
from tests.rag_service.manual_clock import until
from tests.rag_service.scripted_learner import ToyEmbedder, ToyStore, draining

LIVE, STALE = rag_pb2.INDEX_STATE_LIVE, rag_pb2.INDEX_STATE_STALE


@pytest.fixture
def store() -> ToyStore:
    store = ToyStore()
    store.put("a", "how to list files")
    store.put("b", "how to count lines")
    return store


def high(_: float, high_s: float) -> float:
    """Randomness that waits as long as it may."""
    return high_s


async def delay_s(it: Following) -> float:
    """The delay that the subscriber is in; that of its watch over silence does not count."""
    await until(lambda: any(sleep_s != SILENCE_S_MAX for sleep_s in it.clock.sleeps_s()))
    (found_s,) = (sleep_s for sleep_s in it.clock.sleeps_s() if sleep_s != SILENCE_S_MAX)
    return found_s


async def test_draining_is_followed_by_a_call_with_the_token_it_gave(store: ToyStore) -> None:
    async with following() as it:
        stream = await it.synced(store)
        stream.send(draining(b"resumes here"))
        again = await it.stream()
        assert again.request.resume_token == b"resumes here"
        assert it.ids == {"a", "b"}
        async with asyncio.timeout(5):
            await stream.gone.wait()


async def test_draining_before_a_reset_keeps_the_state_and_its_token(store: ToyStore) -> None:
    async with following() as it:
        stream = await it.synced(store)
        stream.end()
        stream = await it.stream()
        other = ToyStore(store_id=b"store-2")
        stream.send(other.hello(), draining(stream.request.resume_token))
        stream = await it.stream()
        assert stream.request.resume_token == store.resume_token
        assert it.mirror.resync_count == 0


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        None,
    ],
    ids=str,
)
async def test_a_stream_that_breaks_is_resumed_where_it_was(
    store: ToyStore, code: grpc.StatusCode | None
) -> None:
    async with following() as it:
        stream = await it.synced(store)
        stream.send(store.batch(store.put("c", "how to sort"), bookmark=False))
        await until(lambda: "c" in it.ids)
        if code is None:
            stream.end()
        else:
            stream.abort(code)
        stream = await it.stream()
        assert stream.request.resume_token == store.resume_token
        stream.send(store.hello(), store.batch(store.delete("a")))
        await it.reached(4)
        assert it.ids == {"b", "c"}
        assert it.mirror.resync_count == 0
        assert it.subscriber.reconnect_count == 1


async def test_a_learner_that_went_away_is_found_again(store: ToyStore) -> None:
    async with following() as it:
        await it.synced(store)
        await it.learner.stop()
        await until(lambda: it.subscriber.reconnect_count > 1)
        assert it.ids == {"a", "b"}
        await it.learner.start()
        stream = await it.stream()
        assert stream.request.resume_token == store.resume_token
        stream.send(store.hello(), store.batch(store.put("c", "how to sort")))
        await it.reached(3)


async def test_a_silent_stream_is_given_up_and_resumed(store: ToyStore) -> None:
    async with following() as it:
        stream = await it.synced(store)
        await until(lambda: SILENCE_S_MAX in it.clock.sleeps_s())
        it.clock.advance(SILENCE_S_MAX - 0.1)
        assert it.mirror.state == LIVE
        it.clock.advance(0.2)
        assert it.mirror.state == STALE
        async with asyncio.timeout(5):
            await stream.gone.wait()
        stream = await it.stream()
        assert stream.request.resume_token == store.resume_token
        assert it.ids == {"a", "b"}
        assert it.mirror.live is not None
        assert it.mirror.degraded(it.mirror.live)
        stream.send(store.hello())
        await until(lambda: it.mirror.state == LIVE)
        assert it.mirror.degraded(it.mirror.live)
        stream.send(store.bookmark())
        await until(lambda: it.mirror.live and not it.mirror.degraded(it.mirror.live))


async def test_any_message_ends_the_silence(store: ToyStore) -> None:
    async with following() as it:
        stream = await it.synced(store)
        for _ in range(4):
            await until(it.clock.sleeps_s)
            it.clock.advance(SILENCE_S_MAX - 1)
            stream.send(store.batch(store.put("a", "how to list files")))
            await it.reached(store.head)
        assert it.mirror.state == LIVE
        assert it.subscriber.reconnect_count == 0
        assert not stream.gone.is_set()


async def test_a_learner_that_does_not_even_say_hello_is_given_up() -> None:
    async with following() as it:
        stream = await it.stream()
        await until(lambda: SILENCE_S_MAX in it.clock.sleeps_s())
        it.clock.advance(SILENCE_S_MAX)
        async with asyncio.timeout(5):
            await stream.gone.wait()
        await it.stream()


async def test_work_of_our_own_is_not_taken_for_silence(store: ToyStore) -> None:
    building, may_build = asyncio.Event(), asyncio.Event()

    async def build(_: str, __: object) -> ToyEmbedder:
        building.set()
        await may_build.wait()
        return ToyEmbedder()

    async with following(build=build) as it:
        stream = await it.stream()
        stream.send(store.hello(), store.everything())
        await building.wait()
        for _ in range(4):
            # The watch over silence has looked, and goes to sleep again.
            slept_before = it.clock.sleep_count
            it.clock.advance(SILENCE_S_MAX)
            await until(partial(it.clock.slept_since, slept_before))
        may_build.set()
        await it.reached(2)
        assert not stream.gone.is_set()


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    ],
    ids=str,
)
async def test_a_refusal_leaves_the_last_good_state_and_is_tried_again_slowly(
    store: ToyStore, code: grpc.StatusCode
) -> None:
    async with following(uniform=high) as it:
        stream = await it.synced(store)
        stream.abort(code)
        assert await delay_s(it) == REFUSED_DELAY_S_MAX
        assert it.ids == {"a", "b"}
        it.clock.advance(REFUSED_DELAY_S_MAX)
        assert it.mirror.state == STALE
        stream = await it.stream()
        assert stream.request.resume_token == store.resume_token
        stream.send(store.hello(), store.bookmark())
        await until(lambda: it.mirror.state == LIVE)


async def test_a_token_that_the_learner_cannot_read_is_dropped_with_its_state(store: ToyStore) -> None:
    async with following(uniform=high) as it:
        stream = await it.synced(store)
        stream.abort(grpc.StatusCode.INVALID_ARGUMENT)
        # That call had no token: this is a refusal, and nothing is dropped.
        assert await delay_s(it) == REFUSED_DELAY_S_MAX
        it.clock.advance(REFUSED_DELAY_S_MAX)
        stream = await it.stream()
        assert stream.request.resume_token == store.resume_token
        stream.abort(grpc.StatusCode.INVALID_ARGUMENT)
        assert await delay_s(it) == DELAY_S_MIN
        it.clock.advance(DELAY_S_MIN)
        stream = await it.stream()
        assert stream.request.resume_token == b""
        assert it.ids == {"a", "b"}
        stream.send(store.hello(), store.everything())
        await until(lambda: not it.mirror.rebuilding)


async def test_with_a_flag_the_learner_is_told_which_embeddings_are_wanted(store: ToyStore) -> None:
    async with following(fixed_spec="toy") as it:
        stream = await it.synced(store)
        assert stream.request.embedder_fingerprint == "toy/8"


async def test_a_hello_of_other_embeddings_than_the_flag_names_is_a_refusal(store: ToyStore) -> None:
    other = ToyStore(embedder=ToyEmbedder("toy/other"), spec="other")
    builder = Builder(toy=store.embedder, other=other.embedder)
    async with following(uniform=high, build=builder, fixed_spec="toy") as it:
        stream = await it.synced(store)
        stream.end()
        assert await delay_s(it) == DELAY_S_MIN
        it.clock.advance(DELAY_S_MIN)
        stream = await it.stream()
        stream.send(other.hello(), other.everything())
        assert await delay_s(it) == REFUSED_DELAY_S_MAX
        assert it.ids == {"a", "b"}
        assert it.progress.store_id == store.store_id
        it.clock.advance(REFUSED_DELAY_S_MAX)
        assert it.mirror.state == STALE
        assert (await it.stream()).request.resume_token == store.resume_token


@pytest.mark.parametrize(
    "hello",
    [
        {"embedder": "unheard-of", "embedder_fingerprint": "unheard-of/1"},
        {"embedder_fingerprint": "toy/9"},
        {"dimension": 16},
    ],
    ids=["cannot be built", "another version of it", "another dimension"],
)
async def test_an_embedder_that_does_not_fit_the_hello_is_a_refusal(
    store: ToyStore, hello: dict[str, str | int]
) -> None:
    async with following(uniform=high) as it:
        stream = await it.stream()
        stream.send(store.hello(**hello))
        assert await delay_s(it) == REFUSED_DELAY_S_MAX
        it.clock.advance(REFUSED_DELAY_S_MAX)
        await it.synced(store)
        assert it.ids == {"a", "b"}


async def test_a_flag_whose_embedder_cannot_be_built_is_tried_again(store: ToyStore) -> None:
    builder = Builder()
    toy = builder.known.pop("toy")
    async with following(uniform=high, build=builder, fixed_spec="toy") as it:
        assert await delay_s(it) == REFUSED_DELAY_S_MAX
        builder.known["toy"] = toy
        it.clock.advance(REFUSED_DELAY_S_MAX)
        await it.synced(store)
        assert builder.built == ["toy", "toy"]


async def test_bytes_that_are_no_message_are_not_believed(store: ToyStore) -> None:
    async with following() as it:
        stream = await it.synced(store)
        stream.send(b"\xff\xff\xff")
        stream = await it.stream()
        assert stream.request.resume_token == b""
        assert it.ids == {"a", "b"}


async def test_a_message_of_a_newer_contract_is_passed_over(store: ToyStore) -> None:
    async with following() as it:
        stream = await it.synced(store)
        stream.send(learner_pb2.WatchUpdatesResponse(), store.batch(store.put("c", "how to sort")))
        await it.reached(3)
        assert it.subscriber.reconnect_count == 0


async def test_ending_the_subscriber_ends_the_call(store: ToyStore) -> None:
    async with following() as it:
        stream = await it.synced(store)
        it.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await it.task
        async with asyncio.timeout(5):
            await stream.gone.wait()


async def test_a_stream_that_had_lived_is_followed_by_another_almost_at_once(store: ToyStore) -> None:
    async with following(uniform=high) as it:
        stream = await it.synced(store)
        for _ in range(2):
            await until(it.clock.sleeps_s)
            it.clock.advance(5)
            stream.send(store.batch(store.put("a", "how to list files")))
            await it.reached(store.head)
        stream.end()
        assert await delay_s(it) == FIRST_DELAY_S_MAX


async def test_streams_that_do_not_live_are_called_ever_more_slowly(store: ToyStore) -> None:
    async with following(uniform=high) as it:
        for expected_s in (0.8, 1.6, 3.2):
            stream = await it.stream()
            stream.send(store.hello())
            stream.abort(grpc.StatusCode.UNAVAILABLE)
            assert await delay_s(it) == expected_s
            it.clock.advance(expected_s)


async def broken_off_after_waiting_long(it: Following, store: ToyStore) -> None:
    """The subscriber is in a delay of more than any caller waits."""
    for expected_s in (0.8, 1.6, 3.2, 6.4):
        stream = await it.stream()
        stream.send(store.hello())
        stream.abort(grpc.StatusCode.UNAVAILABLE)
        assert await delay_s(it) == expected_s
        if expected_s < 6.4:
            it.clock.advance(expected_s)


async def test_a_caller_that_waits_for_its_write_ends_a_long_delay(store: ToyStore) -> None:
    async with following(uniform=high) as it:
        await broken_off_after_waiting_long(it, store)
        token = token_for(store.head, store.history, store.store_id)
        waiting = asyncio.create_task(it.progress.wait_for(decode(token), 2.0))
        await until(lambda: DELAY_S_MIN in it.clock.sleeps_s())
        it.clock.advance(DELAY_S_MIN)
        stream = await it.stream()
        stream.send(store.hello(), store.everything())
        assert await waiting is Verdict.REACHED


async def test_a_delay_is_not_ended_by_a_caller_that_waits_no_more(store: ToyStore) -> None:
    async with following(uniform=high) as it:
        await broken_off_after_waiting_long(it, store)
        token = token_for(store.head, store.history, store.store_id)
        assert await it.progress.wait_for(decode(token), 0.0) is Verdict.WAIT
        await asyncio.sleep(0)
        assert await delay_s(it) == 6.4


async def test_a_refusal_is_tried_again_slowly_whoever_waits(store: ToyStore) -> None:
    async with following(uniform=high) as it:
        stream = await it.synced(store)
        stream.abort(grpc.StatusCode.PERMISSION_DENIED)
        assert await delay_s(it) == REFUSED_DELAY_S_MAX
        token = token_for(store.head + 1, store.history, store.store_id)
        waiting = asyncio.create_task(it.progress.wait_for(decode(token), 2.0))
        await until(lambda: 2.0 in it.clock.sleeps_s())
        await asyncio.sleep(0.01)
        assert sorted(it.clock.sleeps_s()) == [2.0, REFUSED_DELAY_S_MAX]
        it.clock.advance(2.0)
        assert await waiting is Verdict.WAIT


async def test_a_shadow_that_disagrees_backs_off_however_long_it_took(store: ToyStore) -> None:
    async with following(uniform=high) as it:
        stream = await it.synced(store)
        delays = []
        for _ in range(3):
            await until(lambda: it.clock.sleeps_s() == [SILENCE_S_MAX])
            it.clock.advance(12)
            stream.send(store.bookmark(digest=b"\1" * 16))
            delays.append(await delay_s(it))
            it.clock.advance(delays[-1])
            stream = await it.stream()
            stream.send(store.hello(), store.everything(bookmark=False))
            await until(lambda: it.mirror.resume_token == store.resume_token)
        assert delays == [FIRST_DELAY_S_MAX, DELAY_S_MIN, 2 * DELAY_S_MIN]


def test_delays_double_up_to_their_bound_and_begin_anew_after_a_good_stream() -> None:
    reconnect = Reconnect(uniform=high)
    delays = [reconnect.delay_s(lived_s=0) for _ in range(8)]
    assert delays == [0.8, 1.6, 3.2, 6.4, 12.8, 25.6, DELAY_S_MAX, DELAY_S_MAX]
    assert reconnect.delay_s(lived_s=10) == FIRST_DELAY_S_MAX
    assert reconnect.delay_s(lived_s=9.9) == DELAY_S_MIN


def test_delays_are_spread_over_the_whole_range() -> None:
    asked = []

    def uniform(low_s: float, high_s: float) -> float:
        asked.append((low_s, high_s))
        return high_s

    reconnect = Reconnect(uniform=uniform)
    reconnect.delay_s(lived_s=11)
    reconnect.delay_s(lived_s=0)
    reconnect.refused_delay_s()
    assert asked == [(0, FIRST_DELAY_S_MAX), (0, DELAY_S_MIN), (REFUSED_DELAY_S_MAX / 2, REFUSED_DELAY_S_MAX)]
