"""How an embedder is made from its spec, as the flag takes it."""

from collections.abc import Callable, Collection, Mapping
from typing import Final, TypeAlias

from errata.embedding.embedder import Embedder, EmbedderError, EmbedderUnavailableError
from errata.embedding.settings import EmbedderSettings

SPECS: Final = ("minilm", "hashing", "hashing:DIMENSION", "openai:MODEL", "openai:MODEL:DIMENSION")

_NO_SETTINGS: Final = EmbedderSettings()


class UnknownEmbedderError(EmbedderError):
    """No embedder has this spec."""

    def __init__(self, spec: str, problem: str) -> None:
        super().__init__(f"{spec!r}: {problem}; there are: {', '.join(SPECS)}")
        self.spec = spec


def check_embedder(spec: str) -> None:
    """Says whether there is an embedder of a spec, without making it.

    Raises:
        UnknownEmbedderError: there is none.
        EmbedderUnavailableError: what it needs is not installed.
    """
    _factory(spec)


def build_embedder(
    spec: str, settings: EmbedderSettings = _NO_SETTINGS, *, held: Collection[str] = ()
) -> Embedder:
    """Makes the embedder of a spec, loading what it needs; this may take a second. The caller closes it.

    Args:
        spec: one of `SPECS`.
        settings: what it is told besides.
        held: fingerprints of stored vectors; an embedder that would have to ask for its dimension may find
            it there.

    Raises:
        UnknownEmbedderError: there is none of this spec.
        EmbedderUnavailableError: what it needs is not installed, is not what it should be, or is away.
    """
    return _factory(spec)(settings, held)


_Factory: TypeAlias = Callable[[EmbedderSettings, Collection[str]], Embedder]
"""Makes one embedder, whose spec has been checked."""


def _factory(spec: str) -> _Factory:
    name, _, argument = spec.partition(":")
    factory_of = _FACTORIES.get(name)
    if factory_of is None:
        raise UnknownEmbedderError(spec, "no such embedder")
    try:
        # Each imports what it needs: nobody who embeds by hashing waits for the runtime of a model.
        return factory_of(spec, argument)
    except ImportError as error:
        raise EmbedderUnavailableError(
            f"{name} needs the package {error.name}; install it: pip install 'errata[server]'"
        ) from error


def _minilm(spec: str, argument: str) -> _Factory:
    if argument:
        raise UnknownEmbedderError(spec, "minilm takes no argument")
    from errata.embedding.minilm import MiniLm  # noqa: PLC0415 - see `_factory`

    return lambda _, __: MiniLm.load()


def _hashing(spec: str, argument: str) -> _Factory:
    from errata.embedding.hashing import (  # noqa: PLC0415 - see `_factory`
        DIMENSION_DEFAULT,
        DIMENSION_MAX,
        DIMENSION_MIN,
        HashingEmbedder,
    )

    dimension = _dimension(spec, argument, DIMENSION_MIN, DIMENSION_MAX) if argument else DIMENSION_DEFAULT
    return lambda _, __: HashingEmbedder(dimension)


def _openai(spec: str, argument: str) -> _Factory:
    from errata.embedding.openai import DIMENSION_MAX, OpenAiEmbedder  # noqa: PLC0415 - see `_factory`
    from errata.embedding.openai_api import EmbeddingsApi  # noqa: PLC0415 - see `_factory`

    # Names of models may hold colons; a number at the end is the dimension.
    before, _, last = argument.rpartition(":")
    has_dimension = bool(before) and last.isascii() and last.isdigit()
    model = before if has_dimension else argument
    dimension = _dimension(spec, last, 1, DIMENSION_MAX) if has_dimension else None
    if not model or model.startswith(":"):
        raise UnknownEmbedderError(spec, "openai needs the name of a model")

    def build(settings: EmbedderSettings, held: Collection[str]) -> Embedder:
        api = EmbeddingsApi(
            base_url=settings.openai_base_url, model=model, dimension=dimension, key=settings.read_openai_key
        )
        return OpenAiEmbedder.build(model, dimension, api=api, held=held)

    return build


def _dimension(spec: str, written: str, least: int, greatest: int) -> int:
    # int() refuses thousands of digits with an error of its own.
    is_number = written.isascii() and written.isdigit() and len(written) <= len(str(greatest))
    if not (is_number and least <= int(written) <= greatest):
        raise UnknownEmbedderError(spec, f"the dimension is a number from {least} to {greatest}")
    return int(written)


_FACTORIES: Final[Mapping[str, Callable[[str, str], _Factory]]] = {
    "minilm": _minilm,
    "hashing": _hashing,
    "openai": _openai,
}
