"""How fast events become examples: `python -m bench.learning`.

With an embedder that costs nothing: NL2Bash corrections are redacted, recorded in requests of 500 events, and
learned, everything durable, from the first request to the last example. With `minilm`: the rate of learning
beside the rates at which the embedder alone turns the same questions into vectors, in turns, so that what
else the machine does falls on all of them alike. Alone, it is given as many at once as learning gives it, and
then all at once, which is best for it: it sorts them by length. Rates of a second of processor time depend
less on what else the machine does than those of a second.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import numpy as np
from prometheus_client import CollectorRegistry

from bench.report import machine_line, print_table, progress
from errata.cli.clock import increasing_clock_us
from errata.cli.events import row_events
from errata.cli.rows import Row
from errata.embedding import Embedder, EmbeddingThread, build_embedder
from errata.embedding.embedder import LOCAL_DOCUMENTS_MAX, FloatMatrix
from errata.text import query_from_text
from errata.v1.block_pb2 import BlockEvent
from learner_service.__main__ import SWITCH_INTERVAL_S
from learner_service.change_feed import EmbedderIdentity
from learner_service.clock import MonotonicClock
from learner_service.derive import Policy
from learner_service.keys import BlockKey
from learner_service.learning import BATCH_KEYS_MAX, Learning
from learner_service.reconciler import DocumentEmbedder, Reconciler
from learner_service.recorder import Recorder
from learner_service.store.store import Store
from learner_service.workqueue.backoff import ExponentialBackoff
from learner_service.workqueue.metrics import QueueMetrics
from learner_service.workqueue.queue import WorkQueue

DATA: Final = Path(__file__).resolve().parent.parent / "data" / "nl2bash" / "learn.jsonl"
DIMENSION: Final = 384
EVENTS_PER_REQUEST: Final = 500
LEARN_S_MAX: Final = 600.0
MINILM_ROUNDS: Final = 9


class Rate(NamedTuple):
    """How much was done."""

    of_a_second: float
    of_a_cpu_second: float
    """Of all threads of this process together."""


class Stopwatch:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._begin_s, self._begin_cpu_s = time.perf_counter(), time.process_time()

    def rate(self, count: int) -> Rate:
        """The rate at which so many things were done since."""
        return Rate(
            count / (time.perf_counter() - self._begin_s), count / (time.process_time() - self._begin_cpu_s)
        )


class FreeEmbedder:
    """Gives every text the same unit vector, at once."""

    documents_max = LOCAL_DOCUMENTS_MAX

    async def documents(self, texts: Sequence[str]) -> FloatMatrix:
        """One row a text."""
        matrix = np.zeros((len(texts), DIMENSION), np.float32)
        matrix[:, 0] = 1.0
        return matrix


def main() -> None:
    """Measures and prints both rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="blocks for the free embedder (10000)")
    parser.add_argument("--minilm-count", type=int, default=2_000, help="blocks for minilm (2000; 0 skips)")
    arguments = parser.parse_args()
    # As the Learner does.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    print(machine_line())
    free = EmbedderIdentity(spec="free", fingerprint="free/384", dimension=DIMENSION)
    for run in range(3):
        progress(f"free embedder, run {run + 1} of 3")
        rate = asyncio.run(_learning_rate(FreeEmbedder(), free, arguments.count))
        print(f"free embedder: {arguments.count:,} blocks recorded and learned, {rate.of_a_second:,.0f}/s")
    if arguments.minilm_count:
        _compare_with_minilm(arguments.minilm_count)


