"""Builds the embedder of a spec and runs it off the event loop."""

import asyncio
from collections.abc import Collection
from typing import Final

import numpy as np
from numpy.typing import NDArray

from errata.embedding import EmbedderSettings, EmbeddingThread, build_embedder


class ThreadedEmbedder:
    """An embedder on a thread of its own. Belongs to one event loop."""

    def __init__(self, thread: EmbeddingThread) -> None:
        """Takes over a thread that has been started."""
        self._thread = thread
        self._pending_count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def fingerprint(self) -> str:
        """Names the embedder, its weights, its dimension and its text rules."""
        return self._thread.fingerprint

    @property
    def dimension(self) -> int:
        """Length of its vectors."""
        return self._thread.dimension

    async def query(self, text: str) -> NDArray[np.float32]:
        """The unit vector of a text, shape (dimension,).

        Raises:
            EmbedderError: it cannot be embedded.
        """
        self._pending_count += 1
        self._idle.clear()
        try:
            return await self._thread.query(text)
        finally:
            self._pending_count -= 1
            if not self._pending_count:
                self._idle.set()

    async def close(self) -> None:
        """Ends the thread, after the queries that it has taken."""
        await self._idle.wait()
        await asyncio.to_thread(self._thread.close)


_DEFAULTS: Final = EmbedderSettings()


async def build_threaded(
    spec: str, held: Collection[str] = (), *, settings: EmbedderSettings = _DEFAULTS
) -> ThreadedEmbedder:
    """The embedder that a spec such as `minilm` names, ready for queries. It is loaded on a thread.

    Args:
        spec: as the flag takes it.
        held: fingerprints of the vectors that its own are to be compared with; see `build_embedder`.
        settings: what it is told besides.

    Raises:
        EmbedderError: it cannot be built here, or not now.
    """
    thread = EmbeddingThread(await asyncio.to_thread(build_embedder, spec, settings, held=held))
    thread.start()
    return ThreadedEmbedder(thread)
