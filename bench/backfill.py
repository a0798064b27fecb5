"""What a backfill reads, and what it costs those who work meanwhile: `python -m bench.backfill`.

First: the rows that a backfill of 1,000 blocks reads, in stores of different sizes. They should follow the
blocks that match, not those that are there.

Then: how long a correction takes from RecordEvents until it is learned from, alone and beside a backfill, in
turns, so that a machine that others use disturbs both alike. The backfill either finds all as it should be,
or has to embed every question.
"""

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from prometheus_client import CollectorRegistry

from bench.report import machine_line, percentile, print_table, progress
from errata.embedding import EmbeddingThread, build_embedder
from errata.v1.block_pb2 import (
    BLOCK_KIND_CODE,
    BLOCK_KIND_MARKUP,
    Block,
    BlockEvent,
    BlockExecuted,
    Doc,
)
from errata.v1.learner_pb2 import (
    BackfillRequest,
    GetBackfillRequest,
    GetBackfillResponse,
    RecordEventsRequest,
)
from errata.v1.learner_pb2_grpc import LearnerServiceStub
from learner_service.backfill.calls import Backfills
from learner_service.backfill.feed import BackfillFeed
from learner_service.change_feed import EmbedderIdentity
from learner_service.clock import MonotonicClock
from learner_service.derive import Policy
from learner_service.keys import BlockKey
from learner_service.learning import Learning
from learner_service.reconciler import Reconciler
from learner_service.recorder import record_events
from learner_service.store.store import Store
from learner_service.store.tables import Table
from learner_service.store.write_transaction import WriteTransaction
from learner_service.workqueue.backoff import ExponentialBackoff
from learner_service.workqueue.metrics import QueueMetrics
from learner_service.workqueue.queue import WorkQueue
from scripts.processes import start

MATCHING_COUNT = 1_000
EVENTS_MAX = 1_000
STORE_BYTES_MAX = 1 << 34
CALL_S_MAX = 60.0
TURNS = 4


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--blocks",
        type=int,
        nargs="*",
        default=[20_000, 200_000],
        help="sizes of the stores whose reads count",
    )
    parser.add_argument("--count", type=int, default=100, help="corrections a turn (default 100)")
    parser.add_argument("--busy", type=int, default=8_000, help="blocks of the busy store (default 8000)")
    parser.add_argument(
        "--embedders", nargs="*", default=["hashing", "minilm"], help="embedders to measure with"
    )
    arguments = parser.parse_args()
    print(machine_line())
    if arguments.blocks:
        _print_reads(arguments.blocks)
    rows = [
        _live_row(embedder, embeds=embeds, count=arguments.count, block_count=arguments.busy)
        for embedder in arguments.embedders
        for embeds in (False, True)
    ]
    print_table(
        f"RecordEvents until learned from, {arguments.count * TURNS} corrections each, in ms",
        ["", "alone p50", "p90", "p99", "beside p50", "p90", "p99", "ratio p50", "p90", "p99", "blocks/s"],
        rows,
    )


# --- What is read.


@dataclass
class _CountingTable:
    """Counts each row that is read. Everything else goes through."""

    table: Table
    name: str
    reads: Counter[str]

    def get(self, key: bytes) -> bytes | None:
        self.reads[self.name] += 1
        return self.table.get(key)

    def scan(self, begin: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        for row in self.table.scan(begin):
            self.reads[self.name] += 1
            yield row

    def __len__(self) -> int:
        return len(self.table)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.table, name)


class _CountingStore(Store):
    """A store that counts the rows that it reads."""

    reads: Counter[str]

    def _tables(self, transaction: Any) -> Any:
        return {
            name: _CountingTable(table, name, self.reads)
            for name, table in super()._tables(transaction).items()
        }


def _print_reads(block_counts: list[int]) -> None:
    counts = {block_count: _reads(block_count) for block_count in block_counts}
    names = sorted({name for reads in counts.values() for name in reads})
    rows = [[name, *(f"{counts[each][name]:,}" for each in block_counts)] for name in names]
    rows.append(["all", *(f"{sum(counts[each].values()):,}" for each in block_counts)])
    print_table(
        f"Rows read by a backfill of {MATCHING_COUNT:,} blocks, by table and size of the store",
        ["", *(f"{each:,} blocks" for each in block_counts)],
        rows,
    )


