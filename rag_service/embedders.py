"""The embedders that the service holds: the one that the Learner announces, or the one that a flag names.

Queries must be embedded as the Learner embedded the examples; what cannot promise that is refused, and the
service goes on with what it has. During a change of embedders there are two: the searched state's, and that
of the state that is to replace it.
"""

from collections.abc import Awaitable, Callable, Collection
from typing import Protocol, TypeAlias

from errata.embedding import EmbedderError
from errata.serving.logs import get_logger
from errata.snapshot.v1 import snapshot_pb2
from errata.v1 import learner_pb2
from rag_service.errors import EmbedderRefusedError
from rag_service.mirror import QueryEmbedder

_log = get_logger()


class OwnedEmbedder(QueryEmbedder, Protocol):
    """An embedder that this service built."""

    async def close(self) -> None:
        """Frees it, after the queries that it has taken."""
        ...


BuildEmbedder: TypeAlias = Callable[[str, Collection[str]], Awaitable[OwnedEmbedder]]
"""Builds the embedder that a spec such as `minilm` names, off the event loop.

The second are fingerprints of the vectors that its own are to be compared with: an embedder that would have
to ask a server for its dimension finds it there, and can be built while that server is away.

Raises:
    EmbedderError: it cannot be built here, or not now.
"""


class Embedders:
    """Builds embedders when a Hello asks for one, and closes those that nobody needs any more."""

    def __init__(self, *, build: BuildEmbedder, fixed_spec: str | None = None) -> None:
        """Holds none.

        Args:
            build: called once for each embedder that is needed.
            fixed_spec: the embedder to use whatever the Learner announces; None follows the Learner.
        """
        self._build = build
        self._fixed_spec = fixed_spec
        self._fixed: OwnedEmbedder | None = None
        self._held: dict[str, OwnedEmbedder] = {}

    async def required_fingerprint(self) -> str:
        """The fingerprint that the Learner's embeddings must have; empty when any will do.

        Raises:
            EmbedderRefusedError: the embedder of the flag cannot be built.
        """
        return await self._required_fingerprint(())

    async def for_hello(self, hello: learner_pb2.WatchHello) -> QueryEmbedder:
        """The embedder whose vectors may be compared with those that the stream brings.

        Raises:
            EmbedderRefusedError: there is none.
        """
        return await self._fitting(
            hello.embedder, hello.embedder_fingerprint, hello.dimension, whose="the Learner's"
        )

    async def for_snapshot(self, header: snapshot_pb2.SnapshotHeader) -> QueryEmbedder:
        """The embedder whose vectors may be compared with those of the snapshot.

        Raises:
            EmbedderRefusedError: there is none.
        """
        await self._required_fingerprint((header.embedder_fingerprint,))
        return await self._fitting(
            header.embedder, header.embedder_fingerprint, header.dimension, whose="the snapshot's"
        )

    async def keep_only(self, embedder: QueryEmbedder) -> None:
        """Closes every embedder but this one."""
        for fingerprint, held in list(self._held.items()):
            if held is not embedder:
                del self._held[fingerprint]
                await held.close()

    async def close(self) -> None:
        """Closes all of them."""
        self._fixed = None
        while self._held:
            _, held = self._held.popitem()
            await held.close()

    async def _required_fingerprint(self, known: Collection[str]) -> str:
        if self._fixed_spec is None:
            return ""
        if self._fixed is None:
            self._fixed = await self._built(self._fixed_spec, known)
            self._held[self._fixed.fingerprint] = self._fixed
        return self._fixed.fingerprint

    async def _fitting(self, spec: str, fingerprint: str, dimension: int, *, whose: str) -> QueryEmbedder:
        embedder = self._held.get(fingerprint)
        if embedder is None:
            if self._fixed is not None:
                raise EmbedderRefusedError(
                    f"{whose} embedder is {fingerprint!r}, --embedder gives {self._fixed.fingerprint!r}; "
                    "use the same on both sides, or leave the flag out"
                )
            embedder = await self._built(spec, (fingerprint,))
            if embedder.fingerprint != fingerprint:
                await embedder.close()
                raise EmbedderRefusedError(
                    f"{whose} embedder is {fingerprint!r}, but {spec!r} is {embedder.fingerprint!r} here; "
                    "run the same version on both sides"
                )
            self._held[fingerprint] = embedder
        if embedder.dimension != dimension:
            raise EmbedderRefusedError(
                f"{whose} vectors have {dimension} dimensions, those of {fingerprint!r} {embedder.dimension}"
            )
        return embedder

    async def _built(self, spec: str, known: Collection[str]) -> OwnedEmbedder:
        try:
            embedder = await self._build(spec, known)
        except EmbedderError as error:
            raise EmbedderRefusedError(f"the embedder {spec!r} cannot be built: {error}") from error
        _log.info("embedder built", embedder=spec, fingerprint=embedder.fingerprint)
        return embedder
