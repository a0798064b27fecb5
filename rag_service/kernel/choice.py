"""Chooses what is scored: first what promises most, then whatever may still be among the best."""

from typing import Final

import numpy as np

from rag_service.kernel.arrays import (
    BLOCK_ROWS,
    NEVER,
    NEVER_MAX,
    PROMISE_DEGREES,
    SLACK,
    Columns,
    Flag,
    Floats,
    Found,
    Int64s,
    Query,
    Scan,
    Seeds,
)
from rag_service.kernel.blocks import row_at
from rag_service.kernel.bounds import second_bound, whole_bound
from rag_service.kernel.compiled import exactly
from rag_service.kernel.order import least_score, offer
from rag_service.kernel.passing import passes
from rag_service.kernel.products import dot, rule_score, two_dots

_PROMISE_SPREAD: Final = np.float32(512)
"""Degrees of promise to a difference of bounds of 1."""


@exactly
def _is_pruned(
    position: int, row: int, least: np.float32, columns: Columns, query: Query, bounds: Floats
) -> bool:
    """Bounds a position more closely, as closely as it takes to tell that it is not among the best."""
    bounds[position] = min(bounds[position], second_bound(row, columns.prefix, query))
    if bounds[position] >= least:
        bounds[position] = min(bounds[position], whole_bound(row, columns.whole, query))
    return bool(bounds[position] < least)


@exactly
def _best_passing(block: int, scan: Scan) -> int:
    """The position of a block with the greatest bound of those that pass; -1 when none does."""
    bounds = scan.work.bounds
    greatest = -1
    for position in range(block * BLOCK_ROWS, (block + 1) * BLOCK_ROWS):
        if bounds[position] > NEVER_MAX and (greatest < 0 or bounds[position] > bounds[greatest]):
            if len(scan.rows) > 0 or passes(position, scan.filter):
                greatest = position
            else:
                bounds[position] = NEVER
    return greatest


@exactly
def _find_promising(block_bounds: Floats, seeds: Seeds) -> int:
    """Puts the blocks with the greatest bounds into `seeds.blocks`, the greatest first, more or less.

    Returns:
        How many there are: as many as there is room for, but no empty ones.
    """
    counts, greatest = seeds.block_counts, NEVER_MAX
    counts[:] = 0
    for block in range(len(block_bounds)):
        greatest = max(greatest, block_bounds[block])
    for block in range(len(block_bounds)):
        if block_bounds[block] > NEVER_MAX:
            counts[_promise_degree(block_bounds[block], greatest)] += 1
    # From how many blocks there are of each degree to the place of the next of them.
    place = 0
    for degree in range(len(counts)):
        count = counts[degree]
        counts[degree] = place
        place += count
    for block in range(len(block_bounds)):
        if block_bounds[block] > NEVER_MAX:
            degree = _promise_degree(block_bounds[block], greatest)
            if counts[degree] < len(seeds.blocks):
                seeds.blocks[counts[degree]] = block
                counts[degree] += 1
    return min(place, len(seeds.blocks))


@exactly
def _promise_degree(bound: np.float32, greatest: np.float32) -> int:
    return min(int((greatest - bound) * _PROMISE_SPREAD), PROMISE_DEGREES - 1)


@exactly
def score_seeds(
    scan: Scan, prunes: Flag, found: Found, seeds: Seeds, size: int, seed_count: int
) -> tuple[int, int]:
    """Scores the most promising position of each of the most promising blocks.

    Returns:
        How many were found, and how many seeds there are then.
    """
    columns, query, work = scan.columns, scan.query, scan.work
    for promising in range(_find_promising(work.block_bounds, seeds)):
        block, least = seeds.blocks[promising], least_score(found, size)
        position = _best_passing(block, scan)
        if position < 0 or work.bounds[position] < least:
            continue
        row = row_at(position, scan.rows)
        if prunes and least > NEVER_MAX and _is_pruned(position, row, least, columns, query, work.bounds):
            continue
        total = dot(columns.embeddings[row], query.elements)
        score = rule_score(columns.embeddings[row], query.elements, total, work.partials)
        size = offer(score, row, found, size, columns.keys)
        seeds.positions[seed_count], seeds.scores[seed_count] = position, score
        seed_count += 1
        work.bounds[position] = NEVER
    return size, seed_count


@exactly
def _choose(start: int, end: int, scan: Scan, passed: Flag, prunes: Flag, least: np.float32) -> int:
    """Puts those of a run of `work.left` that may be among the best into `work.chosen`; returns how many."""
    bounds, chosen, rows, left = scan.work.bounds, scan.work.chosen, scan.rows, scan.work.left
    count = 0
    for place in range(start, end):
        chosen[count] = left[place]
        count += bounds[left[place]] >= least
    # Bounds first, then decisions: what one needs from memory is fetched while another waits for it.
    if prunes:
        for place in range(count):
            bound = second_bound(row_at(chosen[place], rows), scan.columns.prefix, scan.query)
            bounds[chosen[place]] = min(bounds[chosen[place]], bound)
        count = _keep_least(bounds, chosen, count, least)
    if not passed:
        for place in range(count):
            if not passes(chosen[place], scan.filter):
                bounds[chosen[place]] = NEVER
        count = _keep_least(bounds, chosen, count, least)
    if prunes:
        for place in range(count):
            bound = whole_bound(row_at(chosen[place], rows), scan.columns.whole, scan.query)
            bounds[chosen[place]] = min(bounds[chosen[place]], bound)
        count = _keep_least(bounds, chosen, count, least)
    return count


@exactly
def _keep_least(bounds: Floats, chosen: Int64s, count: int, least: np.float32) -> int:
    """Keeps of the first `count` chosen those with a bound of at least `least`; returns how many."""
    kept = 0
    for place in range(count):
        position = chosen[place]
        chosen[kept] = position
        kept += bounds[position] >= least
    return kept


@exactly
def score_left(
    scan: Scan, left_count: int, passed: Flag, prunes: Flag, found: Found, size: int
) -> tuple[int, int]:
    """Scores every position of `work.left` that may be among the best; returns how many were found, and how
    many scored.
    """
    embeddings, keys, elements = scan.columns.embeddings, scan.columns.keys, scan.query.elements
    bounds, chosen, totals = scan.work.bounds, scan.work.chosen, scan.work.totals
    scored = 0
    for start in range(0, left_count, BLOCK_ROWS):
        least = least_score(found, size)
        count = _choose(start, min(start + BLOCK_ROWS, left_count), scan, passed, prunes, least)
        scored += count
        half = (count + 1) // 2
        for place in range(count // 2):
            totals[place], totals[half + place] = two_dots(
                embeddings[row_at(chosen[place], scan.rows)],
                embeddings[row_at(chosen[half + place], scan.rows)],
                elements,
            )
        if count % 2:
            totals[half - 1] = dot(embeddings[row_at(chosen[half - 1], scan.rows)], elements)
        for place in range(count):
            position = chosen[place]
            bounds[position] = totals[place] + SLACK
            if bounds[position] >= least_score(found, size):
                row = row_at(position, scan.rows)
                score = rule_score(embeddings[row], elements, totals[place], scan.work.partials)
                bounds[position] = score
                size = offer(score, row, found, size, keys)
    return size, scored
