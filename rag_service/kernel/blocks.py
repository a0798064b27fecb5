"""Blocks of positions: opened when something in them may be among the best, and bounded more closely."""

from typing import Final

import numpy as np

from rag_service.kernel.arrays import BLOCK_ROWS, NEVER, Int64s, Scan, Work
from rag_service.kernel.bounds import bound_rows, first_bound, second_bound, whole_bound
from rag_service.kernel.compiled import exactly, in_any_order
from rag_service.kernel.passing import passes

_SAMPLE_COUNT: Final = 256
"""Positions that are looked at to tell what more codes would prune of those that the first leave."""


@exactly
def row_at(position: int, rows: Int64s) -> int:
    """The row of a position."""
    return int(rows[position]) if len(rows) > 0 else position


@in_any_order
def set_block_bound(block: int, work: Work) -> None:
    """Sets the bound of an open block to the greatest of its positions."""
    greatest = NEVER
    for position in range(block * BLOCK_ROWS, (block + 1) * BLOCK_ROWS):
        greatest = max(greatest, work.bounds[position])
    work.block_bounds[block] = greatest


@in_any_order
def open_block(block: int, scan: Scan) -> None:
    """Sets the bounds of the positions of a block, if they are not yet."""
    prefix, query, work = scan.columns.prefix, scan.query, scan.work
    if work.block_open[block]:
        return
    start = block * BLOCK_ROWS
    end = min(start + BLOCK_ROWS, scan.position_count)
    if len(scan.rows) > 0:
        for position in range(start, end):
            work.bounds[position] = first_bound(scan.rows[position], prefix, query)
    else:
        bound_rows(block, prefix, query, work)
    work.bounds[end : start + BLOCK_ROWS] = NEVER
    work.block_open[block] = True
    set_block_bound(block, work)


@exactly
def count_left(scan: Scan, least: np.float32) -> int:
    """How many positions have a bound of at least `least`; opens their blocks."""
    work, left = scan.work, 0
    for block in range(len(work.block_bounds)):
        if work.block_bounds[block] >= least:
            open_block(block, scan)
            for position in range(block * BLOCK_ROWS, (block + 1) * BLOCK_ROWS):
                left += work.bounds[position] >= least
    return left


@exactly
def leave_out_failing(scan: Scan, least: np.float32) -> None:
    """Leaves out what does not pass, in the blocks where anything has a bound of at least `least`."""
    bounds = scan.work.bounds
    for block in range(len(scan.work.block_bounds)):
        if scan.work.block_bounds[block] >= least:
            open_block(block, scan)
            for row in range(block * BLOCK_ROWS, (block + 1) * BLOCK_ROWS):
                if bounds[row] > NEVER and not passes(row, scan.filter):
                    bounds[row] = NEVER
            set_block_bound(block, scan.work)


@exactly
def shares_pruned(scan: Scan, least: np.float32, left: int) -> tuple[float, float]:
    """Of a sample of the positions that are left, the share that the second codes take, and that the codes of
    all elements take; the blocks are open.
    """
    work, columns = scan.work, scan.columns
    every = max(1, left // _SAMPLE_COUNT)
    seen = looked_at = by_second = by_whole = 0
    for block in range(len(work.block_bounds)):
        if work.block_bounds[block] >= least:
            for position in range(block * BLOCK_ROWS, (block + 1) * BLOCK_ROWS):
                if work.bounds[position] >= least:
                    seen += 1
                    if seen % every == 0:
                        row = row_at(position, scan.rows)
                        looked_at += 1
                        by_second += int(second_bound(row, columns.prefix, scan.query) < least)
                        by_whole += int(whole_bound(row, columns.whole, scan.query) < least)
    return by_second / max(1, looked_at), by_whole / max(1, looked_at)


@exactly
def bound_by_whole(scan: Scan, least: np.float32) -> None:
    """Bounds what has a bound of at least `least` by the codes of all elements; the blocks are open."""
    bounds = scan.work.bounds
    for block in range(len(scan.work.block_bounds)):
        if scan.work.block_bounds[block] >= least:
            for position in range(block * BLOCK_ROWS, (block + 1) * BLOCK_ROWS):
                if bounds[position] >= least:
                    row = row_at(position, scan.rows)
                    bound = whole_bound(row, scan.columns.whole, scan.query)
                    bounds[position] = min(bounds[position], bound)
            set_block_bound(block, scan.work)
