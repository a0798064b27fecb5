"""Directions along which a corpus has most of its length, so that a few elements of a row tell most of it.

The rows of a rotation are 2 x 64 orthonormal vectors: the 64 directions in which a sample has most of its
squared length, turned among themselves by a random rotation so that their elements are about equally large
and one scale of codes fits all, and the next 64 likewise. Lengths are not taken from the mean: what all rows
have in common is the first direction.

Any orthonormal vectors give right answers, and so does any scale; good ones make them fast.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from rag_service.kernel import PREFIX_LENGTH, Basis

SAMPLE_ROWS_MIN: Final = 1_000
"""From so many rows on a rotation is worth having; ten times as many give one that is hardly better."""
SAMPLE_ROWS_MAX: Final = 4_096

_DIRECTION_COUNT: Final = 2 * PREFIX_LENGTH
_OVERSAMPLED_COUNT: Final = 16
_ITERATION_COUNT: Final = 4
"""Subspace iterations: the cost of a decomposition would grow with the cube of the dimension."""
_CODE_MAX: Final = 127
_SCALE_MARGIN: Final = 1.2
"""Rows that are not in the sample may have larger elements. One that is larger still loses speed only."""


def fitted_basis(sample: NDArray[np.float32], seed: int = 0) -> Basis:
    """The rotation that fits a sample of rows.

    Args:
        sample: unit vectors, at least one.
        seed: of all that is random.
    """
    generator = np.random.default_rng(seed)
    dimension = sample.shape[1]
    directions = _main_directions(sample.astype(np.float64), generator)
    matrix = np.zeros((_DIRECTION_COUNT, dimension), dtype=np.float32)
    for start in range(0, len(directions), PREFIX_LENGTH):
        some = directions[start : start + PREFIX_LENGTH]
        turn, _ = np.linalg.qr(generator.standard_normal((len(some), len(some))))
        matrix[start : start + len(some)] = turn @ some
    elements = np.abs(sample @ matrix.T)
    return Basis(
        matrix=matrix,
        first_scale=_scale(elements[:, :PREFIX_LENGTH]),
        second_scale=_scale(elements[:, PREFIX_LENGTH:]),
        error=_error(matrix, len(directions)),
    )


def _main_directions(sample: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """At most `_DIRECTION_COUNT` orthonormal rows, those in which the sample is longest first."""
    dimension = sample.shape[1]
    count = min(dimension, _DIRECTION_COUNT + _OVERSAMPLED_COUNT)
    directions, _ = np.linalg.qr(generator.standard_normal((dimension, count)))
    for _ in range(_ITERATION_COUNT):
        directions, _ = np.linalg.qr(sample.T @ (sample @ directions))
    elements = sample @ directions
    _, turns = np.linalg.eigh(elements.T @ elements)
    main: NDArray[np.float64] = (directions @ turns[:, ::-1][:, :_DIRECTION_COUNT]).T
    return main


def _scale(elements: NDArray[np.float32]) -> float:
    return max(float(elements.max()), 1e-6) * _SCALE_MARGIN / _CODE_MAX


def _error(matrix: NDArray[np.float32], direction_count: int) -> float:
    """See `pruned_scan`: four times as much as the rows are off being orthonormal."""
    exact = matrix.astype(np.float64)
    wanted = np.diag((np.arange(_DIRECTION_COUNT) < direction_count).astype(np.float64))
    return 4 * float(np.linalg.norm(exact @ exact.T - wanted)) + 1e-12
