"""Which rows pass."""

from rag_service.kernel.arrays import Filter, Int64s
from rag_service.kernel.compiled import exactly


@exactly
def _is_among(value: int, rising: Int64s) -> bool:
    low, high = 0, len(rising)
    while low < high:
        middle = (low + high) // 2
        if rising[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low < len(rising) and rising[low] == value


@exactly
def passes(row: int, wanted: Filter) -> bool:
    """Whether one row passes."""
    return (
        wanted.born[row] <= wanted.generation < wanted.died[row]
        and _is_among(wanted.namespace_numbers[row], wanted.namespaces)
        and (len(wanted.languages) == 0 or _is_among(wanted.language_numbers[row], wanted.languages))
        and wanted.executed_ns[row] >= wanted.since_ns
        and (len(wanted.labelled) == 0 or wanted.labelled[row])
        and (len(wanted.excluded) == 0 or not _is_among(row, wanted.excluded))
    )
