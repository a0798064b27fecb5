"""What counts as a unit vector."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

LENGTH_ERROR_MAX: Final = 1e-6
"""A unit vector's length is 1 within this. Normalising in float64 and rounding to float32 errs by at most
6e-8; the bounds of `scoring.py` rely on the limit."""


def length(vector: NDArray[np.float32]) -> float:
    """The Euclidean length, computed in float64; NaN or infinite when an element is."""
    exact = vector.astype(np.float64)
    return math.sqrt(float(exact @ exact))


def lengths(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """The length of each row of a matrix, likewise."""
    exact = rows.astype(np.float64)
    squares: NDArray[np.float64] = np.einsum("ij,ij->i", exact, exact)
    return np.sqrt(squares)


def is_unit_length(length: float) -> bool:
    """Tells whether this is the length of a unit vector; false for NaN."""
    return abs(length - 1.0) <= LENGTH_ERROR_MAX


def are_unit_lengths(lengths: NDArray[np.float64]) -> NDArray[np.bool_]:
    """For each length the same."""
    within: NDArray[np.bool_] = np.abs(lengths - 1.0) <= LENGTH_ERROR_MAX
    return within
