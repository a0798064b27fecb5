"""Searches that must reflect a write."""

import asyncio
import time

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from errata.serving.server import Call
from errata.v1 import rag_pb2
from rag_service.errors import TokenNotReachedError
from rag_service.service import DEADLINE_MARGIN_S
from tests.rag_service.manual_clock import until
from tests.rag_service.scripted_learner import ToyStore
from tests.rag_service.serving import Failed, serving


async def test_a_search_waits_for_the_write_whose_token_it_brings() -> None:
    async with serving() as it:
        update = it.store.put("a", "how to list files")
        call = asyncio.create_task(it.search(text="how to list files", min_token=it.store.token_of(update)))
        await until(lambda: it.progress.waiter_count == 1)
        it.receive(update)
        assert it.progress.waiter_count == 1
        it.bookmark()
        assert [result.example.id for result in (await call).results] == ["a"]


async def test_searches_that_wait_hold_nothing_that_others_need() -> None:
    async with serving() as it:
        it.learn("a", "how to list files")
        update = it.store.put("b", "how to sort")
        token = it.store.token_of(update)
        waiting = [asyncio.create_task(it.search(text="how to sort", min_token=token)) for _ in range(64)]
        await until(lambda: it.progress.waiter_count == len(waiting))
        assert await it.ids(text="how to list files") == ["a"]
        assert it.workers.submitted_count == 0
        it.receive(update)
        it.bookmark()
        for response in await asyncio.gather(*waiting):
            assert response.results[0].example.id == "b"


async def test_the_token_of_an_answer_is_good_for_the_next_search() -> None:
    async with serving() as it:
        assert (await it.search(text="a")).token == b""
        token = it.learn("a", "how to list files")
        response = await it.search(text="a")
        assert response.token == token
        assert (await it.search(text="a", min_token=response.token, max_wait=Duration())).token == token


async def test_a_token_that_is_not_reached_in_time_says_how_far_it_is() -> None:
    async with serving() as it:
        it.learn("a", "how to list files")
        token = it.store.token_of(it.store.put("b", "how to sort"))
        at_once = await it.failure(text="a", min_token=token, max_wait=Duration())
        assert at_once == Failed(
            grpc.StatusCode.FAILED_PRECONDITION, "TOKEN_NOT_REACHED", {"want": "2", "applied": "1"}
        )
        call = asyncio.create_task(it.failure(text="a", min_token=token))
        await until(lambda: it.clock.sleeps_s() == [2.0])
        it.clock.advance(2.0)
        assert await call == at_once


@pytest.mark.parametrize(
    ("deadline_s", "max_wait", "wait_s_max"),
    [
        (5.0, Duration(seconds=60), 5.0 - DEADLINE_MARGIN_S),
        (60.0, None, 2.0),
        (60.0, Duration(seconds=9), 9.0),
    ],
    ids=["until the deadline", "the default", "as long as asked"],
)
async def test_a_wait_ends_before_the_deadline_of_the_call(
    deadline_s: float, max_wait: Duration | None, wait_s_max: float
) -> None:
    async with serving() as it:
        token = it.store.token_of(it.store.put("a", "how to list files"))
        call = Call(request_id="r", method="m", deadline_s=time.monotonic() + deadline_s)
        request = rag_pb2.SearchRequest(text="a", min_token=token, max_wait=max_wait)
        searching = asyncio.create_task(it.servicer.search(request, call))
        await until(it.clock.sleeps_s)
        (wait_s,) = it.clock.sleeps_s()
        assert wait_s_max - 1 < wait_s <= wait_s_max
        it.clock.advance(wait_s)
        with pytest.raises(TokenNotReachedError):
            await searching


async def test_a_caller_whose_deadline_is_near_still_gets_the_reason() -> None:
    async with serving() as it:
        token = it.store.token_of(it.store.put("a", "how to list files"))
        call = Call(request_id="r", method="m", deadline_s=time.monotonic() + DEADLINE_MARGIN_S / 2)
        with pytest.raises(TokenNotReachedError):
            await it.servicer.search(rag_pb2.SearchRequest(text="a", min_token=token), call)
        assert it.clock.sleep_count == 0


async def test_a_caller_that_goes_away_leaves_no_waiter() -> None:
    async with serving() as it:
        token = it.store.token_of(it.store.put("a", "how to list files"))
        call = asyncio.create_task(it.search(text="a", min_token=token))
        await until(lambda: it.progress.waiter_count == 1)
        call.cancel()
        await until(lambda: it.progress.waiter_count == 0)


async def test_a_token_of_a_lost_history_fails_at_once() -> None:
    async with serving() as it:
        it.learn("a", "how to list files")
        token = it.learn("b", "how to sort")
        restored = ToyStore(head=1)
        restored.begin_epoch(777)
        it.open(restored)
        end = await it.failure(text="a", min_token=token, max_wait=Duration(seconds=9))
        assert end == Failed(grpc.StatusCode.FAILED_PRECONDITION, "TOKEN_LOST", {"want": "2", "applied": "2"})
