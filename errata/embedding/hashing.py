"""An embedder without weights: signed hashing of words and of the character trigrams in them.

See Weinberger et al. 2009, feature hashing: each feature adds +1 or -1, by its hash, to one coordinate, so
that features that collide cancel on average. For tests, and for text made of identifiers, where a model that
knows English knows little. The same on every machine and in every process.
"""

import re
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from errata.embedding.embedder import LOCAL_DOCUMENTS_MAX, FloatMatrix
from errata.text import TEXT_RULES

DIMENSION_DEFAULT: Final = 384
DIMENSION_MIN: Final = 8
DIMENSION_MAX: Final = 4096

RULES: Final = "h1"
"""Changes whenever the same text would get another vector."""

TRIGRAM_WEIGHT: Final = 0.5
"""Of a trigram against 1 for its word: enough to bring inflected words near, too little to drown them."""

WORD_CHARACTERS_MAX: Final = 64
"""Longer words are taken in pieces, which bounds the size of an entry of the cache."""

CACHED_WORDS_MAX: Final = 16_384
"""Of one piece each: some 500 bytes for a word of prose, 1.5 KB at most."""

_GRAM_CHARACTERS: Final = 3
_WORD = re.compile(rf"\w{{1,{WORD_CHARACTERS_MAX}}}|[^\w\s]{{1,{WORD_CHARACTERS_MAX}}}")


class HashingEmbedder:
    """See the module. Safe to use from any thread."""

    documents_max = LOCAL_DOCUMENTS_MAX

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.spec = "hashing" if dimension == DIMENSION_DEFAULT else f"hashing:{dimension}"
        self.fingerprint = f"hashing/{RULES}/{dimension}/{TEXT_RULES}"

    def documents(self, texts: Sequence[str]) -> FloatMatrix:
        """One unit row a text."""
        matrix = np.empty((len(texts), self.dimension), np.float32)
        for row, text in enumerate(texts):
            matrix[row] = self._embed(text)
        return matrix

    def queries(self, texts: Sequence[str]) -> FloatMatrix:
        """The same: a question is a question."""
        return self.documents(texts)

    def close(self) -> None:
        """Holds nothing."""

    def _embed(self, text: str) -> NDArray[np.float64]:
        words = [_hashes(word) for word in _WORD.findall(text.casefold())]
        if words:
            hashes = np.concatenate([each[0] for each in words])
            weights = np.concatenate([each[1] for each in words])
            vector = np.bincount(hashes % self.dimension, weights, self.dimension).astype(np.float64)
            length = float(np.sqrt(vector @ vector))
            if length > 0:
                return vector / length
        # Nothing to hash, or all of it cancelled: some fixed unit vector.
        vector = np.zeros(self.dimension)
        vector[0] = 1.0
        return vector


@lru_cache(CACHED_WORDS_MAX)
def _hashes(word: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The hash and the signed weight of each feature of a word: the word itself and its trigrams."""
    framed = f" {word} "
    grams = [framed[at : at + _GRAM_CHARACTERS] for at in range(len(framed) - _GRAM_CHARACTERS + 1)]
    # The leading letter keeps the word "abc" apart from the trigram "abc".
    hashes = np.array(
        [zlib.crc32(f"w{word}".encode()), *(zlib.crc32(f"g{gram}".encode()) for gram in grams)], np.int64
    )
    weights = np.full(len(hashes), TRIGRAM_WEIGHT)
    weights[0] = 1.0
    # The lowest bit is the sign, the others choose the coordinate.
    return hashes >> 1, np.where(hashes & 1, weights, -weights)
