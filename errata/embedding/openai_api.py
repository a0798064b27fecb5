"""One request to an OpenAI-compatible embeddings API, from texts to vectors. Trying again is for others."""

import asyncio
import importlib.metadata
import time
from collections.abc import Callable, Sequence
from typing import Final

import httpx2
import numpy as np
from numpy.typing import NDArray

from errata.embedding.openai_answers import RequestFailedError, error_of, unit_vectors

CONNECT_S_MAX: Final = 3.0
"""A server that is there takes a connection in less; the rest of the time is for the answer."""

NUMBER_BYTES_MAX: Final = 32
"""Of one coordinate as JSON, with comma and space. Real ones have about 22."""

ANSWER_BYTES_BESIDES: Final = 64 * 1024
"""Of an answer, besides the coordinates."""


class EmbeddingsApi:
    """Belongs to one event loop, that of its first call."""

    def __init__(
        self,
        *,
        base_url: str,
        model: str,
        dimension: int | None,
        key: Callable[[], str],
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        """Connects to nothing yet.

        Args:
            base_url: without the final slash, such as `https://api.openai.com/v1`.
            model: as the server knows it.
            dimension: to ask the model for; None takes what it gives.
            key: gives the key, empty for none, before each request; raises OSError or ValueError.
            wall_s: seconds since 1970.
        """
        self.url = f"{base_url}/embeddings"
        self._model: dict[str, str | int] = {"model": model, "encoding_format": "float"}
        if dimension is not None:
            self._model["dimensions"] = dimension
        self._key = key
        self._wall_s = wall_s
        # The time of a call is bounded as a whole, which bounds of its steps would not do.
        self._client = httpx2.AsyncClient(
            timeout=httpx2.Timeout(None, connect=CONNECT_S_MAX),
            headers={"User-Agent": f"errata/{importlib.metadata.version('errata')}"},
        )

    async def embed(
        self, texts: Sequence[str], dimension: int | None, dimension_max: int, time_s_max: float
    ) -> NDArray[np.float32]:
        """The unit vectors of some texts, by one request.

        Args:
            texts: within the bounds of a request.
            dimension: that the vectors must have; None when it is not known.
            dimension_max: of any answer.
            time_s_max: until the answer is here completely.

        Raises:
            RequestFailedError: there is no answer that can be used.
            RequestRefusedError: something in the request is at fault.
        """
        number_count = len(texts) * (dimension or dimension_max)
        bytes_max = number_count * NUMBER_BYTES_MAX + ANSWER_BYTES_BESIDES
        key = self._read_key()
        try:
            async with asyncio.timeout(time_s_max):
                status, headers, body = await self._post(texts, key, bytes_max)
        except TimeoutError as error:
            raise RequestFailedError(f"no answer within {time_s_max:.1f} s") from error
        except httpx2.RequestError as error:
            raise RequestFailedError(f"no answer ({type(error).__name__}: {error})") from error
        if status == httpx2.codes.OK:
            return unit_vectors(body, len(texts), dimension)
        raise error_of(status, headers, body, wall_s=self._wall_s(), secret=key)

    async def close(self) -> None:
        """Closes its connections."""
        await self._client.aclose()

    async def _post(
        self, texts: Sequence[str], key: str, bytes_max: int
    ) -> tuple[int, httpx2.Headers, bytes]:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        body = {**self._model, "input": list(texts)}
        async with self._client.stream("POST", self.url, headers=headers, json=body) as response:
            received = bytearray()
            async for chunk in response.aiter_bytes():
                received += chunk
                if len(received) > bytes_max:
                    raise RequestFailedError(f"its answer is larger than {bytes_max:,} bytes")
            return response.status_code, response.headers, bytes(received)

    def _read_key(self) -> str:
        try:
            return self._key()
        except (OSError, ValueError) as error:
            raise RequestFailedError(f"there is no key to ask with ({error})", retry=False) from error
