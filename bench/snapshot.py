"""What a snapshot costs, and what it saves: `python -m bench.snapshot`.

    write     from the capture at a bookmark to the durable name, and what the searches of another thread feel
    load      from the open file to an index that answers, without the embedder
    serve     from the start of a process to SERVING, with nobody at the Learner's address
    record    one deletion, made durable before its bookmark is acknowledged

Beside it stands what receiving the same examples from a Learner takes at the least: applying them. The files
are in the page cache when they are read, as after the restart of a process, not of the machine.
"""

import os

# As in the service; numpy looks at this once, when it is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import asyncio
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bench.report import MIB, machine_line, percentile, print_table, progress, spread
from bench.search_data import Vectors, clustered
from bench.search_index import batches
from errata.embedding import Embedder, build_embedder
from errata.serving.logs import configure_logs
from errata.v1.learner_pb2 import Epoch, WatchBookmark
from rag_service.clock import SystemClock
from rag_service.embedders import Embedders
from rag_service.index import ExampleIndex, IndexQuery
from rag_service.mirror import Mirror, Source
from rag_service.progress import Progress
from rag_service.read_your_writes import Epochs
from rag_service.snapshot.directory import SnapshotDirectory
from rag_service.snapshot.keeper import SnapshotKeeper
from rag_service.snapshot.start import read_replica
from scripts.processes import start

WRITE_S_MAX = 600.0
IDLE_S = 3.0
RECORD_COUNT = 50


