"""An embedder off the event loop."""

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from errata.embedding import EmbeddingThread, UnknownEmbedderError
from rag_service.query_embedder import ThreadedEmbedder, build_threaded
from tests.rag_service.manual_clock import until


class HeldEmbedder:
    """Embeds when it is let go on."""

    spec = "held"
    fingerprint = "held/2"
    dimension = 2
    documents_max = 16

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_go_on = threading.Event()

    def queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.begun.set()
        assert self.may_go_on.wait(5)
        return np.tile(np.array([0, 1], dtype=np.float32), (len(texts), 1))

    documents = queries

    def close(self) -> None:
        """Holds nothing."""


async def test_an_embedder_is_closed_only_after_the_questions_that_it_has_taken() -> None:
    held = HeldEmbedder()
    thread = EmbeddingThread(held)
    thread.start()
    embedder = ThreadedEmbedder(thread)
    assert (embedder.fingerprint, embedder.dimension) == ("held/2", 2)
    first = asyncio.create_task(embedder.query("first"))
    await until(held.begun.is_set)
    # Waits behind the first, so that it would fail if the thread ended between the two.
    second = asyncio.create_task(embedder.query("second"))
    await asyncio.sleep(0)
    closing = asyncio.create_task(embedder.close())
    await asyncio.sleep(0)
    assert not closing.done()
    held.may_go_on.set()
    async with asyncio.timeout(5):
        await closing
        assert (await first).tolist() == [0, 1]
        assert (await second).tolist() == [0, 1]


async def test_an_embedder_that_nobody_uses_is_closed_at_once() -> None:
    embedder = await build_threaded("hashing:64")
    assert embedder.dimension == 64
    vector = await embedder.query("how to list files")
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-6)
    async with asyncio.timeout(5):
        await embedder.close()


async def test_a_spec_that_names_nothing_is_refused() -> None:
    with pytest.raises(UnknownEmbedderError):
        await build_threaded("unheard-of")
