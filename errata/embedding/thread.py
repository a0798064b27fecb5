"""Embeds off the event loop, on one thread of its own.

Batched: queries that wait together are one batch, and so are documents; a lone one goes at once. Queries
first: a query waits for at most the batch of documents that is under way. Cached: a question asked again,
as assistants do with every keystroke, costs nothing.
"""

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from errata.embedding.embedder import Embedder, EmbedderError, EmbedderUnavailableError, FloatMatrix

QUERIES_MAX: Final = 64
"""Queries of one batch."""

CACHED_QUERIES_MAX: Final = 4_096
"""With 384 dimensions, 6 MB."""


@dataclass(slots=True, eq=False)
class _Request:
    """Some texts of one caller."""

    texts: Sequence[str]
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[FloatMatrix]"

    def resolve(self, matrix: FloatMatrix) -> None:
        self._tell(lambda: self.future.set_result(matrix))

    def fail(self, error: Exception) -> None:
        self._tell(lambda: self.future.set_exception(error))

    def _tell(self, settle: Callable[[], None]) -> None:
        def unless_gone() -> None:
            if not self.future.done():
                settle()

        # A loop that is closed has nobody who waits.
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(unless_gone)


class EmbeddingThread:
    """See the module. Use it in a `with`, or `start` and `close` it."""

    def __init__(self, embedder: Embedder) -> None:
        """Takes over an embedder, and closes it in the end."""
        self._embedder = embedder
        # Guards the two queues and `_closing`; never held while something is embedded.
        self._changed = threading.Condition()
        self._queries: deque[_Request] = deque()
        self._documents: deque[_Request] = deque()
        self._closing = False
        # Belongs to the event loop.
        self._cache: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._thread = threading.Thread(target=self._run, name="embedder", daemon=True)

    @property
    def fingerprint(self) -> str:
        """Names the embedder, its weights, its dimension and the rules of its texts."""
        return self._embedder.fingerprint

    @property
    def dimension(self) -> int:
        """Length of its vectors."""
        return self._embedder.dimension

    @property
    def documents_max(self) -> int:
        """Documents that are best embedded at once."""
        return self._embedder.documents_max

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self) -> None:
        """Ends the thread after the batch that is under way; whoever still waits gets an EmbedderError."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        # First: a batch that waits for somebody else's server ends by this.
        self._embedder.close()
        if self._thread.is_alive():
            self._thread.join()
        for request in (*self._queries, *self._documents):
            request.fail(EmbedderError("the embedder was closed"))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def query(self, text: str) -> NDArray[np.float32]:
        """The unit vector of a question, shape (dimension,).

        Raises:
            EmbedderError: as `Embedder.queries`.
        """
        known = self._cache.get(text)
        if known is not None:
            self._cache.move_to_end(text)
            return known
        matrix = await self._submit(self._queries, [text])
        # A copy: the row would keep its whole batch in memory.
        vector: NDArray[np.float32] = matrix[0].copy()
        # Others receive the same array.
        vector.flags.writeable = False
        self._cache[text] = vector
        if len(self._cache) > CACHED_QUERIES_MAX:
            self._cache.popitem(last=False)
        return vector

    async def documents(self, texts: Sequence[str]) -> FloatMatrix:
        """One unit row a text.

        Raises:
            EmbedderError: as `Embedder.documents`.
        """
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        size = self._embedder.documents_max
        if len(texts) <= size:
            return await self._submit(self._documents, texts)
        # A model pads the texts that it runs together to the longest one: of like length they cost less.
        by_length = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        pieces = [by_length[start : start + size] for start in range(0, len(texts), size)]
        matrices = await asyncio.gather(
            *(self._submit(self._documents, [texts[number] for number in piece]) for piece in pieces)
        )
        matrix = np.empty((len(texts), self.dimension), np.float32)
        for piece, embedded in zip(pieces, matrices, strict=True):
            matrix[piece] = embedded
        return matrix

    async def _submit(self, queue: deque[_Request], texts: Sequence[str]) -> FloatMatrix:
        loop = asyncio.get_running_loop()
        request = _Request(texts, loop, loop.create_future())
        with self._changed:
            if self._closing:
                raise EmbedderError("the embedder was closed")
            queue.append(request)
            self._changed.notify()
        return await request.future

    # --- The thread.

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queries or self._documents or self._closing)
                if self._closing:
                    return
                if self._queries:
                    embed, batch = self._embedder.queries, _take(self._queries, QUERIES_MAX)
                else:
                    embed, batch = (
                        self._embedder.documents,
                        _take(self._documents, self._embedder.documents_max),
                    )
            _embed(embed, batch)


def _take(queue: deque[_Request], texts_max: int) -> list[_Request]:
    """The first requests of a queue, together of at most so many texts, but at least one request."""
    batch = [queue.popleft()]
    text_count = len(batch[0].texts)
    while queue and text_count + len(queue[0].texts) <= texts_max:
        batch.append(queue.popleft())
        text_count += len(batch[-1].texts)
    return batch


def _embed(embed: Callable[[Sequence[str]], FloatMatrix], batch: Sequence[_Request]) -> None:
    wanted = [request for request in batch if not request.future.cancelled()]
    if not wanted:
        return
    try:
        matrix = embed([text for request in wanted for text in request.texts])
    except Exception as error:  # noqa: BLE001 - it reaches those who asked
        if len(wanted) == 1 or isinstance(error, EmbedderUnavailableError):
            for request in wanted:
                request.fail(error)
            return
        # One of them may be to blame: the others must not fail with it.
        for request in wanted:
            _embed(embed, [request])
        return
    start = 0
    for request in wanted:
        end = start + len(request.texts)
        request.resolve(matrix[start:end])
        start = end