def main() -> None:
    """Measures every size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--embedder", default="minilm", help="named in the snapshot (default minilm)")
    arguments = parser.parse_args()
    configure_logs("warning")
    embedder = build_embedder(arguments.embedder)
    print(machine_line())
    table = [_measured(rows, arguments.runs, embedder) for rows in arguments.rows]
    print_table(
        f"{embedder.spec}, {embedder.dimension} dimensions, {arguments.runs} runs",
        [
            "examples",
            "MiB",
            "write ms",
            "load ms",
            "serve ms",
            "apply ms",
            "record ms",
            "search ms p50/p99",
            "while written",
        ],
        table,
    )


def _measured(row_count: int, run_count: int, embedder: Embedder) -> list[str]:
    progress(f"{row_count:,} examples: making them")
    mirror, apply_s, query = _mirror(row_count, embedder)
    with tempfile.TemporaryDirectory(prefix="errata-bench-") as folder:
        path = Path(folder) / "snapshots"
        progress("searching")
        with _searching(mirror, query) as idle_ms:
            time.sleep(IDLE_S)
        progress("writing")
        write_ms, busy_ms = [], []
        for _ in range(run_count):
            with _searching(mirror, query) as searched_ms:
                write_ms.append(1e3 * asyncio.run(_write(mirror, path)))
            busy_ms += searched_ms
        snapshot_bytes = (path / "snapshot").stat().st_size
        progress("loading")
        load_ms = [1e3 * asyncio.run(_load(path, embedder)) for _ in range(run_count)]
        record_ms = [1e3 * taken_s for taken_s in asyncio.run(_record(path, embedder))]
        progress("starting processes")
        serve_ms = [1e3 * _serve(path) for _ in range(run_count)]
    return [
        f"{row_count:,}",
        f"{snapshot_bytes / MIB:.1f}",
        spread(write_ms),
        spread(load_ms),
        spread(serve_ms),
        f"{1e3 * apply_s:,.0f}",
        f"{percentile(record_ms, 50):.1f}",
        _latencies(idle_ms),
        _latencies(busy_ms),
    ]


def _mirror(row_count: int, embedder: Embedder) -> tuple[Mirror, float, Vectors]:
    """A mirror that holds so many examples at a bookmark, the seconds that applying took, and a query."""
    clock = SystemClock()
    mirror = Mirror(build_index=_build_index, progress=Progress(clock=clock), clock=clock)
    mirror.open(
        Source(
            store_id=b"bench",
            epochs=Epochs([Epoch(nonce=1)]),
            embedder=_Named(embedder),
            embedder_spec=embedder.spec,
        )
    )
    rows = clustered(np.random.default_rng(row_count), row_count + 1, embedder.dimension)
    apply_s = 0.0
    for batch in batches(rows[:-1], 1):
        begin_s = time.perf_counter()
        mirror.receive(batch)
        apply_s += time.perf_counter() - begin_s
    receiving = mirror.receiving
    if receiving is None:
        raise RuntimeError("the mirror receives nothing")
    mirror.bookmark(
        WatchBookmark(
            token=b"bench",
            revision=row_count,
            example_count=row_count,
            digest=receiving.index.digest,
        )
    )
    return mirror, apply_s, rows[-1]


async def _write(mirror: Mirror, path: Path) -> float:
    directory = SnapshotDirectory(path)
    with ThreadPoolExecutor(1) as writer, ThreadPoolExecutor(1) as files:
        directory.acquire()
        keeper = SnapshotKeeper(
            directory=directory,
            mirror=mirror,
            namespaces=(),
            clock=SystemClock(),
            wall_us=_wall_us,
            writer=writer,
            files=files,
        )
        keeper.bookmarked()
        begin_s = time.perf_counter()
        await keeper.finish(within_s=WRITE_S_MAX)
        taken_s = time.perf_counter() - begin_s
    directory.close()
    return taken_s


async def _load(path: Path, embedder: Embedder) -> float:
    directory = SnapshotDirectory(path)
    directory.acquire()
    begin_s = time.perf_counter()
    await _read(directory, embedder)
    taken_s = time.perf_counter() - begin_s
    directory.close()
    return taken_s


async def _read(directory: SnapshotDirectory, embedder: Embedder) -> None:
    async def built(_: str, __: object) -> "_Named":
        return _Named(embedder)

    replica = await read_replica(
        directory=directory,
        embedders=Embedders(build=built),
        build_index=_build_index,
        namespaces=(),
        clock=SystemClock(),
        wall_us=_wall_us,
    )
    if replica is None:
        raise RuntimeError("the snapshot was not used")


async def _record(path: Path, embedder: Embedder) -> list[float]:
    directory = SnapshotDirectory(path)
    directory.acquire()
    await _read(directory, embedder)
    durations_s = []
    for number in range(RECORD_COUNT):
        begin_s = time.perf_counter()
        directory.record({b"\0gone-%d" % number: number})
        durations_s.append(time.perf_counter() - begin_s)
    directory.close()
    return durations_s


def _serve(path: Path) -> float:
    begin_s = time.perf_counter()
    # Nobody answers at the discard port.
    with start("rag_service", "--snapshot-dir", str(path), "--learner", "127.0.0.1:9"):
        return time.perf_counter() - begin_s


@contextmanager
def _searching(mirror: Mirror, embedding: Vectors) -> Iterator[list[float]]:
    """The milliseconds of each of the searches that another thread makes meanwhile, one after the other."""
    live = mirror.live
    if live is None:
        raise RuntimeError("the mirror has no state")
    query, times_ms, ended = IndexQuery(embedding=embedding), list[float](), threading.Event()

    def search() -> None:
        while not ended.is_set():
            begin_s = time.perf_counter()
            live.index.search(query)
            times_ms.append(1e3 * (time.perf_counter() - begin_s))
            # As questions come: not all the time.
            time.sleep(0.01)

    searching = threading.Thread(target=search)
    searching.start()
    try:
        yield times_ms
    finally:
        ended.set()
        searching.join()


def _latencies(times_ms: list[float]) -> str:
    return f"{percentile(times_ms, 50):.1f} / {percentile(times_ms, 99):.1f}"


class _Named:
    """Stands for an embedder that nobody asks anything."""

    def __init__(self, embedder: Embedder) -> None:
        self.fingerprint = embedder.fingerprint
        self.dimension = embedder.dimension

    async def query(self, text: str) -> Vectors:
        raise NotImplementedError(text)

    async def close(self) -> None:
        pass


def _build_index(dimension: int) -> ExampleIndex:
    return ExampleIndex(dimension=dimension)


def _wall_us() -> int:
    return time.time_ns() // 1_000


if __name__ == "__main__":
    main()
