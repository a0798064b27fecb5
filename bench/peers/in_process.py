"""Systems that search within this process, each with one thread a search."""

import os
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from bench.feed_store import place_of
from bench.filled_index import filled_index
from bench.peers.peer import Truth, Vectors, library, tuned
from errata.v1.example_pb2 import Example
from rag_service.index import IndexAnswer, IndexQuery

HNSW_LINKS = 16
HNSW_CONSTRUCTION = 200
HNSW_BREADTHS = (16, 32, 64, 128, 256, 512, 1024)


class Exact:
    """What systems that look at every row have in common."""

    def tune(self, truth: Truth) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Holds nothing but memory."""


class Ours(Exact):
    """`ExampleIndex.search`, as the RAG service calls it."""

    name = "Errata ExampleIndex"

    def __init__(self, rows: Vectors, limit: int) -> None:
        """Takes the rows in as updates, as from a Learner."""
        self._limit = limit
        self._index = filled_index(rows)

    def search(self, query: Vectors) -> IndexAnswer:
        """See `Peer`."""
        return self._index.search(IndexQuery(embedding=query, limit=self._limit))

    def rows(self, found: object) -> Sequence[int]:
        """See `Peer`."""
        hits = cast("IndexAnswer", found).hits
        return [place_of(Example.FromString(hit.example)) for hit in hits]


class NumpyFloat32(Exact):
    """One product of the whole matrix with the query, and a partition."""

    name = "numpy float32"

    def __init__(self, rows: Vectors, limit: int) -> None:
        self._rows = rows
        self._limit = limit

    def search(self, query: Vectors) -> NDArray[np.int64]:
        """See `Peer`."""
        products = self._rows @ query
        best = np.argpartition(products, -self._limit)[-self._limit :]
        return best[np.argsort(-products[best])]

    def rows(self, found: object) -> Sequence[int]:
        """See `Peer`."""
        return cast("list[int]", cast("NDArray[np.int64]", found).tolist())


class NumpyFloat64Sorted(NumpyFloat32):
    """The same as it is first written: a matrix of float64, and everything sorted."""

    name = "numpy float64, full sort"

    def __init__(self, rows: Vectors, limit: int) -> None:
        super().__init__(rows, limit)
        self._exact_rows = rows.astype(np.float64)

    def search(self, query: Vectors) -> NDArray[np.int64]:
        """See `Peer`."""
        return np.argsort(-(self._exact_rows @ query.astype(np.float64)))[: self._limit]


class FaissFlat(Exact):
    """faiss, every row compared."""

    name = "faiss IndexFlatIP"

    def __init__(self, rows: Vectors, limit: int) -> None:
        faiss = library("faiss")
        faiss.omp_set_num_threads(1)
        self._limit = limit
        self._index = faiss.IndexFlatIP(rows.shape[1])
        self._index.add(rows)

    def search(self, query: Vectors) -> Any:
        """See `Peer`."""
        return self._index.search(query[np.newaxis], self._limit)

    def rows(self, found: object) -> Sequence[int]:
        """See `Peer`."""
        _, numbers = cast("tuple[Any, NDArray[np.int64]]", found)
        return cast("list[int]", numbers[0].tolist())


class HnswLib:
    """hnswlib, its breadth of search tuned."""

    def __init__(self, rows: Vectors, limit: int) -> None:
        hnswlib = library("hnswlib")
        self._limit = limit
        self._breadth = 0
        self._index = hnswlib.Index(space="ip", dim=rows.shape[1])
        self._index.init_index(max_elements=len(rows), M=HNSW_LINKS, ef_construction=HNSW_CONSTRUCTION)
        self._index.add_items(rows, np.arange(len(rows)), num_threads=os.cpu_count() or 1)
        self._index.set_num_threads(1)

    @property
    def name(self) -> str:
        """See `Peer`."""
        return f"hnswlib, ef {self._breadth}"

    def search(self, query: Vectors) -> Any:
        """See `Peer`."""
        return self._index.knn_query(query, k=self._limit)

    def rows(self, found: object) -> Sequence[int]:
        """See `Peer`."""
        numbers, _ = cast("tuple[NDArray[np.uint64], Any]", found)
        return cast("list[int]", numbers[0].tolist())

    def tune(self, truth: Truth) -> None:
        """See `Peer`."""
        for breadth in tuned(self, truth, HNSW_BREADTHS):
            self._breadth = breadth
            self._index.set_ef(max(self._breadth, self._limit))

    def close(self) -> None:
        """Holds nothing but memory."""
