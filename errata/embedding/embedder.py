"""What an embedder is, what it raises, and how one is made from its spec."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatMatrix: TypeAlias = NDArray[np.float32]
"""Shape (texts, dimension), C order; every row has length 1."""


class EmbedderError(Exception):
    """An embedder cannot do what it was asked; the message says why."""


class EmbedderUnavailableError(EmbedderError):
    """It cannot be reached or loaded now; trying again later may help."""


class EmbedderRejectedError(EmbedderError):
    """It refuses a text for good; the same text will never be embedded."""


class UnknownEmbedderError(EmbedderError):
    """No embedder has this spec."""

    def __init__(self, spec: str, problem: str) -> None:
        super().__init__(f"{spec!r}: {problem}; there are: {', '.join(SPECS)}")
        self.spec = spec


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


SPECS: Final = ("minilm", "hashing", "hashing:DIMENSION")


def build_embedder(spec: str) -> Embedder:
    """Makes the embedder of a spec, loading what it needs; this may take a second.

    Raises:
        UnknownEmbedderError: there is none of this spec.
        EmbedderUnavailableError: what it needs is not installed, or is not what it should be.
    """
    name, _, argument = spec.partition(":")
    builder = _BUILDERS.get(name)
    if builder is None:
        raise UnknownEmbedderError(spec, "no such embedder")
    return builder(spec, argument)


def _minilm(spec: str, argument: str) -> Embedder:
    if argument:
        raise UnknownEmbedderError(spec, "minilm takes no argument")
    try:
        # Here, so that nobody who embeds by hashing waits for the runtime of a model.
        from errata.embedding.minilm import MiniLm  # noqa: PLC0415
    except ImportError as error:
        raise EmbedderUnavailableError(
            f"minilm needs the package {error.name}; install it: pip install 'errata[server]'"
        ) from error
    return MiniLm.load()


def _hashing(spec: str, argument: str) -> Embedder:
    from errata.embedding.hashing import (  # noqa: PLC0415 - as above, the other way round
        DIMENSION_DEFAULT,
        DIMENSION_MAX,
        DIMENSION_MIN,
        HashingEmbedder,
    )

    if not argument:
        return HashingEmbedder(DIMENSION_DEFAULT)
    # int() refuses thousands of digits with an error of its own.
    is_number = argument.isascii() and argument.isdigit() and len(argument) <= len(str(DIMENSION_MAX))
    if not (is_number and DIMENSION_MIN <= int(argument) <= DIMENSION_MAX):
        raise UnknownEmbedderError(spec, f"the dimension is a number from {DIMENSION_MIN} to {DIMENSION_MAX}")
    return HashingEmbedder(int(argument))


_BUILDERS: Final[Mapping[str, Callable[[str, str], Embedder]]] = {"minilm": _minilm, "hashing": _hashing}
