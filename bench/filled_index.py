"""Indexes and mirrors full of examples, as if a Learner had sent them."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from bench.feed_store import example
from errata.v1.learner_pb2 import Epoch, ExampleUpdate, WatchBookmark
from rag_service.clock import SystemClock
from rag_service.index import ExampleIndex
from rag_service.mirror import Mirror, Source
from rag_service.progress import Progress
from rag_service.read_your_writes import Epochs

BATCH_ROWS = 150
"""About as many as the Learner sends in one batch."""
FINGERPRINT = "bench"

Vectors = NDArray[np.float32]


class NoEmbedder:
    """Queries come as vectors."""

    fingerprint = FINGERPRINT

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension

    async def query(self, text: str) -> Vectors:
        """Embeds nothing."""
        raise NotImplementedError(text)


def updates_of(rows: Vectors) -> Iterator[Sequence[ExampleUpdate]]:
    """Batches of updates that put an example of usual size for each row, its place from 0 in its ID."""
    for start in range(0, len(rows), BATCH_ROWS):
        some = range(start, min(start + BATCH_ROWS, len(rows)))
        yield [ExampleUpdate(revision=row + 1, put=example(row, rows[row], FINGERPRINT)) for row in some]


def filled_index(rows: Vectors) -> ExampleIndex:
    """An index of an example for each row, searched as fast as it ever will be."""
    index = _build_index(rows.shape[1])
    for batch in updates_of(rows):
        index.apply(batch)
    return index


def filled_mirror(rows: Vectors) -> Mirror:
    """A live mirror around such an index."""
    clock = SystemClock()
    mirror = Mirror(build_index=_build_index, progress=Progress(clock=clock), clock=clock)
    mirror.open(
        Source(
            store_id=bytes(16),
            epochs=Epochs([Epoch(nonce=1, start_revision=0)]),
            embedder=NoEmbedder(rows.shape[1]),
        )
    )
    for batch in updates_of(rows):
        mirror.receive(batch)
    receiving = mirror.receiving
    if receiving is None:
        raise RuntimeError("nothing was received")
    mirror.bookmark(
        WatchBookmark(
            revision=len(rows), example_count=len(rows), digest=receiving.index.digest, token=b"bench"
        )
    )
    return mirror


def _build_index(dimension: int) -> ExampleIndex:
    return ExampleIndex(dimension=dimension)
