"""Products of rows, and of their codes, with a query; and the score."""

from typing import Final

import numpy as np

from rag_service.kernel.arrays import BLOCK_ROWS, Doubles, Floats, Int8s, Int16s, Int32s
from rag_service.kernel.compiled import exactly, in_any_order
from rag_service.kernel.vectors import GROUP_ROWS, code_product, set_group_products

SUM_ERROR: Final = 2.0**-52 * 1.01
"""See `scoring.py`: of a sum of products, for each of its terms and four more."""


@in_any_order
def dot(row: Floats, query: Doubles) -> float:
    """A sum in float64."""
    total = 0.0
    for element in range(len(query)):
        total += np.float64(row[element]) * query[element]
    return total


@in_any_order
def two_dots(row: Floats, other: Floats, query: Doubles) -> tuple[float, float]:
    """The `dot` of two rows: memory gives more to who reads in two places."""
    total = other_total = 0.0
    for element in range(len(query)):
        total += np.float64(row[element]) * query[element]
        other_total += np.float64(other[element]) * query[element]
    return total, other_total


@exactly
def rotate(vector: Doubles, matrix: Floats, rotated: Doubles) -> None:
    """Writes the products of a vector with each row of a matrix that has an even number of them."""
    for direction in range(0, len(rotated), 2):
        rotated[direction], rotated[direction + 1] = two_dots(
            matrix[direction], matrix[direction + 1], vector
        )


@in_any_order
def _absolute_dot(row: Floats, query: Doubles) -> float:
    """The sum of the absolute values of what `dot` sums."""
    total = 0.0
    for element in range(len(query)):
        total += abs(np.float64(row[element]) * query[element])
    return total


@exactly
def _exact_dot(row: Floats, query: Doubles, partials: Doubles) -> float:
    """The float64 nearest to the exact sum, as `math.fsum` has it (Shewchuk 1997)."""
    count = 0
    for element in range(len(query)):
        high = np.float64(row[element]) * query[element]
        kept = 0
        for place in range(count):
            other = partials[place]
            total = high + other
            larger, smaller = (high, other) if abs(high) >= abs(other) else (other, high)
            low = smaller - (total - larger)
            if low != 0.0:
                partials[kept] = low
                kept += 1
            high = total
        partials[kept] = high
        count = kept + 1
    high = partials[count - 1]
    for place in range(count - 2, -1, -1):
        other = partials[place]
        total = high + other
        low = other - (total - high)
        high = total
        if low != 0.0:
            # Where the sum is half-way between two numbers, the partials below decide.
            if place > 0 and ((low < 0.0) == (partials[place - 1] < 0.0)):
                twice = low * 2.0
                away = high + twice
                if away - high == twice:
                    high = away
            break
    return float(high)


@exactly
def rule_score(row: Floats, query: Doubles, total: float, partials: Doubles) -> np.float32:
    """The score by the rule of `scoring.py`, which also proves the errors that are assumed here.

    Args:
        row: a unit vector.
        query: likewise.
        total: their `dot`.
        partials: overwritten.
    """
    error = (len(query) + 4) * SUM_ERROR
    score = np.float32(total - error)
    if score != np.float32(total + error):
        error *= _absolute_dot(row, query)
        score = np.float32(total - error)
        if score != np.float32(total + error):
            score = np.float32(_exact_dot(row, query, partials))
    # Adding 0 makes -0 a 0.
    return np.float32(min(max(score, np.float32(-1)), np.float32(1)) + np.float32(0))


@in_any_order
def code_dot(codes: Int8s, query: Int16s) -> np.float32:
    """The product of the codes of a row with those of a query: an integer, rounded to float32."""
    # A function of numba's own making takes its first argument from numba.
    return np.float32(code_product(codes, query))  # type: ignore[call-arg]


@in_any_order
def set_block_products(codes: Int8s, query: Int16s, products: Int32s) -> None:
    """Writes the products of the first codes of `BLOCK_ROWS` rows with those of a query."""
    for group in range(0, BLOCK_ROWS, GROUP_ROWS):
        set_group_products(codes[group:], query, products[group:])  # type: ignore[call-arg]
