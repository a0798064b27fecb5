"""How alike a query and a row are, and the rows most alike, exactly.

The rule: score(x) = the float32 nearest to the float64 nearest to Σ q_j x_j, brought into [-1, 1]. A
product of two float32 is exact in float64, and `math.fsum` rounds a sum of float64 correctly, so a score
is one number: it depends on no order of summation, no position of the row, no thread and no CPU. Order:
score down, then the bytes of the key up.

`FloatScan` finds the best rows by this order without scoring them all. Bounds that it uses, for vectors
of length at most 1 + 1e-6 and dimension d ≤ `DIMENSION_MAX`, where u is half the distance from 1 to the
next number of a type (2⁻²⁴ for float32, 2⁻⁵³ for float64):

- A sum of d products, computed in any order, with or without fused multiply-add, errs by at most γ Σ|q_j
  x_j|, γ = du/(1 - du) (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1); and
  Σ|q_j x_j| ≤ |q||x| (Cauchy-Schwarz) ≤ 1.00001. In float32, du ≤ 2⁻⁸, so γ ≤ 1.004 du; products too
  small for a normal float32 add at most d 2⁻¹²⁵. The score itself is off the exact sum by at most
  u(1.00001) + 2⁻⁵³. Together, |float32 product - score before the clamp| ≤ E = 1.02 (d + 2) 2⁻²⁴.
- In float64 the same sum errs by at most 1.01 d 2⁻⁵³ M, M = Σ|q_j x_j|, or any number above it; `fsum`
  and the sum ± bound below add less than 3 roundings of it. So the number that the rule rounds to float32
  lies within e = (d + 4) 2⁻⁵² 1.01 M of the float64 product, and where both ends of that range round to
  the same float32, that is the score: rounding is monotone.

Why no row is missed. Let t be the k-th greatest float32 product of the rows that pass. The k rows at or
above t have scores of at least s = min(t - E, 1) (the clamp takes no score below 1 that was not; below -1
nothing is concluded). A row of the k best, ties included, scores at least s too, hence its product is at
least s - E. All rows with such a product are scored by the rule, and ordered by it.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rag_service.filters import Selection
from rag_service.ties import greatest

DIMENSION_MAX: Final = 65_536
"""The bounds above want d 2⁻²⁴ to be small. Embedders have a few thousand dimensions."""

GATHER_SHARE: Final = 2
"""Of at most one row in so many, each is fetched by its number; of more, all are read in order. A row fetched
takes up to twice as long as one read in order."""
_GATHER_ROWS: Final = 256
"""Rows copied together before they are multiplied: they stay in the CPU's cache in between."""
_NEVER: Final = np.float32(-np.inf)
"""Stands for the product of a row that does not pass."""
_LEAST: Final = np.float32(np.finfo(np.float32).min)
"""Every product is at least this."""


class Ranked(NamedTuple):
    """A row and its score."""

    score: float
    row: int


class Scan(Protocol):
    """The rows of one selection, in the order of their likeness to one query."""

    def best(self, count: int) -> list[Ranked]:
        """The `count` best, best first; fewer when there are fewer."""
        ...

    def drop(self, rows: NDArray[np.int64]) -> None:
        """Takes rows of the selection out."""
        ...

    def close(self) -> None:
        """Frees what the scan holds; it is not used afterwards."""
        ...


def exact_scores(rows: NDArray[np.float64], query: NDArray[np.float64]) -> NDArray[np.float32]:
    """The scores of rows by the rule.

    Args:
        rows: float32 unit vectors as float64, shape (n, dimension).
        query: a float32 unit vector as float64.
    """
    sums = rows @ query
    relative_error = (len(query) + 4) * 2.0**-52 * 1.01
    scores = (sums - relative_error).astype(np.float32)
    unsure = np.flatnonzero(scores != (sums + relative_error).astype(np.float32))
    if unsure.size:
        # Mostly sums near 0, of vectors with few elements in common: their own M is far below 1.
        errors = np.abs(rows[unsure]) @ np.abs(query) * relative_error
        scores[unsure] = (sums[unsure] - errors).astype(np.float32)
        still = scores[unsure] != (sums[unsure] + errors).astype(np.float32)
        for position in unsure[still].tolist():
            scores[position] = math.fsum((rows[position] * query).tolist())
    # Adding 0 makes -0 a 0.
    return np.clip(scores, -1.0, 1.0) + np.float32(0.0)


