"""The rows with the greatest values, ties by key: the order that every answer of the index follows."""

import heapq
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def greatest(
    rows: NDArray[np.int64],
    values: NDArray[np.float32] | NDArray[np.int64],
    keys: Sequence[bytes],
    count: int,
) -> list[int]:
    """Positions in `rows` of the `count` with the greatest values, greatest first, at equal values the
    smaller key.

    Args:
        rows: rows, each once.
        values: of these rows, none NaN.
        keys: by row; different for different rows of equal value.
        count: at least 1; when there are fewer rows, all are returned.
    """

    def key_at(position: int) -> bytes:
        return keys[int(rows[position])]

    if len(rows) <= count:
        chosen = list(range(len(rows)))
    else:
        last = np.partition(values, len(values) - count)[len(values) - count]
        chosen = np.flatnonzero(values > last).tolist()
        # Equal values may be very many: only as many keys as are wanted are put in order.
        ties = np.flatnonzero(values == last).tolist()
        chosen += heapq.nsmallest(count - len(chosen), ties, key=key_at)
    chosen.sort(key=lambda position: (-values.item(position), key_at(position)))
    return chosen
