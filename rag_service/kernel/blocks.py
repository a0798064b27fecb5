"""What is known of positions: found in blocks, left out of them, and bounded more closely."""

from typing import Final

import numpy as np

from rag_service.kernel.arrays import BLOCK_ROWS, NEVER, Int64s, Scan, Work
from rag_service.kernel.bounds import first_bound, second_bound, whole_bound
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
    """Sets the bound of a block to the greatest of its positions."""
    greatest = NEVER
    for position in range(block * BLOCK_ROWS, (block + 1) * BLOCK_ROWS):
        greatest = max(greatest, work.bounds[position])
    work.block_bounds[block] = greatest


@exactly
def bound_listed(scan: Scan) -> None:
    """Bounds all positions, of rows that are listed, by their first codes."""
    for position in range(scan.position_count):
        scan.work.bounds[position] = first_bound(scan.rows[position], scan.columns.prefix, scan.query)


@exactly
def list_left(scan: Scan, least: np.float32) -> int:
    """Lists the positions with a bound of at least `least` in `work.left`; returns how many there are."""
    bounds, left = scan.work.bounds, scan.work.left
    count = 0
    for block in range(len(scan.work.block_bounds)):
        if scan.work.block_bounds[block] >= least:
            start = block * BLOCK_ROWS
            for position in range(start, min(start + BLOCK_ROWS, scan.position_count)):
                left[count] = position
                count += bounds[position] >= least
    return count


@exactly
def leave_out_failing(scan: Scan, left_count: int) -> None:
    """Leaves out what does not pass of the positions in `work.left`, which are rows."""
    work, block = scan.work, -1
    for place in range(left_count):
        row = work.left[place]
        if row // BLOCK_ROWS != block:
            if block >= 0:
                set_block_bound(block, work)
            block = row // BLOCK_ROWS
        if not passes(row, scan.filter):
            work.bounds[row] = NEVER
    if block >= 0:
        set_block_bound(block, work)


@exactly
def shares_pruned(scan: Scan, least: np.float32, left_count: int) -> tuple[float, float]:
    """Of a sample of the positions in `work.left`, the share that the second codes take, and that the codes
    of all elements take.
    """
    every = max(1, left_count // _SAMPLE_COUNT)
    looked_at = by_second = by_whole = 0
    for place in range(0, left_count, every):
        row = row_at(scan.work.left[place], scan.rows)
        looked_at += 1
        by_second += int(second_bound(row, scan.columns.prefix, scan.query) < least)
        by_whole += int(whole_bound(row, scan.columns.whole, scan.query) < least)
    return by_second / max(1, looked_at), by_whole / max(1, looked_at)


@exactly
def bound_by_whole(scan: Scan, left_count: int) -> None:
    """Bounds the positions in `work.left` by the codes of all their elements."""
    work, block = scan.work, -1
    for place in range(left_count):
        position = work.left[place]
        if position // BLOCK_ROWS != block:
            if block >= 0:
                set_block_bound(block, work)
            block = position // BLOCK_ROWS
        bound = whole_bound(row_at(position, scan.rows), scan.columns.whole, scan.query)
        work.bounds[position] = min(work.bounds[position], bound)
    if block >= 0:
        set_block_bound(block, work)
