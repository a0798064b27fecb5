"""The order of an answer: score down, then the bytes of the key up; and the best rows so far."""

import numpy as np

from rag_service.kernel.arrays import NEVER_MAX, WORD_BYTES, Found, Keys
from rag_service.kernel.compiled import exactly


@exactly
def is_before(score: np.float32, row: int, other_score: np.float32, other_row: int, keys: Keys) -> bool:
    """Whether a row stands before another: score down, then the bytes of the key up."""
    if score != other_score:
        return bool(score > other_score)
    start, length = keys.starts[row], keys.lengths[row]
    other_start, other_length = keys.starts[other_row], keys.lengths[other_row]
    for place in range((min(length, other_length) + WORD_BYTES - 1) // WORD_BYTES):
        word, other_word = keys.arena[start + place], keys.arena[other_start + place]
        if word != other_word:
            return bool(word < other_word)
    # Up to here what one has more than the other is zeros, if anything: it is the start of the other.
    return bool(length < other_length)


@exactly
def sift_down(found: Found, size: int, keys: Keys) -> None:
    """Brings the row on top to where it belongs."""
    scores, rows = found
    at = 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and is_before(
            scores[child], rows[child], scores[child + 1], rows[child + 1], keys
        ):
            child += 1
        if is_before(scores[child], rows[child], scores[at], rows[at], keys):
            return
        scores[at], scores[child] = scores[child], scores[at]
        rows[at], rows[child] = rows[child], rows[at]
        at = child


@exactly
def offer(score: np.float32, row: int, found: Found, size: int, keys: Keys) -> int:
    """Takes in a row if there is room, or if it stands before the last one; returns the new size."""
    scores, rows = found
    if size == len(rows):
        if is_before(score, row, scores[0], rows[0], keys):
            scores[0], rows[0] = score, row
            sift_down(found, size, keys)
        return size
    at = size
    scores[at], rows[at] = score, row
    while at > 0:
        above = (at - 1) // 2
        if not is_before(scores[above], rows[above], scores[at], rows[at], keys):
            break
        scores[at], scores[above] = scores[above], scores[at]
        rows[at], rows[above] = rows[above], rows[at]
        at = above
    return size + 1


@exactly
def put_in_order(found: Found, size: int, keys: Keys) -> None:
    """Puts the best first."""
    scores, rows = found
    for last in range(size - 1, 0, -1):
        scores[0], scores[last] = scores[last], scores[0]
        rows[0], rows[last] = rows[last], rows[0]
        sift_down(found, last, keys)


@exactly
def least_score(found: Found, size: int) -> np.float32:
    """The score that a row must reach to be found."""
    return found.scores[0] if size == len(found.scores) else NEVER_MAX
