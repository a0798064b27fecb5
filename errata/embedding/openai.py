"""Embeddings of an OpenAI-compatible server: `POST {base URL}/embeddings`.

    openai:MODEL        vectors as the model gives them; their length is asked for once, at the start
    openai:MODEL:DIM    asks the model for vectors of this length, which not every model can give

A text is rejected for good only if the server refuses it while it takes another one: what is wrong with the
key, the model, the account or the server is never held against a text. A request that the server refuses is
cut in two, and the size that it did take is kept to. Requests that fail are made again while there is time,
and a server that keeps failing is left alone for a while.

The fingerprint names the model and not the server: whoever serves a model under its name must serve the same.
"""

import asyncio
import random
import time
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

import numpy as np

from errata.embedding.embedder import (
    EmbedderError,
    EmbedderRejectedError,
    EmbedderUnavailableError,
    FloatMatrix,
)
from errata.embedding.loop_thread import LoopClosedError, LoopThread
from errata.embedding.openai_answers import (
    SETUP_PAUSE_S,
    RequestFailedError,
    RequestRefusedError,
    UnusableVectorError,
)
from errata.embedding.openai_api import EmbeddingsApi
from errata.embedding.openai_circuit import Circuit
from errata.text import TEXT_RULES

T = TypeVar("T")

DIMENSION_MAX: Final = 16_384
"""Twice what the largest models give; it bounds what an answer may take."""

TEXTS_MAX: Final = 256
"""Of one request. The API takes 2,048, but their vectors written out are 60 MB and more."""

TEXT_TOKENS_MAX: Final = 8_192
REQUEST_TOKENS_MAX: Final = 300_000
"""What the API takes of one text and of one request. A token is at least one byte, so bytes are counted."""

PROBE_TEXT: Final = "list files"
"""What any server must take."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one request may take, and how often it may be made within that time."""

    seconds: float
    attempts_max: int
    retry_delay_s: float = 0.5
    """Before the second attempt, where the server names no time; it doubles with each that follows."""


QUERY_PATIENCE: Final = Patience(seconds=5.0, attempts_max=3)
"""Somebody waits for the answer."""

DOCUMENTS_PATIENCE: Final = Patience(seconds=60.0, attempts_max=4)