def _compare_with_minilm(count: int) -> None:
    embedder = build_embedder("minilm")
    embedder.documents(["warm up"])
    share = count // MINILM_ROUNDS
    ways: dict[str, Callable[[], Rate]] = {
        f"minilm alone, {BATCH_KEYS_MAX} at once": lambda: _embed_all(embedder, share, BATCH_KEYS_MAX),
        f"minilm alone, all {share} at once": lambda: _embed_all(embedder, share, share),
        "learning with minilm": lambda: asyncio.run(_rate_with(embedder, share)),
    }
    rates: dict[str, list[Rate]] = {way: [] for way in ways}
    for number in range(MINILM_ROUNDS):
        # Each of them comes first as often as the others.
        for way in (*[*ways][number % len(ways) :], *[*ways][: number % len(ways)]):
            progress(f"{way}, round {number + 1} of {MINILM_ROUNDS}")
            rates[way].append(ways[way]())
    learning = rates["learning with minilm"]
    rows = []
    for way, measured in rates.items():
        compared = [
            median(mine[kind] / its[kind] for mine, its in zip(learning, measured, strict=True))
            for kind in (0, 1)
        ]
        a_second, a_cpu_second = (median(rate[kind] for rate in measured) for kind in (0, 1))
        rows.append(
            (way, f"{a_second:,.0f}", f"{compared[0]:.2f}", f"{a_cpu_second:,.0f}", f"{compared[1]:.2f}")
        )
    headers = ("", "texts a second", "learning: share", "texts a CPU second", "learning: share")
    print_table(f"Questions of {share} tasks, medians of {MINILM_ROUNDS} rounds", headers, rows)


def _embed_all(embedder: Embedder, count: int, size: int) -> Rate:
    texts = [query_from_text(row.question).text for row in _rows(count)]
    watch = Stopwatch()
    for start in range(0, len(texts), size):
        embedder.documents(texts[start : start + size])
    return watch.rate(count)


async def _rate_with(embedder: Embedder, count: int) -> Rate:
    identity = EmbedderIdentity(spec="minilm", fingerprint=embedder.fingerprint, dimension=embedder.dimension)
    thread = EmbeddingThread(embedder)
    thread.start()
    try:
        return await _learning_rate(thread, identity, count)
    finally:
        await asyncio.to_thread(thread.close)


async def _learning_rate(embedder: DocumentEmbedder, identity: EmbedderIdentity, count: int) -> Rate:
    """Blocks learned from the first request to the last example."""
    events = _events(count)
    with (
        tempfile.TemporaryDirectory(prefix="errata-bench-") as folder,
        Store.open(Path(folder), clock_us=_wall_us, bytes_max=8 << 30) as store,
    ):
        queue: WorkQueue[BlockKey] = WorkQueue(
            name="bench",
            clock=MonotonicClock(),
            backoff=ExponentialBackoff(),
            metrics=QueueMetrics(CollectorRegistry()),
        )
        reconciler = Reconciler(store=store, embedder=embedder, identity=identity, policy=Policy.CORRECTIONS)
        learning = Learning(store=store, reconciler=reconciler, queue=queue, wall_us=_wall_us)
        recorder = Recorder(store, learning.notify, redaction=True)
        working = asyncio.create_task(learning.run())
        watch = Stopwatch()
        for start in range(0, len(events), EVENTS_PER_REQUEST):
            await recorder.record(events[start : start + EVENTS_PER_REQUEST])
        await learning.wait_until_learned({BlockKey("", event.block_id) for event in events}, LEARN_S_MAX)
        rate = watch.rate(count)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        return rate


def _events(count: int) -> list[BlockEvent]:
    clock_us = increasing_clock_us()
    return [
        event
        for row in _rows(count)
        for event in row_events(row, namespace="", language="bash", clock_us=clock_us)
    ]


def _rows(count: int) -> list[Row]:
    with DATA.open(encoding="utf-8") as lines:
        known = [json.loads(line) for line in lines]
    return [
        Row(
            id=f"block-{number}",
            question=task["question"],
            generated=task["generated"],
            executed=task["executed"],
        )
        for number, task in zip(range(count), known * (count // len(known) + 1), strict=False)
    ]


def _wall_us() -> int:
    return time.time_ns() // 1_000


if __name__ == "__main__":
    main()
