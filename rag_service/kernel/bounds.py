"""Bounds of the scores of rows by their codes; `pruned_scan.py` proves them."""

from typing import Final

import numpy as np

from rag_service.kernel.arrays import (
    BLOCK_ROWS,
    CODE_MAX,
    PREFIX_LENGTH,
    REST_UNITS,
    ROUND_UP,
    SCALE_MIN,
    SLACK,
    Basis,
    Doubles,
    Floats,
    Int16s,
    Int32s,
    PrefixCodes,
    Query,
    WholeCodes,
    Work,
)
from rag_service.kernel.compiled import exactly, in_any_order
from rag_service.kernel.products import code_dot, dot, rotate, set_block_products

_QUERY_CODE_MAX: Final = 32_767
_REST_FACTOR_MAX: Final = 4_000_000.0
"""With it and the greatest codes, the sums of `_set_sums` stay within int32."""
_INT32_MAX: Final = 2_147_483_647

# Places in `Query.factors`.
_FIRST_SCALE, _FIRST_REST, _FIRST_NORM, _FIRST_SLACK = 0, 1, 2, 3
_SECOND_FIRST_SCALE, _SECOND_SCALE, _SECOND_REST, _SECOND_NORM, _SECOND_SLACK = 4, 5, 6, 7, 8
_WHOLE_SCALE, _WHOLE_NORM, _WHOLE_SLACK = 9, 10, 11


@exactly
def _code_query(elements: Doubles, scale_min: float, codes: Int16s) -> tuple[float, float, float]:
    """Codes elements so that sums of products stay within int32; returns scale, residual and norm."""
    code_max = min(_QUERY_CODE_MAX, _INT32_MAX // (int(CODE_MAX) * len(elements)))
    greatest = residual = norm = 0.0
    for element in range(len(elements)):
        greatest = max(greatest, abs(elements[element]))
    scale = max(greatest / code_max, scale_min)
    for element in range(len(elements)):
        code = np.rint(elements[element] / scale)
        codes[element] = np.int16(code)
        residual += (elements[element] - scale * code) ** 2
        norm += (scale * code) ** 2
    return scale, np.sqrt(residual), np.sqrt(norm)


@exactly
def set_query(vector: Floats, basis: Basis, query: Query) -> None:
    """Codes a query, and computes the factors by which products and norms become bounds."""
    for place in range(len(vector)):
        query.elements[place] = vector[place]
    rotate(query.elements, basis.matrix, query.rotated)
    first_squared = both_squared = 0.0
    for direction in range(2 * PREFIX_LENGTH):
        both_squared += query.rotated[direction] ** 2
        if direction < PREFIX_LENGTH:
            first_squared += query.rotated[direction] ** 2
    first, second = query.rotated[:PREFIX_LENGTH], query.rotated[PREFIX_LENGTH:]
    squared = dot(vector, query.elements)
    first_rest = np.sqrt(max(0.0, squared - first_squared) + basis.error) * ROUND_UP / REST_UNITS
    second_rest = np.sqrt(max(0.0, squared - both_squared) + basis.error)
    first_scale, first_residual, first_norm = _code_query(
        first, first_rest / (basis.first_scale * _REST_FACTOR_MAX), query.first
    )
    second_scale, second_residual, second_norm = _code_query(second, SCALE_MIN, query.second)
    scale, residual, norm = _code_query(query.elements, SCALE_MIN, query.whole)
    factors, slack = query.factors, 2 * basis.error + SLACK
    factors[_FIRST_SCALE] = first_scale * basis.first_scale
    factors[_FIRST_REST] = np.ceil(first_rest / factors[_FIRST_SCALE])
    factors[_FIRST_NORM] = first_norm * ROUND_UP
    factors[_FIRST_SLACK] = first_residual * 1.01 + slack
    factors[_SECOND_FIRST_SCALE] = factors[_FIRST_SCALE]
    factors[_SECOND_SCALE] = second_scale * basis.second_scale
    factors[_SECOND_REST] = second_rest * ROUND_UP
    factors[_SECOND_NORM] = np.sqrt(first_norm**2 + second_norm**2) * ROUND_UP
    factors[_SECOND_SLACK] = (first_residual + second_residual) * 1.01 + slack
    factors[_WHOLE_SCALE] = scale
    factors[_WHOLE_NORM] = norm * ROUND_UP
    factors[_WHOLE_SLACK] = residual * 1.01 + SLACK


@in_any_order
def _set_sums(start: int, prefix: PrefixCodes, query: Query, sums: Int32s) -> None:
    """For each row of a block, what its bound by the first codes has not in common with the others."""
    set_block_products(prefix.first[start:], query.first, sums)
    rest, factor = prefix.first_rest[start : start + BLOCK_ROWS], np.int32(query.factors[_FIRST_REST])
    for place in range(BLOCK_ROWS):
        sums[place] = np.int32(sums[place] + factor * np.int32(rest[place]))


@in_any_order
def bound_blocks(prefix: PrefixCodes, query: Query, work: Work) -> None:
    """Bounds the rows of all blocks, from row 0 on, by their first codes."""
    scale, norm, slack = query.factors[_FIRST_SCALE], query.factors[_FIRST_NORM], query.factors[_FIRST_SLACK]
    bounds, block_bounds, sums = work.bounds, work.block_bounds, work.sums
    for block in range(len(block_bounds)):
        start = block * BLOCK_ROWS
        _set_sums(start, prefix, query, sums)
        added = norm * prefix.first_residual[block] + slack
        greatest = np.int32(-_INT32_MAX)
        for place in range(BLOCK_ROWS):
            greatest = max(greatest, sums[place])
        for place in range(BLOCK_ROWS):
            bounds[start + place] = scale * np.float32(sums[place]) + added
        block_bounds[block] = scale * np.float32(greatest) + added


@in_any_order
def first_bound(row: int, prefix: PrefixCodes, query: Query) -> np.float32:
    """The bound of a row by its first codes."""
    factors = query.factors
    rest = factors[_FIRST_REST] * np.float32(prefix.first_rest[row])
    return np.float32(
        factors[_FIRST_SCALE] * (code_dot(prefix.first[row], query.first) + rest)
        + factors[_FIRST_NORM] * prefix.first_residual[row // BLOCK_ROWS]
        + factors[_FIRST_SLACK]
    )


@in_any_order
def second_bound(row: int, prefix: PrefixCodes, query: Query) -> np.float32:
    """The bound of a row by its first and second codes."""
    factors = query.factors
    return np.float32(
        factors[_SECOND_FIRST_SCALE] * code_dot(prefix.first[row], query.first)
        + factors[_SECOND_SCALE] * code_dot(prefix.second[row], query.second)
        + factors[_SECOND_REST] * prefix.second_norms[row, 0]
        + factors[_SECOND_NORM] * prefix.second_norms[row, 1]
        + factors[_SECOND_SLACK]
    )


@in_any_order
def whole_bound(row: int, whole: WholeCodes, query: Query) -> np.float32:
    """The bound of a row by the codes of all its elements."""
    factors = query.factors
    return np.float32(
        factors[_WHOLE_SCALE] * (whole.norms[row, 0] * code_dot(whole.codes[row], query.whole))
        + factors[_WHOLE_NORM] * whole.norms[row, 1]
        + factors[_WHOLE_SLACK]
    )
