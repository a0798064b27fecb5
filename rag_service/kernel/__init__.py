"""The search kernel: bounds of rows from their codes, and the rows that may be among the best, scored.

The one package that numba compiles. It knows arrays alone, and runs without the interpreter's lock.
`pruned_scan.py` proves the bounds, `scoring.py` has the rule of scores.
"""

from rag_service.kernel.arrays import (
    BLOCK_ROWS,
    FACTOR_COUNT,
    PARTIAL_COUNT,
    PREFIX_LENGTH,
    PROMISE_DEGREES,
    SEEDINGS_MAX,
    WHOLE_MULTIPLE,
    WORD_BYTES,
    Basis,
    Columns,
    Filter,
    Found,
    Keys,
    PrefixCodes,
    Query,
    Scan,
    Seeds,
    WholeCodes,
    Work,
)
from rag_service.kernel.encoding import encode_prefix, encode_whole, store_keys
from rag_service.kernel.search import begin, best, leave_out

__all__ = [
    "BLOCK_ROWS",
    "FACTOR_COUNT",
    "PARTIAL_COUNT",
    "PREFIX_LENGTH",
    "PROMISE_DEGREES",
    "SEEDINGS_MAX",
    "WHOLE_MULTIPLE",
    "WORD_BYTES",
    "Basis",
    "Columns",
    "Filter",
    "Found",
    "Keys",
    "PrefixCodes",
    "Query",
    "Scan",
    "Seeds",
    "WholeCodes",
    "Work",
    "begin",
    "best",
    "encode_prefix",
    "encode_whole",
    "leave_out",
    "store_keys",
]
