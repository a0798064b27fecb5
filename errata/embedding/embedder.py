"""What an embedder is, and what it raises."""

from collections.abc import Sequence
from typing import Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatMatrix: TypeAlias = NDArray[np.float32]
"""Shape (texts, dimension), C order; every row has length 1."""

LOCAL_DOCUMENTS_MAX: Final = 16
"""Documents at once, where this machine embeds them: with a model, some 100 ms, for which a query waits."""


class EmbedderError(Exception):
    """An embedder cannot do what it was asked; the message says why."""


class EmbedderUnavailableError(EmbedderError):
    """It cannot be reached or loaded now; trying again later may help."""


class EmbedderRejectedError(EmbedderError):
    """It refuses a text for good; the same text will never be embedded."""


class Embedder(Protocol):
    """Turns texts into unit vectors. Used by one thread at a time."""

    @property
    def spec(self) -> str:
        """As the flag takes it; never with credentials."""
        ...

    @property
    def fingerprint(self) -> str:
        """Names the embedder, its weights, its dimension and the rules of its texts."""
        ...

    @property
    def dimension(self) -> int:
        """Length of its vectors."""
        ...

    @property
    def documents_max(self) -> int:
        """Documents that are best embedded at once: more gain nothing, or make others wait for long."""
        ...

    def documents(self, texts: Sequence[str]) -> FloatMatrix:
        """Embeds questions that are learned.

        Args:
            texts: none of them blank.

        Raises:
            EmbedderRejectedError: a text is refused for good.
            EmbedderUnavailableError: anything that may pass.
        """
        ...

    def queries(self, texts: Sequence[str]) -> FloatMatrix:
        """Embeds questions that are asked; raises as `documents` does."""
        ...

    def close(self) -> None:
        """Frees what it holds; a call that waits for somebody else's server is given up. From any thread."""
        ...
