"""Products of rows, and of their codes, with a query; and the score."""

from typing import Any, Final, cast

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from rag_service.kernel.arrays import BLOCK_ROWS, PREFIX_LENGTH, Doubles, Floats, Int8s, Int16s, Int32s
from rag_service.kernel.compiled import exactly, in_any_order

_GROUP_ROWS: Final = 16
"""Their sums fill one vector of the widest that CPUs have."""


@in_any_order
def dot(row: Floats, query: Doubles) -> float:
    """A sum in float64."""
    total = 0.0
    for element in range(len(query)):
        total += np.float64(row[element]) * query[element]
    return total


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
def rule_score(row: Floats, query: Doubles, partials: Doubles) -> np.float32:
    """The score by the rule of `scoring.py`, which also proves the errors that are assumed here."""
    total = dot(row, query)
    error = (len(query) + 4) * 2.0**-52 * 1.01
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
    total = np.int32(0)
    for element in range(len(query)):
        total += np.int32(codes[element]) * np.int32(query[element])
    return np.float32(total)


@intrinsic
def _set_products(_: Any, codes: Any, query: Any, products: Any) -> Any:
    """Writes the products of the first codes of `_GROUP_ROWS` rows with those of a query.

    As a matrix product would: each instruction works on many elements, and the sums of all these rows come
    together in one vector. What LLVM makes of loops takes twice as long.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def vector(element_bits: int, count: int) -> ir.VectorType:
            return ir.VectorType(ir.IntType(element_bits), count)

        def loaded(pointer: ir.Value, kind: ir.VectorType) -> ir.Value:
            value = builder.load(builder.bitcast(pointer, kind.as_pointer()))
            value.align = 1
            return builder.sext(value, vector(32, kind.count))

        def neighbours_added(first: ir.Value, second: ir.Value, count: int) -> ir.Value:
            """The sums of neighbours in two vectors, of `count` elements together."""
            even, odd = (
                builder.shuffle_vector(
                    first, second, ir.Constant(vector(32, count // 2), list(range(start, count, 2)))
                )
                for start in (0, 1)
            )
            return builder.add(even, odd)

        codes_at, query_at, products_at = (
            cast("Any", make_array)(kind)(context, builder, argument).data
            for kind, argument in zip(signature.args, arguments, strict=True)
        )
        query_codes = loaded(query_at, vector(16, PREFIX_LENGTH))
        sums = []
        for row in range(_GROUP_ROWS):
            here = builder.gep(codes_at, [ir.Constant(ir.IntType(64), row * PREFIX_LENGTH)])
            multiplied = builder.mul(loaded(here, vector(8, PREFIX_LENGTH)), query_codes)
            pairs = neighbours_added(multiplied, multiplied, PREFIX_LENGTH)
            halves = (
                builder.shuffle_vector(
                    pairs,
                    pairs,
                    ir.Constant(vector(32, _GROUP_ROWS), list(range(start, start + _GROUP_ROWS))),
                )
                for start in (0, _GROUP_ROWS)
            )
            sums.append(builder.add(*halves))
        while len(sums) > 1:
            sums = [
                neighbours_added(first, second, 2 * _GROUP_ROWS)
                for first, second in zip(sums[::2], sums[1::2], strict=True)
            ]
        stored = builder.store(sums[0], builder.bitcast(products_at, vector(32, _GROUP_ROWS).as_pointer()))
        stored.align = 1
        return context.get_dummy_value()

    return types.void(codes, query, products), generate


@in_any_order
def set_block_products(codes: Int8s, query: Int16s, products: Int32s) -> None:
    """Writes the products of the first codes of `BLOCK_ROWS` rows with those of a query."""
    for group in range(0, BLOCK_ROWS, _GROUP_ROWS):
        # A function of numba's own making takes its first argument from numba.
        _set_products(codes[group:], query, products[group:])  # type: ignore[call-arg]
