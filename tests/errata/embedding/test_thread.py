"""Embedding off the event loop."""

import asyncio
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from errata.embedding import EmbedderError, EmbedderRejectedError, EmbeddingThread, build_embedder
from errata.embedding.embedder import LOCAL_DOCUMENTS_MAX as DOCUMENTS_MAX
from errata.embedding.thread import CACHED_QUERIES_MAX, QUERIES_MAX
from tests.errata.embedding.gated_embedder import BROKEN, REFUSED, GatedEmbedder


@pytest.fixture
def gated() -> GatedEmbedder:
    return GatedEmbedder()


@pytest.fixture
def thread(gated: GatedEmbedder) -> Iterator[EmbeddingThread]:
    with EmbeddingThread(gated) as thread:
        yield thread
        # Closing waits for the batch under way.
        gated.let_pass(1000)


@pytest.fixture
def open_gated() -> GatedEmbedder:
    return GatedEmbedder(open_gate=True)


@pytest.fixture
def free(open_gated: GatedEmbedder) -> Iterator[EmbeddingThread]:
    with EmbeddingThread(open_gated) as thread:
        yield thread


async def begun(gated: GatedEmbedder) -> None:
    await asyncio.to_thread(gated.wait_until_begun)


async def submitted() -> None:
    """Returns when every task made before has put its request in the queue."""
    await asyncio.sleep(0)


async def test_it_gives_what_its_embedder_gives(free: EmbeddingThread) -> None:
    texts = [f"list file {number}" for number in range(3 * DOCUMENTS_MAX + 1)]
    expected = build_embedder("hashing:16").documents(texts)
    assert np.array_equal(await free.documents(texts), expected)
    assert np.array_equal(await free.query(texts[0]), expected[0])
    assert free.dimension == 16
    assert free.fingerprint == "hashing/h1/16/q1"


async def test_documents_of_like_length_are_embedded_together_and_come_back_in_their_order(
    free: EmbeddingThread, open_gated: GatedEmbedder
) -> None:
    texts = ["x" * (number * 37 % 101 + 1) for number in range(101)]
    assert np.array_equal(await free.documents(texts), build_embedder("hashing:16").documents(texts))
    lengths = [[len(text) for text in batch] for _, batch in open_gated.calls]
    assert [length for batch in lengths for length in batch] == list(range(1, 102))
    assert all(len(batch) <= open_gated.documents_max for batch in lengths)


async def test_no_documents_are_no_work(thread: EmbeddingThread, gated: GatedEmbedder) -> None:
    assert (await thread.documents([])).shape == (0, 16)
    assert gated.calls == []


async def test_a_lone_query_goes_at_once_and_those_that_wait_are_one_batch(
    thread: EmbeddingThread, gated: GatedEmbedder
) -> None:
    first = asyncio.create_task(thread.query("first"))
    await begun(gated)
    others = [asyncio.create_task(thread.query(text)) for text in ("a", "b", "c")]
    await submitted()
    gated.let_pass(2)
    await asyncio.gather(first, *others)
    assert gated.calls == [("queries", ["first"]), ("queries", ["a", "b", "c"])]


async def test_a_batch_of_queries_is_bounded(thread: EmbeddingThread, gated: GatedEmbedder) -> None:
    first = asyncio.create_task(thread.query("first"))
    await begun(gated)
    others = [asyncio.create_task(thread.query(str(number))) for number in range(QUERIES_MAX + 1)]
    await submitted()
    gated.let_pass(3)
    await asyncio.gather(first, *others)
    assert [len(texts) for _, texts in gated.calls] == [1, QUERIES_MAX, 1]


async def test_a_query_waits_for_no_more_than_one_batch_of_documents(
    thread: EmbeddingThread, gated: GatedEmbedder
) -> None:
    documents = asyncio.create_task(thread.documents([f"document {number}" for number in range(64)]))
    await begun(gated)
    query = asyncio.create_task(thread.query("urgent"))
    await submitted()
    gated.let_pass(2)
    await query
    assert [kind for kind, _ in gated.calls[:2]] == ["documents", "queries"]
    assert not documents.done()
    gated.let_pass(64)
    assert (await documents).shape == (64, 16)
    assert max(len(texts) for _, texts in gated.calls) <= DOCUMENTS_MAX


async def test_a_query_asked_again_costs_nothing(thread: EmbeddingThread, gated: GatedEmbedder) -> None:
    gated.let_pass()
    vector = await thread.query("list files")
    assert await thread.query("list files") is vector
    assert len(gated.calls) == 1


async def test_what_one_embedder_made_of_a_query_is_no_answer_of_another() -> None:
    with (
        EmbeddingThread(build_embedder("hashing:64")) as one,
        EmbeddingThread(build_embedder("hashing:32")) as other,
    ):
        assert (await one.query("list files")).shape == (64,)
        assert (await other.query("list files")).shape == (32,)


