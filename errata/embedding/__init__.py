"""From texts to unit vectors, the same in both services.

An embedder is named by a spec, as the flag takes it (`minilm`, `hashing:256`, `openai:MODEL`), and its
vectors by a fingerprint: only vectors of one fingerprint are ever compared.
"""

from errata.embedding.embedder import (
    Embedder,
    EmbedderError,
    EmbedderRejectedError,
    EmbedderUnavailableError,
)
from errata.embedding.settings import EmbedderSettings
from errata.embedding.specs import UnknownEmbedderError, build_embedder, check_embedder
from errata.embedding.thread import EmbeddingThread

__all__ = [
    "Embedder",
    "EmbedderError",
    "EmbedderRejectedError",
    "EmbedderSettings",
    "EmbedderUnavailableError",
    "EmbeddingThread",
    "UnknownEmbedderError",
    "build_embedder",
    "check_embedder",
]
