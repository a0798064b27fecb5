"""The arrays that the kernel works on, and the numbers that those who make them must know.

A scan is of positions: those of `rows`, or, where that is empty, the rows themselves from 0 on. For each of
them `bounds` holds a number that its score does not exceed, and `block_bounds` one for each block. Both only
go down. `NEVER` stands for what does not pass, and is below `NEVER_MAX`.
"""

from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

PREFIX_LENGTH: Final = 64
"""Rotated elements in the first codes, and in the second."""
BLOCK_ROWS: Final = 64
"""Rows, or positions, of a block."""
FACTOR_COUNT: Final = 12
PARTIAL_COUNT: Final = 64
"""Any sum of float64 is exact in 40 that do not overlap."""
SEEDINGS_MAX: Final = 3
PROMISE_DEGREES: Final = 1024
WHOLE_MULTIPLE: Final = 64
"""Codes of all elements are filled up with zeros to a multiple of so many."""
WORD_BYTES: Final = 8
"""Bytes of a key that are compared at once."""
NEVER: Final = np.float32(-99)
NEVER_MAX: Final = np.float32(-9)
"""Less than every score."""
SLACK: Final = 4e-6
"""Part of every bound; makes one of a sum in float64."""
ROUND_UP: Final = 1.0000002
"""Exceeds the relative errors of a norm in float64 and of its rounding to float32."""
REST_UNITS: Final = 250.0
CODE_MAX: Final = 127.0
SCALE_MIN: Final = 1e-30

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]
Bools = NDArray[np.bool_]
Int8s = NDArray[np.int8]
Int16s = NDArray[np.int16]
Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Flag: TypeAlias = bool
"""Handed on by position, as everything is between functions that numba compiles."""


class Basis(NamedTuple):
    """What rows are rotated by, and the scales of the codes; see `rotation.py`."""

    matrix: Floats
    """Shape (2 x `PREFIX_LENGTH`, dimension), C order."""
    first_scale: float
    second_scale: float
    error: float


class PrefixCodes(NamedTuple):
    """By row, if not said otherwise, the codes of its first rotated elements. All norms are rounded up."""

    first: Int8s
    """Shape (rows, `PREFIX_LENGTH`): each element over the scale, rounded."""
    first_rest: Bytes
    """Norm of the row outside these directions, in units of 1 / `REST_UNITS`."""
    first_residual: Floats
    """By block, the greatest norm of the difference that rounding made in these directions."""
    second: Int8s
    """Of the elements that follow."""
    second_norms: Floats
    """Shape (rows, 2): norm of the row outside the directions of both, and norm of the difference that
    rounding made in these."""


class WholeCodes(NamedTuple):
    """By row, the codes of all its elements as they are."""

    codes: Int8s
    """Shape (rows, dimension up to a multiple of `WHOLE_MULTIPLE`)."""
    norms: Floats
    """Shape (rows, 2): scale, and norm of the difference that rounding made, rounded up."""


class Keys(NamedTuple):
    """By row, where in the arena its key stands: words of `WORD_BYTES` bytes, the first byte the greatest
    part of the number, so that numbers are in the order of bytes. The last word is filled up with zeros.
    """

    arena: Words
    starts: Int64s
    """In words."""
    lengths: Int64s
    """In bytes."""


class Columns(NamedTuple):
    """All that is kept by row."""

    embeddings: Floats
    prefix: PrefixCodes
    whole: WholeCodes
    keys: Keys


class Filter(NamedTuple):
    """What a row must pass; columns are by row. Rows that are listed have passed it."""

    born: Int64s
    died: Int64s
    generation: int
    namespace_numbers: Int64s
    namespaces: Int64s
    """Rising."""
    language_numbers: Int64s
    languages: Int64s
    """Rising; empty when every language passes."""
    executed_ns: Int64s
    since_ns: int
    labelled: Bools
    """By row; empty when labels do not matter."""
    excluded: Int64s
    """Rows, rising."""


class Query(NamedTuple):
    """A query, its codes, and the factors that make bounds of products; see `bounds.set_query`."""

    elements: Doubles
    rotated: Doubles
    first: Int16s
    second: Int16s
    whole: Int16s
    factors: Floats


class Work(NamedTuple):
    """What is known of the positions, in whole blocks."""

    bounds: Floats
    """By position, `NEVER` beyond the last one."""
    block_bounds: Floats
    sums: Int32s
    """Of a block, for the moment."""
    left: Int64s
    """The positions that may be among the best, rising; as many as there are."""
    chosen: Int64s
    """As many of these as a block has, for the moment."""
    totals: Doubles
    """Their products, for the moment."""
    partials: Doubles
    """Of a sum, for the moment."""


class Scan(NamedTuple):
    """One scan: what is searched, for what, and how far it is known."""

    columns: Columns
    basis: Basis
    filter: Filter
    rows: Int64s
    """Of the positions, when they are listed."""
    position_count: int
    query: Query
    work: Work


class Found(NamedTuple):
    """A heap: the best rows so far, the last of them on top."""

    scores: Floats
    rows: Int64s


class Seeds(NamedTuple):
    """Positions that are scored before all others. Their bounds are `NEVER` meanwhile: none comes twice."""

    positions: Int64s
    """Room for `SEEDINGS_MAX` as many as there are `blocks`."""
    scores: Floats
    blocks: Int64s
    """Promising ones, for the moment."""
    block_counts: Int64s
    """Of so many degrees of promise, for the moment; as long as `PROMISE_DEGREES`."""
