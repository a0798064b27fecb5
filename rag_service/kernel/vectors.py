"""Products of codes as vector instructions: what LLVM makes of loops takes two to eight times as long.

Written for vectors of 512 bits; LLVM splits them where a CPU has shorter ones. Sums are exact: nobody who
calls this lets one leave int32.
"""

from typing import Any, Final, cast

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from rag_service.kernel.arrays import PREFIX_LENGTH, WHOLE_MULTIPLE

GROUP_ROWS: Final = 16
"""Their sums fill one vector."""

_SUMS: Final = 16
"""Numbers of 32 bits in a vector."""
_HALF: Final = 2 * _SUMS
"""Codes that are multiplied at once, so that the sums of neighbours fill one vector."""


def _kind(element_bits: int, count: int) -> ir.VectorType:
    return ir.VectorType(ir.IntType(element_bits), count)


def _index(number: int) -> ir.Constant:
    return ir.Constant(ir.IntType(64), number)


def _data(context: Any, builder: Any, signature: Any, arguments: Any) -> list[ir.Value]:
    """Where the elements of arrays are."""
    return [
        cast("Any", make_array)(kind)(context, builder, argument).data
        for kind, argument in zip(signature.args, arguments, strict=True)
    ]


def _loaded(builder: Any, pointer: ir.Value, kind: ir.VectorType) -> ir.Value:
    """A vector from memory, each element as 32 bits."""
    value = builder.load(builder.bitcast(pointer, kind.as_pointer()))
    value.align = 1
    return builder.sext(value, _kind(32, kind.count))


def _picked(builder: Any, first: ir.Value, second: ir.Value, places: list[int]) -> ir.Value:
    return builder.shuffle_vector(first, second, ir.Constant(_kind(32, len(places)), places))


def _neighbours_added(builder: Any, first: ir.Value, second: ir.Value, count: int) -> ir.Value:
    """The sums of neighbours in two vectors, which have `count` elements together."""
    even, odd = (_picked(builder, first, second, list(range(start, count, 2))) for start in (0, 1))
    return builder.add(even, odd)


@intrinsic
def code_product(_: Any, codes: Any, query: Any) -> Any:
    """The sum of the products of int8 codes with as many int16 codes, a multiple of `WHOLE_MULTIPLE`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        codes_at, query_at = _data(context, builder, signature, arguments)
        length = builder.extract_value(
            cast("Any", make_array)(signature.args[0])(context, builder, arguments[0]).shape, 0
        )
        nothing = ir.Constant(_kind(32, _SUMS), [0] * _SUMS)
        starts = range(0, WHOLE_MULTIPLE, _HALF)
        sums = [cast("Any", cgutils.alloca_once_value)(builder, nothing) for _ in starts]
        with cgutils.for_range_slice(builder, _index(0), length, _index(WHOLE_MULTIPLE), ir.IntType(64)) as (
            at,
            _,
        ):
            for start, summed in zip(starts, sums, strict=True):
                here = [builder.add(at, _index(start))]
                multiplied = builder.mul(
                    _loaded(builder, builder.gep(codes_at, here), _kind(8, _HALF)),
                    _loaded(builder, builder.gep(query_at, here), _kind(16, _HALF)),
                )
                added = _neighbours_added(builder, multiplied, multiplied, _HALF)
                builder.store(builder.add(builder.load(summed), added), summed)
        total = builder.load(sums[0])
        for summed in sums[1:]:
            total = builder.add(total, builder.load(summed))
        count = _SUMS
        while count > 1:
            total = _neighbours_added(builder, total, total, count)
            count //= 2
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    return types.int32(codes, query), generate


@intrinsic
def set_group_products(_: Any, codes: Any, query: Any, products: Any) -> Any:
    """Writes the products of the first codes of `GROUP_ROWS` rows with those of a query.

    As a matrix product would: the sums of all these rows come together in one vector.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        codes_at, query_at, products_at = _data(context, builder, signature, arguments)
        query_codes = _loaded(builder, query_at, _kind(16, PREFIX_LENGTH))
        sums = []
        for row in range(GROUP_ROWS):
            here = builder.gep(codes_at, [_index(row * PREFIX_LENGTH)])
            multiplied = builder.mul(_loaded(builder, here, _kind(8, PREFIX_LENGTH)), query_codes)
            pairs = _neighbours_added(builder, multiplied, multiplied, PREFIX_LENGTH)
            halves = (
                _picked(builder, pairs, pairs, list(range(start, start + _SUMS))) for start in (0, _SUMS)
            )
            sums.append(builder.add(*halves))
        while len(sums) > 1:
            sums = [
                _neighbours_added(builder, first, second, 2 * _SUMS)
                for first, second in zip(sums[::2], sums[1::2], strict=True)
            ]
        stored = builder.store(sums[0], builder.bitcast(products_at, _kind(32, _SUMS).as_pointer()))
        stored.align = 1
        return context.get_dummy_value()

    return types.void(codes, query, products), generate