def _reads(block_count: int) -> Counter[str]:
    with tempfile.TemporaryDirectory(prefix="errata-bench-") as folder:
        _CountingStore.reads = Counter()
        with _CountingStore.open(Path(folder), clock_us=_wall_us, bytes_max=STORE_BYTES_MAX) as store:
            _fill(store, block_count)
            with store.read() as transaction:
                times = (modified_us for modified_us, _ in transaction.blocks_before())
                start_us = [next(times) for _ in range(MATCHING_COUNT)][-1]
            store.reads.clear()
            ended = asyncio.run(_backfill(store, start_us))
            reads = Counter(store.reads)
    if ended.done_block_count != MATCHING_COUNT or ended.changed_block_count != MATCHING_COUNT:
        raise RuntimeError(f"not the backfill that was meant: {ended}")
    return reads


async def _backfill(store: Store, start_us: int) -> GetBackfillResponse:
    with EmbeddingThread(build_embedder("hashing")) as embedding:
        identity = EmbedderIdentity(
            spec="hashing", fingerprint=embedding.fingerprint, dimension=embedding.dimension
        )
        registry = CollectorRegistry()
        queue: WorkQueue[BlockKey] = WorkQueue(
            name="blocks",
            clock=MonotonicClock(),
            backoff=ExponentialBackoff(),
            metrics=QueueMetrics(registry),
        )
        reconciler = Reconciler(store=store, embedder=embedding, identity=identity, policy=Policy.EXECUTIONS)
        learning = Learning(store=store, reconciler=reconciler, queue=queue, wall_us=_wall_us)
        feed = BackfillFeed(store, learning.learn_again, MonotonicClock())
        learning.listen(feed)
        request = BackfillRequest(backfill_id="bench")
        request.start_time.FromMicroseconds(start_us)
        backfills = Backfills(store, feed.wake)
        tasks = [asyncio.create_task(learning.run()), asyncio.create_task(feed.run())]
        await backfills.begin(request)
        # Asking reads a row, too; rarely, it does not matter. No event tells of the end.
        while not (ended := await backfills.progress("bench")).HasField("end_time"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return ended


# --- What it costs others.


@dataclass
class _Latencies:
    """Of corrections, in seconds."""

    alone_s: list[float] = field(default_factory=list)
    beside_s: list[float] = field(default_factory=list)

    def cells(self) -> list[str]:
        alone, beside = (
            [percentile(each, at) for at in (50, 90, 99)] for each in (self.alone_s, self.beside_s)
        )
        ratios = (b / a for a, b in zip(alone, beside, strict=True))
        return [*(f"{each * 1e3:.1f}" for each in (*alone, *beside)), *(f"{each:.2f}" for each in ratios)]


def _live_row(embedder: str, *, embeds: bool, count: int, block_count: int) -> list[str]:
    name = f"{embedder}, " + ("all embedded" if embeds else "nothing changes")
    progress(f"{name}: filling a store of {block_count:,} blocks")
    latencies, speeds = _Latencies(), []
    with tempfile.TemporaryDirectory(prefix="errata-bench-") as folder:
        with Store.open(Path(folder), clock_us=_wall_us, bytes_max=STORE_BYTES_MAX) as store:
            _fill(store, block_count)
        # Under `corrections` a run of what nobody proposed gives no example, so nothing is to be embedded.
        policy = "executions" if embeds else "corrections"
        flags = ("--store-dir", folder, "--embedder", embedder, "--policy", policy)
        with start("learner_service", *flags) as learner, learner.sync_channel() as channel:
            stub = LearnerServiceStub(channel)
            numbers = iter(range(10**9))
            for turn in range(TURNS):
                progress(f"{name}: turn {turn + 1} of {TURNS}")
                latencies.alone_s += _corrections(stub, numbers, count, lambda: None)
                # What was embedded once is not embedded again: each turn has blocks of its own.
                backfill = _Repeated(stub, turn, [_namespace(turn)] if embeds else [])
                latencies.beside_s += _corrections(stub, numbers, count, backfill.keep_running)
                speeds.append(backfill.blocks_per_s())
                backfill.wait_for_end()
    return [name, *latencies.cells(), f"{percentile(speeds, 50):,.0f}"]


class _Repeated:
    """A backfill that begins again when it has ended."""

    def __init__(self, stub: LearnerServiceStub, turn: int, namespaces: list[str]) -> None:
        self._stub = stub
        self._turn = turn
        self._namespaces = namespaces
        self._number = 0
        self._done_before = 0
        self._begun_s = time.monotonic()
        self._begin()

    def keep_running(self) -> None:
        found = self._progress()
        if not found.HasField("end_time"):
            return
        if self._namespaces:
            raise RuntimeError("all was embedded before the corrections were through; pass a larger --busy")
        self._done_before += found.done_block_count
        self._number += 1
        self._begin()

    def blocks_per_s(self) -> float:
        done_count = self._done_before + self._progress().done_block_count
        return done_count / (time.monotonic() - self._begun_s)

    def wait_for_end(self) -> None:
        while not self._progress().HasField("end_time"):
            time.sleep(0.05)

    def _begin(self) -> None:
        request = BackfillRequest(backfill_id=self._id, namespaces=self._namespaces)
        self._stub.Backfill(request, timeout=CALL_S_MAX)

    def _progress(self) -> GetBackfillResponse:
        return self._stub.GetBackfill(GetBackfillRequest(backfill_id=self._id), timeout=CALL_S_MAX)

    @property
    def _id(self) -> str:
        return f"turn-{self._turn}-{self._number}"


def _corrections(
    stub: LearnerServiceStub, numbers: Iterator[int], count: int, between: Callable[[], None]
) -> list[float]:
    """How long each of some corrections took, until it was learned from."""
    durations_s = []
    for _ in range(count):
        between()
        number = next(numbers)
        request = RecordEventsRequest(events=[_taught(number)], learn_wait=Duration(seconds=int(CALL_S_MAX)))
        begin_s = time.perf_counter()
        response = stub.RecordEvents(request, timeout=CALL_S_MAX)
        durations_s.append(time.perf_counter() - begin_s)
        if response.pending_block_count:
            raise RuntimeError("a correction was not learned from")
    return durations_s


# --- Blocks.


def _fill(store: Store, block_count: int) -> None:
    """Stores blocks from which nothing was learned, and for which nothing waits."""
    for begin in range(0, block_count, EVENTS_MAX):
        events = [_run(number) for number in range(begin, min(begin + EVENTS_MAX, block_count))]
        store.submit(partial(_put, events=events)).result()


def _put(transaction: WriteTransaction, *, events: list[BlockEvent]) -> None:
    for key in record_events(transaction, events):
        transaction.delete_pending(key)


def _run(number: int) -> BlockEvent:
    executed = BlockExecuted(block=_code(f"certctl rotate --host h{number}"), doc=_question(number))
    namespace = _namespace(number % TURNS)
    return BlockEvent(namespace=namespace, block_id=f"block-{number}", event_time=_now(), executed=executed)


def _namespace(turn: int) -> str:
    return f"turn-{turn}"


def _taught(number: int) -> BlockEvent:
    event = BlockEvent(block_id=f"live-{number}", event_time=_now())
    event.taught.query.CopyFrom(_question(-number))
    event.taught.answer.append(_code(f"certctl renew --host h{number}"))
    return event


def _question(number: int) -> Doc:
    text = f"rotate the certificate of host number {number} in rack q{number * 7919 % 10007}"
    return Doc(blocks=[Block(kind=BLOCK_KIND_MARKUP, contents=text)])


def _code(contents: str) -> Block:
    return Block(kind=BLOCK_KIND_CODE, language="bash", contents=contents)


def _now() -> Timestamp:
    now = Timestamp()
    now.FromMicroseconds(_wall_us())
    return now


def _wall_us() -> int:
    return time.time_ns() // 1_000


if __name__ == "__main__":
    main()