async def test_nothing_is_embedded_on_the_event_loop_which_goes_on_meanwhile(
    thread: EmbeddingThread, gated: GatedEmbedder
) -> None:
    query = asyncio.create_task(thread.query("first"))
    documents = asyncio.create_task(thread.documents(["second"]))
    # The embedder stands still, and only a loop that goes on can let it pass.
    await begun(gated)
    gated.let_pass(2)
    await asyncio.gather(query, documents)
    assert gated.threads
    assert threading.current_thread() not in gated.threads


async def test_nobody_can_change_what_others_receive(free: EmbeddingThread) -> None:
    vector = await free.query("list files")
    with pytest.raises(ValueError, match="read-only"):
        vector[0] = 1


async def test_the_queries_that_are_remembered_are_bounded_and_the_recent_ones(free: EmbeddingThread) -> None:
    await free.query("old")
    kept = await free.query("kept")
    for start in range(0, CACHED_QUERIES_MAX - 1, 512):
        numbers = range(start, min(start + 512, CACHED_QUERIES_MAX - 1))
        await asyncio.gather(*(free.query(str(number)) for number in numbers))
        assert await free.query("kept") is kept
    assert len(free._cache) == CACHED_QUERIES_MAX
    assert "old" not in free._cache


async def test_a_refused_text_fails_its_own_caller_alone(
    thread: EmbeddingThread, gated: GatedEmbedder
) -> None:
    first = asyncio.create_task(thread.query("first"))
    await begun(gated)
    tasks = [asyncio.create_task(thread.query(text)) for text in ("a", REFUSED, "b")]
    await submitted()
    gated.let_pass(5)
    await first
    one, refused, other = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(refused, EmbedderRejectedError)
    assert isinstance(one, np.ndarray)
    assert isinstance(other, np.ndarray)


async def test_a_refused_document_fails_its_own_request_alone(free: EmbeddingThread) -> None:
    refused, other = await asyncio.gather(
        free.documents(["a", REFUSED]), free.documents(["b"]), return_exceptions=True
    )
    assert isinstance(refused, EmbedderRejectedError)
    assert isinstance(other, np.ndarray)


async def test_a_bug_of_an_embedder_reaches_who_asked_and_the_thread_lives_on(free: EmbeddingThread) -> None:
    with pytest.raises(ZeroDivisionError):
        await free.query(BROKEN)
    with pytest.raises(ZeroDivisionError):
        await free.documents([BROKEN])
    assert (await free.query("list files")).shape == (16,)


async def test_what_nobody_waits_for_any_more_is_not_embedded(
    thread: EmbeddingThread, gated: GatedEmbedder
) -> None:
    first = asyncio.create_task(thread.query("first"))
    await begun(gated)
    abandoned = [
        asyncio.create_task(thread.query("gone")),
        asyncio.create_task(thread.documents(["gone"])),
    ]
    wanted = asyncio.create_task(thread.query("wanted"))
    await submitted()
    for task in abandoned:
        task.cancel()
    await asyncio.wait(abandoned)
    gated.let_pass(2)
    await asyncio.gather(first, wanted)
    assert all(task.cancelled() for task in abandoned)
    assert gated.calls == [("queries", ["first"]), ("queries", ["wanted"])]


async def test_a_caller_that_goes_in_the_middle_of_its_batch_harms_nobody(
    thread: EmbeddingThread, gated: GatedEmbedder
) -> None:
    task = asyncio.create_task(thread.query("gone"))
    await begun(gated)
    task.cancel()
    await asyncio.wait([task])
    gated.let_pass(2)
    assert (await thread.query("list files")).shape == (16,)


async def test_closing_ends_the_batch_under_way_and_fails_whoever_waits(gated: GatedEmbedder) -> None:
    thread = EmbeddingThread(gated)
    thread.start()
    under_way = asyncio.create_task(thread.query("first"))
    await begun(gated)
    waiting = [asyncio.create_task(thread.query("a")), asyncio.create_task(thread.documents(["b"]))]
    await submitted()
    closing = asyncio.create_task(asyncio.to_thread(thread.close))
    # The batch may end only when the thread knows that it was the last.
    await asyncio.to_thread(_wait_until_closing, thread)
    gated.let_pass()
    await closing
    assert (await under_way).shape == (16,)
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, EmbedderError) for outcome in outcomes)
    assert gated.calls == [("queries", ["first"])]
    with pytest.raises(EmbedderError):
        await thread.documents(["late"])


def _wait_until_closing(thread: EmbeddingThread) -> None:
    with thread._changed:
        assert thread._changed.wait_for(lambda: thread._closing, timeout=30)


def test_a_thread_that_never_started_can_be_closed(gated: GatedEmbedder) -> None:
    EmbeddingThread(gated).close()
    assert gated.calls == []