class FloatScan:
    """Reads every row once, in float32, and scores by the rule those that may be among the best."""

    def __init__(
        self,
        embeddings: NDArray[np.float32],
        keys: Sequence[bytes],
        selection: Selection,
        query: NDArray[np.float32],
    ) -> None:
        """Does the reading.

        Args:
            embeddings: of every row of the state, C order, shape (rows, dimension). What stands in rows that
                are not selected is of no consequence.
            keys: by row.
            selection: the rows to be ranked.
            query: unit vector.
        """
        self._embeddings = embeddings
        self._keys = keys
        self._query = query.astype(np.float64)
        self._error = 1.02 * (len(query) + 2) * 2.0**-24
        self._rows = selection.rows
        if self._rows is None:
            mask = selection.mask()
            if np.count_nonzero(mask) * GATHER_SHARE <= len(mask):
                self._rows = np.flatnonzero(mask)
            else:
                self._products = embeddings @ query
                np.copyto(self._products, _NEVER, where=~mask)
        if self._rows is not None:
            self._products = _products_of(embeddings, self._rows, query)

    def best(self, count: int) -> list[Ranked]:
        """The `count` best, best first; fewer when there are fewer."""
        positions = np.flatnonzero(self._products >= self._threshold(count))
        rows = positions if self._rows is None else self._rows[positions]
        scores = self._scores(rows)
        return [
            Ranked(scores.item(position), rows.item(position))
            for position in greatest(rows, scores, self._keys, count)
        ]

    def drop(self, rows: NDArray[np.int64]) -> None:
        """Takes rows of the selection out."""
        self._products[rows if self._rows is None else np.searchsorted(self._rows, rows)] = _NEVER

    def close(self) -> None:
        """Does nothing."""

    def _threshold(self, count: int) -> np.float32:
        """A product that each of the `count` best reaches, and no row that was taken out."""
        place = len(self._products) - count
        if place > 0:
            # Where fewer pass than are wanted, this place holds none of them, and nothing is concluded.
            surely = min(float(np.partition(self._products, place)[place]) - self._error, 1.0)
            if surely > -1.0:
                # One step down, as the conversion may round up.
                threshold: np.float32 = np.nextafter(np.float32(surely - self._error), _NEVER)
                return threshold
        return _LEAST

    def _scores(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        scores = np.empty(len(rows), dtype=np.float32)
        for start in range(0, len(rows), _GATHER_ROWS):
            some = rows[start : start + _GATHER_ROWS]
            exact = self._embeddings.take(some, axis=0).astype(np.float64)
            scores[start : start + len(some)] = exact_scores(exact, self._query)
        return scores


def _products_of(
    embeddings: NDArray[np.float32], rows: NDArray[np.int64], query: NDArray[np.float32]
) -> NDArray[np.float32]:
    products = np.empty(len(rows), dtype=np.float32)
    gathered = np.empty((min(len(rows), _GATHER_ROWS), len(query)), dtype=np.float32)
    for start in range(0, len(rows), _GATHER_ROWS):
        some = rows[start : start + _GATHER_ROWS]
        # With a mode other than "raise", numpy writes straight into `out`; every row is in range.
        np.take(embeddings, some, axis=0, out=gathered[: len(some)], mode="clip")
        np.dot(gathered[: len(some)], query, out=products[start : start + len(some)])
    return products
