"""An embedder that works only when a test lets it."""

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from errata.embedding import Embedder, EmbedderRejectedError, build_embedder

REFUSED = "refused"
BROKEN = "broken"


class GatedEmbedder:
    """Embeds by hashing, one call for each `let_pass`; refuses `REFUSED` and has a bug with `BROKEN`."""

    def __init__(self, *, open_gate: bool = False) -> None:
        self._embedder: Embedder = build_embedder("hashing:16")
        self.spec = self._embedder.spec
        self.fingerprint = self._embedder.fingerprint
        self.dimension = self._embedder.dimension
        self.documents_max = self._embedder.documents_max
        self.calls: list[tuple[str, list[str]]] = []
        """The kind and the texts of each call, in the order in which they began."""
        self.threads: set[threading.Thread] = set()
        """Those that called."""
        self._open_gate = open_gate
        self._begun = threading.Semaphore(0)
        self._gate = threading.Semaphore(0)

    def wait_until_begun(self) -> None:
        """Returns when one call more has begun."""
        assert self._begun.acquire(timeout=30)

    def let_pass(self, count: int = 1) -> None:
        """Lets so many calls end."""
        self._gate.release(count)

    def documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._embed("documents", texts)

    def queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._embed("queries", texts)

    def close(self) -> None:
        """Holds nothing."""

    def _embed(self, kind: str, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls.append((kind, list(texts)))
        self.threads.add(threading.current_thread())
        self._begun.release()
        if not self._open_gate:
            assert self._gate.acquire(timeout=30)
        if REFUSED in texts:
            raise EmbedderRejectedError(REFUSED)
        if BROKEN in texts:
            raise ZeroDivisionError(BROKEN)
        return self._embedder.queries(texts)
