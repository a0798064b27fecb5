"""What a benchmark asks of every system that it compares."""

import importlib
from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

RECALL_MIN: Final = 0.99
"""What a system that does not look at every row is tuned to, where that can be."""


class PeerMissingError(Exception):
    """A system cannot be compared here; the message says why."""


class Peer(Protocol):
    """Rows in some system, ready to be searched."""

    @property
    def name(self) -> str:
        """As the tables have it, with what was tuned."""
        ...

    def search(self, query: Vectors) -> object:
        """The nearest rows by cosine, in whatever form the system gives them; this alone is timed."""
        ...

    def rows(self, found: object) -> Sequence[int]:
        """The numbers of the rows that a search found, best first."""
        ...

    def tune(self, truth: "Truth") -> None:
        """Makes it look at as few rows as a recall of `RECALL_MIN` allows; exact systems do nothing."""
        ...

    def close(self) -> None:
        """Frees what it holds and ends what it started."""
        ...


class Truth:
    """What the right answers are, with ties: any row as near as the last of the nearest is right."""

    def __init__(self, rows: Vectors, queries: Vectors, limit: int) -> None:
        """Scores every row for every query.

        Args:
            rows: unit vectors, shape (n, dimension).
            queries: unit vectors.
            limit: how many are asked for.
        """
        self._rows = rows
        self._queries = queries
        self.limit: Final = limit
        self._least = np.array([_greatest(rows @ query, limit)[-1] for query in queries])

    def recall(self, peer: Peer) -> float:
        """The share of what a system finds that is right; what it does not find counts as wrong."""
        right = 0
        for query, least in zip(self._queries, self._least, strict=True):
            numbers = list(dict.fromkeys(peer.rows(peer.search(query))))[: self.limit]
            # Products of float32 err by less than this.
            right += int(np.count_nonzero(self._rows[numbers] @ query >= least - 2e-6))
        return right / (len(self._queries) * min(self.limit, len(self._rows)))


def _greatest(products: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    if len(products) > count:
        products = products[np.argpartition(products, len(products) - count)[-count:]]
    greatest: NDArray[np.float32] = -np.sort(-products)
    return greatest


def tuned(peer: Peer, truth: Truth, settings: Sequence[int]) -> Iterator[int]:
    """Settings from the cheapest on, until one gives enough recall; the caller applies each as it comes."""
    for setting in settings:
        yield setting
        if truth.recall(peer) >= RECALL_MIN:
            return


def library(name: str) -> Any:
    """An optional package.

    Raises:
        PeerMissingError: it is not installed, or does not load.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise PeerMissingError(
            f"{error.name or name} is not installed; `make bench-peers` installs it"
        ) from error
