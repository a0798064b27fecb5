"""Our search and that of others, in one run: `python -m bench.search_peers`, or `make bench-peers`.

    in this process   Errata's ExampleIndex, numpy float32, a float64 matrix with a full sort, faiss, hnswlib
    over its own API  Errata's Search over gRPC, chromadb, PostgreSQL with pgvector, milvus-lite

On real embeddings (NL2Bash, and more rows grown from it), on clusters of near-duplicates, which is what
corrections of one command are, and on data made to be hard. The systems take turns of ten queries, so a busy
machine slows them alike; systems that look at a part of the rows are tuned to a recall of 0.99 first,
where they reach it. One question at a time, one thread a search.

A system that is not installed, or does not start, is named as missing. What was measured is kept beside
`--results`, a file a size, and made into one table and one plot with what earlier runs measured.
"""

import os

# One thread, like the others; numpy looks at this once, when it is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from bench.filled_index import filled_index
from bench.peer_results import Measured, Run, write
from bench.peers.in_process import FaissFlat, HnswLib, NumpyFloat32, NumpyFloat64Sorted, Ours
from bench.peers.over_network import Chroma, ErrataService, MilvusLite, PgVector, PgVectorHnsw
from bench.peers.peer import Peer, PeerMissingError, Truth, Vectors
from bench.report import machine_line, percentile, print_table, progress
from bench.search_data import Corpus, hard, real, unit_rows

BuildPeer = Callable[[Vectors, int], Peer]

PEERS: Mapping[str, BuildPeer] = {
    "errata": Ours,
    "numpy": NumpyFloat32,
    "float64": NumpyFloat64Sorted,
    "faiss": FaissFlat,
    "hnswlib": HnswLib,
    "errata-grpc": ErrataService,
    "chromadb": Chroma,
    "pgvector": PgVector,
    "pgvector-hnsw": PgVectorHnsw,
    "milvus-lite": MilvusLite,
}
HARD_PEERS = ("errata", "numpy", "float64", "faiss")
"""Of the hard data only these: it is about what pruning does at its worst, and a graph of equal rows takes
many minutes to build."""
DATA = ("real", "near-duplicates", "hard")
RESULTS = Path(__file__).parent / "results"
CLUSTER_ROWS = 100
"""Near-duplicates of one row."""
WARM_UP_QUERIES = 5
TURN_QUERIES = 10
"""Asked of one system before the next has its turn: each finds the caches of the CPU as it left them."""


def main() -> None:
    """Measures, prints and keeps."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--dimension", type=int, choices=(384, 1536), default=384)
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--queries", type=int, default=100, help="timed, each asked once (default 100)")
    parser.add_argument("--limit", type=int, default=10, help="results of a search (default 10)")
    parser.add_argument("--results", type=Path, default=RESULTS, help=f"folder (default {RESULTS})")
    arguments = parser.parse_args()
    print(machine_line())
    # Compiles the kernel where no earlier process has: that is no part of what a size takes to be ready.
    filled_index(unit_rows(np.ones((1, arguments.dimension))))
    for row_count in arguments.rows:
        measured: list[Measured] = []
        for kind in arguments.data:
            for name, corpus in _corpora(kind, row_count, arguments.queries, arguments.dimension):
                peers = [peer for peer in arguments.peers if kind != "hard" or peer in HARD_PEERS]
                some = measure(name, corpus, peers, arguments.limit)
                _print(name, corpus, some)
                measured += some
                # After each: a run that is broken off has not been in vain.
                write(
                    arguments.results,
                    Run(
                        machine=machine_line(),
                        row_count=row_count,
                        dimension=arguments.dimension,
                        limit=arguments.limit,
                        query_count=arguments.queries,
                        measured=measured,
                    ),
                )


def measure(data: str, corpus: Corpus, names: Sequence[str], limit: int) -> list[Measured]:
    """Asks every query of every peer, in turns."""
    truth = Truth(corpus.rows, corpus.queries, limit)
    measured: list[Measured] = []
    with ExitStack() as closing:
        peers: list[tuple[Peer, float]] = []
        for name in names:
            progress(f"{data}, {len(corpus.rows):,} rows: {name}")
            begin_s = time.perf_counter()
            try:
                peer = PEERS[name](corpus.rows, limit)
            except PeerMissingError as error:
                measured.append(Measured(data=data, peer=name, missing=str(error)))
                continue
            build_s = time.perf_counter() - begin_s
            closing.callback(peer.close)
            peer.tune(truth)
            peers.append((peer, build_s))
        progress(f"{data}, {len(corpus.rows):,} rows: asking")
        times_s = _times_s([peer for peer, _ in peers], corpus.queries)
        for (peer, build_s), taken_s in zip(peers, times_s, strict=True):
            measured.append(
                Measured(
                    data=data,
                    peer=peer.name,
                    median_ms=statistics.median(taken_s) * 1e3,
                    p95_ms=percentile(taken_s, 95) * 1e3,
                    recall=truth.recall(peer),
                    build_s=build_s,
                    memory=peer.memory if isinstance(peer, ErrataService) else "",
                )
            )
    return measured


def near_duplicates(row_count: int, query_count: int, dimension: int) -> Corpus:
    """Real rows, each `CLUSTER_ROWS` times with a little noise, and queries near some of them."""
    centre_count = max(1, row_count // CLUSTER_ROWS)
    centres, queries = real(centre_count, query_count, dimension)
    generator = np.random.default_rng(row_count)
    rows = np.repeat(centres, -(-row_count // centre_count), axis=0)[:row_count]
    noise = generator.standard_normal(rows.shape, dtype=np.float32)
    # Of length 0.05 to 1: two of a cluster have a cosine of about 0.997.
    rows = unit_rows(rows + noise * np.float32(0.05 / np.sqrt(dimension)))
    return Corpus(generator.permutation(rows), queries)


def _corpora(kind: str, row_count: int, query_count: int, dimension: int) -> Iterator[tuple[str, Corpus]]:
    if kind == "real":
        yield "real", real(row_count, query_count, dimension)
    elif kind == "near-duplicates":
        yield "near-duplicates", near_duplicates(row_count, query_count, dimension)
    else:
        yield from hard(row_count, query_count, dimension).items()


def _times_s(peers: Sequence[Peer], queries: Vectors) -> list[list[float]]:
    for peer in peers:
        for query in queries[:WARM_UP_QUERIES]:
            peer.search(query)
    times_s: list[list[float]] = [[] for _ in peers]
    for start in range(0, len(queries), TURN_QUERIES):
        for peer, taken_s in zip(peers, times_s, strict=True):
            for query in queries[start : start + TURN_QUERIES]:
                begin_s = time.perf_counter()
                peer.search(query)
                taken_s.append(time.perf_counter() - begin_s)
    return times_s


def _print(name: str, corpus: Corpus, measured: Sequence[Measured]) -> None:
    rows = [
        (each.peer, "", "", "", f"missing: {each.missing}")
        if each.missing
        else (
            each.peer,
            f"{each.median_ms:.3f}",
            f"{each.p95_ms:.3f}",
            f"{each.recall:.3f}",
            f"{each.build_s:.1f} s",
        )
        for each in measured
    ]
    row_count, dimension = corpus.rows.shape
    print_table(
        f"{name}, {row_count:,} x {dimension}", ("", "median ms", "p95 ms", "recall", "ready after"), rows
    )
    for each in measured:
        if each.memory:
            print(f"{each.peer}: {each.memory}")


if __name__ == "__main__":
    main()
