"""A scan from its beginning: bounds first, then the best."""

from typing import Final

import numpy as np

from rag_service.kernel.arrays import BLOCK_ROWS, NEVER, Flag, Floats, Found, Int64s, Scan, Seeds
from rag_service.kernel.blocks import (
    bound_by_whole,
    bound_listed,
    leave_out_failing,
    list_left,
    set_block_bound,
    shares_pruned,
)
from rag_service.kernel.bounds import bound_blocks, set_query
from rag_service.kernel.choice import score_left, score_seeds
from rag_service.kernel.compiled import entry
from rag_service.kernel.order import least_score, put_in_order

_UNKNOWN: Final = np.float32(9)
"""The bound of a row of which nothing is known."""
_PRUNED_SHARE_MIN: Final = 8
"""Codes prune well when they leave at most one position in so many."""
_MANY_LEFT_MIN: Final = 256
"""So few are never too many."""
_SHARE_PRUNED_MIN: Final = 0.3
"""Codes that prune less cost more time than they save."""


@entry
def begin(vector: Floats, scan: Scan, reads_codes: Flag) -> None:
    """Codes a query, and bounds every position.

    Args:
        vector: the query, a unit vector.
        scan: gets the query and the bounds; `work` has as many blocks as the positions need.
        reads_codes: whether to bound them by the first codes; otherwise all will be scored.
    """
    work = scan.work
    set_query(vector, scan.basis, scan.query)
    if not reads_codes:
        work.bounds[:] = _UNKNOWN
        work.block_bounds[:] = _UNKNOWN
    elif len(scan.rows) > 0:
        bound_listed(scan)
    else:
        bound_blocks(scan.columns.prefix, scan.query, work)
    work.bounds[scan.position_count :] = NEVER
    if len(scan.rows) > 0 and reads_codes:
        for block in range(len(work.block_bounds)):
            set_block_bound(block, work)
    elif scan.position_count < len(work.bounds):
        set_block_bound(len(work.block_bounds) - 1, work)


@entry
def best(scan: Scan, prunes: Flag, found: Found, seeds: Seeds) -> tuple[int, bool, int, int]:
    """The best of the positions that pass, best first.

    Args:
        scan: from `begin`. The bounds become closer; those of rows that were scored all but their scores.
        prunes: whether codes may tell more than the bounds do.
        found: gets the rows, as many as it has room for.
        seeds: room for as many as promise well; at least as many as `found` has room for.

    Returns:
        How many were found, and whether codes may still tell more. Then, of the positions, how many the first
        codes left, and how many were scored.
    """
    work = scan.work
    left_max = scan.position_count // _PRUNED_SHARE_MIN + _MANY_LEFT_MIN
    # Whether whatever may still be among the best is known to pass.
    passed = len(scan.rows) > 0
    size = seed_count = int(np.int64(0))
    size, seed_count = score_seeds(scan, prunes, found, seeds, size, seed_count)
    left = list_left(scan, least_score(found, size))
    if not passed and left > left_max:
        # Perhaps so many are left because what looks good does not pass. To look at all rows one after the
        # other is faster than between reading what they are scored by: memory is read ahead.
        leave_out_failing(scan, left)
        passed = True
        size, seed_count = score_seeds(scan, prunes, found, seeds, size, seed_count)
        left = list_left(scan, least_score(found, size))
    if prunes and left > left_max:
        by_second, by_whole = shares_pruned(scan, least_score(found, size), left)
        if by_second < _SHARE_PRUNED_MIN:
            if by_whole >= _SHARE_PRUNED_MIN:
                bound_by_whole(scan, left)
                size, seed_count = score_seeds(scan, prunes, found, seeds, size, seed_count)
                left = list_left(scan, least_score(found, size))
            prunes = False
    size, scored = score_left(scan, left, passed, prunes, found, size)
    for seed in range(seed_count):
        position, score = seeds.positions[seed], seeds.scores[seed]
        work.bounds[position] = score
        work.block_bounds[position // BLOCK_ROWS] = max(work.block_bounds[position // BLOCK_ROWS], score)
    put_in_order(found, size, scan.columns.keys)
    return size, prunes, left, scored + seed_count


@entry
def leave_out(positions: Int64s, scan: Scan) -> None:
    """Takes positions out of a scan, and makes ready for another `best`."""
    work = scan.work
    for position in positions:
        work.bounds[position] = NEVER
    for block in range(len(work.block_bounds)):
        set_block_bound(block, work)
