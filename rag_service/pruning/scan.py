"""Finds the best rows by reading a small part of the data: codes tell which rows cannot be among them.

Three bounds of a score, each closer and dearer than the one before: by 64 rotated elements in 8 bits, by 128,
by all elements in 8 bits. What is left is scored by the rule. Why no row is missed, for vectors of length at
most 1 + 1e-6; |·| is the Euclidean norm, R the matrix of the rotation, y = Rx for a row x, w = Rq for the
query:

- Rotation. The rows of R that are not zero are orthonormal up to E: RRᵀ = D + E, D diagonal of ones and
  zeros. With P the projector on them, q·x = q·Px + (q - Pq)·(x - Px). The first is within 1.01|E||w||y| of
  w·y. The second is at most |q - Pq||x - Px| (Cauchy-Schwarz), and |x - Px|² <= |x|² - |y|² + 1.01|E|,
  likewise for q. `Basis.error` is 4|E|, in the Frobenius norm: it stands under each root, and twice in the
  slack.
- Rounding. Let ŷ be what the codes of the row say, and ŵ those of the query. Then w·y = ŵ·ŷ + ŵ·(y - ŷ) + (w
  - ŵ)·y <= ŵ·ŷ + |ŵ||y - ŷ| + 1.01|w - ŵ|. The differences are computed from the codes themselves, so an
  element that is too large for its code makes a bound wide, never wrong. ŵ·ŷ is an integer times the scales:
  codes of rows are at most 127, those of queries so small that no sum leaves int32. So is |q - Pq||x - Px|:
  the norm of the row in whole units, rounded up, times a whole factor, rounded up.
- The bound by all elements is the same with R the identity.
- Float32. A bound takes at most 8 operations in float32 on numbers below 4, which err by less than 1e-6
  together. Norms are computed in float64 with errors below 1e-9, and rounded up by more than float32 can take
  off. A score differs from the exact product by at most 1.2e-7 for its rounding, or by 2.1e-6 where it is
  brought up to -1. The sum of all that is below `SLACK`.
- Choice. Let t be the k-th best score so far of rows that pass. A row whose bound is below t scores less than
  t, so it is not among the k best, whatever its key. Only such rows are left out. A sum in float64 errs by
  less than 1e-9 (dimensions are bounded), so with the slack added it is a bound as well.

Where codes prune little, as where all rows are alike, they are read no further than it takes to see that.
"""

from collections import deque
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rag_service import kernel
from rag_service.filters import ALL_LABELS, NO_ROWS, Conditions, Selection
from rag_service.kernel import BLOCK_ROWS
from rag_service.pruning.codes import Codes, empty_query
from rag_service.scoring import Ranked

_SEED_BLOCKS_MIN: Final = 64
"""The best rows of at least so many blocks are looked at first: with a good t, the rest is quickly left
out."""
_ONE_NUMBER: Final = np.zeros(1, dtype=np.int64)


class Space:
    """What one scan works in. Used by one scan at a time."""

    def __init__(self, dimension: int, block_count: int) -> None:
        """Room for so many blocks of positions."""
        self.block_count: Final = block_count
        self.query: Final = empty_query(dimension)
        self._bounds = np.empty(block_count * BLOCK_ROWS, dtype=np.float32)
        self._block_bounds = np.empty(block_count, dtype=np.float32)
        self._left = np.empty(block_count * BLOCK_ROWS, dtype=np.int64)
        self._sums = np.empty(BLOCK_ROWS, dtype=np.int32)
        self._chosen = np.empty(BLOCK_ROWS, dtype=np.int64)
        self._totals = np.empty(BLOCK_ROWS, dtype=np.float64)
        self._partials = np.empty(kernel.PARTIAL_COUNT, dtype=np.float64)
        self.block_counts: Final = np.empty(kernel.PROMISE_DEGREES, dtype=np.int64)

    def work(self, block_count: int) -> kernel.Work:
        """A part of it, for so many blocks."""
        return kernel.Work(
            bounds=self._bounds[: block_count * BLOCK_ROWS],
            block_bounds=self._block_bounds[:block_count],
            sums=self._sums,
            left=self._left,
            chosen=self._chosen,
            totals=self._totals,
            partials=self._partials,
        )