class OpenAiEmbedder:
    """See the module. May be used from any thread, and from several at once."""

    documents_max = TEXTS_MAX

    def __init__(
        self,
        *,
        model: str,
        dimension: int,
        spec: str,
        api: EmbeddingsApi,
        loop: LoopThread,
        circuit: Circuit,
        query_patience: Patience = QUERY_PATIENCE,
        documents_patience: Patience = DOCUMENTS_PATIENCE,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Takes over the API and the loop, which has been started.

        Args:
            model: as the server knows it.
            dimension: of its vectors; 0 until it is known.
            spec: as the flag takes it.
            api: makes the requests, on `loop`.
            loop: runs everything.
            circuit: of the server.
            query_patience: of each request for queries.
            documents_patience: of each request for documents.
            uniform: spreads what is tried again; nothing secret hangs on it.
        """
        self.spec = spec
        self.dimension = dimension
        self._model = model
        self._api = api
        self._loop = loop
        self._circuit = circuit
        self._query_patience = query_patience
        self._documents_patience = documents_patience
        self._uniform = uniform
        # Belongs to the loop.
        self._texts_max = TEXTS_MAX

    @property
    def fingerprint(self) -> str:
        """Names the model, the dimension and the rules of the texts."""
        return _fingerprint(self._model, str(self.dimension))

    @classmethod
    def build(
        cls, model: str, dimension: int | None, *, api: EmbeddingsApi, held: Collection[str] = ()
    ) -> Self:
        """Makes the embedder of a model; asks the server for its dimension if nobody else knows it.

        Args:
            model: as the server knows it.
            dimension: asked of the server; None for whatever it gives.
            api: makes the requests; closed when this fails.
            held: fingerprints that stored vectors have; one of this model tells its dimension.

        Raises:
            EmbedderUnavailableError: the server did not tell.
        """
        embedder = cls(
            model=model,
            dimension=dimension or _held_dimension(model, held) or 0,
            spec=f"openai:{model}" if dimension is None else f"openai:{model}:{dimension}",
            api=api,
            loop=LoopThread("openai").start(),
            circuit=Circuit(api.url, time.monotonic),
        )
        try:
            if not embedder.dimension:
                embedder._find_dimension()
        except BaseException:
            embedder.close()
            raise
        return embedder

    def documents(self, texts: Sequence[str]) -> FloatMatrix:
        """One unit row a text; see `Embedder`."""
        return self._run(self._embed(texts, self._documents_patience))

    def queries(self, texts: Sequence[str]) -> FloatMatrix:
        """The same, for somebody who waits."""
        return self._run(self._embed(texts, self._query_patience))

    def close(self) -> None:
        """Gives up what is under way, which then fails, and closes the connections."""
        self._loop.close(self._api.close())

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        try:
            return self._loop.run(call)
        except LoopClosedError:
            raise EmbedderError("the embedder was closed") from None

    def _find_dimension(self) -> None:
        probe = self._run(self._accepted([PROBE_TEXT], self._query_patience))
        self.dimension = probe.shape[1]
        if self.dimension > DIMENSION_MAX:
            raise EmbedderUnavailableError(
                f"the server gives {self.dimension:,} dimensions; at most {DIMENSION_MAX:,} are supported"
            )

    # --- On the loop.

    async def _embed(self, texts: Sequence[str], patience: Patience) -> FloatMatrix:
        if any(_tokens_max(text) > TEXT_TOKENS_MAX for text in texts):
            raise EmbedderRejectedError(f"a text is longer than {TEXT_TOKENS_MAX:,} bytes")
        matrices = [await self._embed_part(part, patience) for part in _cut(texts, self._texts_max)]
        return np.concatenate(matrices) if matrices else np.empty((0, self.dimension), np.float32)

    async def _embed_part(self, texts: Sequence[str], patience: Patience) -> FloatMatrix:
        """The vectors of the texts of one request, or of several if the server refuses that one."""
        try:
            return await self._answered(texts, patience)
        except RequestRefusedError as refused:
            if len(texts) == 1:
                # Raises if the server takes no text at all.
                await self._accepted([PROBE_TEXT], patience)
                raise EmbedderRejectedError(f"the server refuses the text: {refused.problem}") from refused
        middle = (len(texts) + 1) // 2
        matrices = [
            await self._embed_part(part, patience)
            for half in (texts[:middle], texts[middle:])
            for part in _cut(half, self._texts_max)
        ]
        # No text was at fault, so the size was.
        self._texts_max = min(self._texts_max, middle)
        return np.concatenate(matrices)

    async def _accepted(self, texts: Sequence[str], patience: Patience) -> FloatMatrix:
        """The vectors of texts that any server takes; one that does not is set up wrongly."""
        try:
            return await self._answered(texts, patience)
        except RequestRefusedError as refused:
            problem = f"it refuses every text ({refused.problem}); check the model and its dimension"
            self._circuit.failed(RequestFailedError(problem, pause_s=SETUP_PAUSE_S))
            raise EmbedderUnavailableError(f"{self._api.url}: {problem}") from refused

    async def _answered(self, texts: Sequence[str], patience: Patience) -> FloatMatrix:
        """Makes one request until it is answered, or for as long as there is patience.

        Raises:
            RequestRefusedError: the server refuses it.
            EmbedderUnavailableError: it was not answered.
        """
        now_s = asyncio.get_running_loop().time
        deadline_s = now_s() + patience.seconds
        delay_s = patience.retry_delay_s
        attempts_left = patience.attempts_max
        while True:
            attempts_left -= 1
            pause_s = 0.0
            try:
                with self._circuit.attempt():
                    return await self._api.embed(
                        texts, self.dimension or None, DIMENSION_MAX, deadline_s - now_s()
                    )
            except UnusableVectorError:
                if not attempts_left:
                    raise
            except RequestFailedError as failed:
                pause_s = failed.pause_s
                too_late = now_s() + pause_s + delay_s >= deadline_s
                if not (attempts_left and failed.retry) or too_late:
                    raise EmbedderUnavailableError(f"{self._api.url}: {failed.problem}") from failed
            await asyncio.sleep(pause_s + self._uniform(delay_s / 2, delay_s))
            delay_s *= 2


def _fingerprint(model: str, dimension: str) -> str:
    return f"openai/{model}/{dimension}/{TEXT_RULES}"


def _held_dimension(model: str, held: Collection[str]) -> int | None:
    before, _, after = _fingerprint(model, "\0").partition("\0")
    for fingerprint in held:
        dimension = fingerprint.removeprefix(before).removesuffix(after)
        if fingerprint == _fingerprint(model, dimension) and dimension.isdecimal():
            return int(dimension)
    return None


def _tokens_max(text: str) -> int:
    return len(text.encode())


def _cut(texts: Sequence[str], texts_max: int) -> Iterator[Sequence[str]]:
    """Parts in order, each of which is within the bounds of one request."""
    start, tokens = 0, 0
    for number, text in enumerate(texts):
        text_tokens = _tokens_max(text)
        if number - start == texts_max or (number > start and tokens + text_tokens > REQUEST_TOKENS_MAX):
            yield texts[start:number]
            start, tokens = number, 0
        tokens += text_tokens
    if start < len(texts):
        yield texts[start:]
