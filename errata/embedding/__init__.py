"""From texts to unit vectors, the same in both services.

An embedder is named by a spec, as the flag takes it (`minilm`, `hashing`, `hashing:256`), and its vectors by
a fingerprint: only vectors of one fingerprint are ever compared.
"""

from errata.embedding.embedder import (
    Embedder,
    EmbedderError,
    EmbedderRejectedError,
    EmbedderUnavailableError,
    UnknownEmbedderError,
    build_embedder,
)
from errata.embedding.thread import EmbeddingThread

__all__ = [
    "Embedder",
    "EmbedderError",
    "EmbedderRejectedError",
    "EmbedderUnavailableError",
    "EmbeddingThread",
    "UnknownEmbedderError",
    "build_embedder",
]