class Spaces:
    """Spaces that no scan works in; as many as scans ever ran at once. For any threads."""

    def __init__(self, dimension: int) -> None:
        """Holds none."""
        self._dimension = dimension
        self._free: deque[Space] = deque()

    def take(self, block_count: int) -> Space:
        """A space of at least so many blocks."""
        try:
            space = self._free.pop()
        except IndexError:
            space = None
        if space is None or space.block_count < block_count:
            # With room to grow: it is only used where it is written.
            space = Space(self._dimension, 2 * block_count)
        return space

    def give_back(self, space: Space) -> None:
        """Takes back a space that is not used any more."""
        self._free.append(space)


class PrunedScan:
    """The rows of a selection in the order of their likeness to a query, most of them never looked at."""

    def __init__(
        self,
        codes: Codes,
        selection: Selection,
        query: NDArray[np.float32],
        spaces: Spaces,
        *,
        reads_codes: bool = True,
    ) -> None:
        """Reads the codes.

        Args:
            codes: complete for the state of the selection, which has not been given back.
            selection: the rows to be ranked.
            query: unit vector.
            spaces: where to work.
            reads_codes: False where codes are known not to prune.
        """
        rows = NO_ROWS if selection.rows is None else selection.rows
        self.position_count: Final = selection.row_count if selection.rows is None else len(rows)
        block_count = -(-self.position_count // BLOCK_ROWS)
        self._spaces = spaces
        self._space = spaces.take(block_count)
        self._scan = kernel.Scan(
            columns=codes.columns,
            basis=codes.basis,
            filter=_filter(selection.conditions),
            rows=rows,
            position_count=self.position_count,
            query=self._space.query,
            work=self._space.work(block_count),
        )
        self._prunes = reads_codes
        self.left_count = 0
        """Positions that the first codes left when `best` was called last."""
        self.scored_count = 0
        """Positions that it scored then."""
        if self.position_count:
            # A copy: the kernel is compiled for arrays that can be written.
            kernel.begin(np.array(query), self._scan, reads_codes)

    def best(self, count: int) -> list[Ranked]:
        """The `count` best, best first; fewer when there are fewer."""
        if not self.position_count:
            return []
        count = min(count, self.position_count)
        found = kernel.Found(np.empty(count, dtype=np.float32), np.empty(count, dtype=np.int64))
        seed_max = max(_SEED_BLOCKS_MIN, 2 * count)
        seeds = kernel.Seeds(
            positions=np.empty(kernel.SEEDINGS_MAX * seed_max, dtype=np.int64),
            scores=np.empty(kernel.SEEDINGS_MAX * seed_max, dtype=np.float32),
            blocks=np.empty(seed_max, dtype=np.int64),
            block_counts=self._space.block_counts,
        )
        size, self._prunes, self.left_count, self.scored_count = kernel.best(
            self._scan, self._prunes, found, seeds
        )
        return [
            Ranked(score, row)
            for score, row in zip(found.scores[:size].tolist(), found.rows[:size].tolist(), strict=True)
        ]

    def drop(self, rows: NDArray[np.int64]) -> None:
        """Takes rows of the selection out."""
        listed = self._scan.rows
        kernel.leave_out(np.searchsorted(listed, rows) if listed.size else rows, self._scan)

    def close(self) -> None:
        """Gives the space back."""
        self._spaces.give_back(self._space)


def _filter(conditions: Conditions | None) -> kernel.Filter:
    if conditions is None:
        # The rows are listed and have passed.
        return kernel.Filter(
            born=_ONE_NUMBER,
            died=_ONE_NUMBER,
            generation=0,
            namespace_numbers=_ONE_NUMBER,
            namespaces=NO_ROWS,
            language_numbers=_ONE_NUMBER,
            languages=NO_ROWS,
            executed_ns=_ONE_NUMBER,
            since_ns=0,
            labelled=ALL_LABELS,
            excluded=NO_ROWS,
        )
    rows = conditions.rows
    return kernel.Filter(
        born=rows.born,
        died=rows.died,
        generation=conditions.generation,
        namespace_numbers=rows.namespace_numbers,
        namespaces=conditions.namespaces,
        language_numbers=rows.language_numbers,
        languages=conditions.languages,
        executed_ns=rows.executed_ns,
        since_ns=conditions.since_ns,
        labelled=conditions.labelled,
        excluded=conditions.excluded,
    )
