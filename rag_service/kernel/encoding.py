"""Writes the codes and the keys of rows that no search sees."""

import numpy as np

from rag_service.kernel.arrays import (
    BLOCK_ROWS,
    CODE_MAX,
    PREFIX_LENGTH,
    REST_UNITS,
    ROUND_UP,
    SCALE_MIN,
    WORD_BYTES,
    Basis,
    Bytes,
    Floats,
    Int64s,
    Keys,
    PrefixCodes,
    Query,
    WholeCodes,
)
from rag_service.kernel.compiled import entry
from rag_service.kernel.products import dot, rotate


@entry
def encode_whole(embeddings: Floats, rows: Int64s, whole: WholeCodes) -> None:
    """Writes the codes of all elements of some rows."""
    for row in rows:
        elements = embeddings[row]
        greatest = 0.0
        for place in range(len(elements)):
            greatest = max(greatest, abs(np.float64(elements[place])))
        scale = np.float32(max(greatest / CODE_MAX, SCALE_MIN))
        exact_scale = np.float64(scale)
        residual = 0.0
        for place in range(len(elements)):
            element = np.float64(elements[place])
            code = max(-CODE_MAX, min(CODE_MAX, np.rint(element / exact_scale)))
            whole.codes[row, place] = np.int8(code)
            residual += (element - exact_scale * code) ** 2
        whole.norms[row, 0] = scale
        whole.norms[row, 1] = np.sqrt(residual) * ROUND_UP


@entry
def encode_prefix(embeddings: Floats, rows: Int64s, basis: Basis, prefix: PrefixCodes, moment: Query) -> None:
    """Writes the codes of the rotated elements of some rows.

    Args:
        embeddings: by row.
        rows: that are encoded.
        basis: of the codes.
        prefix: gets them.
        moment: overwritten.
    """
    rotated, exact = moment.rotated, moment.elements
    for row in rows:
        for place in range(len(exact)):
            exact[place] = embeddings[row, place]
        rotate(exact, basis.matrix, rotated)
        first_squared = first_residual = second_squared = second_residual = 0.0
        for place in range(PREFIX_LENGTH):
            first, second = rotated[place], rotated[PREFIX_LENGTH + place]
            first_code = max(-CODE_MAX, min(CODE_MAX, np.rint(first / basis.first_scale)))
            second_code = max(-CODE_MAX, min(CODE_MAX, np.rint(second / basis.second_scale)))
            prefix.first[row, place] = np.int8(first_code)
            prefix.second[row, place] = np.int8(second_code)
            first_squared += first**2
            second_squared += second**2
            first_residual += (first - basis.first_scale * first_code) ** 2
            second_residual += (second - basis.second_scale * second_code) ** 2
        outside_first = dot(embeddings[row], exact) - first_squared
        outside_both = outside_first - second_squared
        rest = np.sqrt(max(0.0, outside_first) + basis.error) * ROUND_UP
        prefix.first_rest[row] = np.uint8(np.ceil(rest * REST_UNITS))
        # Never less again: a search may still see a row of the block whose codes were worse.
        prefix.first_residual[row // BLOCK_ROWS] = max(
            prefix.first_residual[row // BLOCK_ROWS], np.float32(np.sqrt(first_residual) * ROUND_UP)
        )
        prefix.second_norms[row, 0] = np.sqrt(max(0.0, outside_both) + basis.error) * ROUND_UP
        prefix.second_norms[row, 1] = np.sqrt(first_residual + second_residual) * ROUND_UP


@entry
def store_keys(joined: Bytes, rows: Int64s, keys: Keys) -> None:
    """Copies the keys of some rows, which stand one after the other in `joined`, to where `keys` says."""
    taken = 0
    for row in rows:
        start, length = keys.starts[row], keys.lengths[row]
        for word in range((length + WORD_BYTES - 1) // WORD_BYTES):
            number = np.uint64(0)
            for place in range(word * WORD_BYTES, (word + 1) * WORD_BYTES):
                byte = np.uint64(joined[taken + place]) if place < length else np.uint64(0)
                number = (number << np.uint64(8)) | byte
            keys.arena[start + word] = number
        taken += length
