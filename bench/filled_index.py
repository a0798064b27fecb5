"""Indexes and mirrors full of examples, as if a Learner had sent them."""

from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bench.feed_store import example
from errata.v1.learner_pb2 import Epoch, ExampleUpdate, WatchBookmark
from rag_service.clock import SystemClock
from rag_service.index import ExampleIndex
from rag_service.mirror import Mirror, Source
from rag_service.progress import Progress
from rag_service.pruning.fastest import FastestRanking, Kernel
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


class _Later:
    """Keeps jobs for the background until they are wanted to have ended."""

    def __init__(self) -> None:
        self._jobs: deque[Iterator[None]] = deque()

    def run(self, job: Iterator[None]) -> None:
        """See `rag_service.background.Background`."""
        self._jobs.append(job)

    def finish(self) -> None:
        """Runs every job to its end, and those that come of it."""
        while self._jobs:
            deque(self._jobs.popleft(), maxlen=0)


def filled_index(rows: Vectors) -> ExampleIndex:
    """An index of an example for each row, searched as fast as it ever will be."""
    background = _Later()
    index = _build_index(background, rows.shape[1])
    for batch in updates_of(rows):
        index.apply(batch)
    background.finish()
    return index


def filled_mirror(rows: Vectors) -> Mirror:
    """A live mirror around such an index."""
    clock = SystemClock()
    background = _Later()
    mirror = Mirror(
        build_index=partial(_build_index, background), progress=Progress(clock=clock), clock=clock
    )
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
    background.finish()
    return mirror


def _build_index(background: _Later, dimension: int) -> ExampleIndex:
    """As `rag_service.__main__` builds it."""
    kernel = Kernel(background)
    return ExampleIndex(
        dimension=dimension,
        build_ranking=partial(FastestRanking, kernel=kernel, background=background),
    )
