"""How soon what somebody ran is found: `python -m bench.freshness`.

From the return of RecordEvents, which is when the event is durable, to the start of the first Search that
finds what was learned from it. Both services run on this machine, with the `hashing` embedder, so that the
time of a model does not hide that of everything else. First nobody else writes, then others cause 1,000
updates a second. Beside it stands what an fsync takes on this disk at that time.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from google.protobuf.timestamp_pb2 import Timestamp
from rich.progress import track

from bench.report import machine_line, percentile, print_table
from bench.write_load import writing
from errata.v1.block_pb2 import (
    BLOCK_KIND_CODE,
    BLOCK_KIND_MARKUP,
    Block,
    BlockEvent,
    BlockExecuted,
    BlockGenerated,
    Doc,
)
from errata.v1.learner_pb2 import RecordEventsRequest
from errata.v1.learner_pb2_grpc import LearnerServiceStub
from errata.v1.rag_pb2 import SearchRequest
from errata.v1.rag_pb2_grpc import RagServiceStub
from scripts.processes import start

WARM_UP_COUNT = 20


def main() -> None:
    """Measures and prints medians and tails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=300, help="corrections to record (default 300)")
    parser.add_argument("--embedder", default="hashing", help="embedder of both services (default hashing)")
    parser.add_argument(
        "--updates", type=float, default=1_000.0, help="a second, by others; 0 leaves them out (default 1000)"
    )
    arguments = parser.parse_args()
    count = arguments.count
    with tempfile.TemporaryDirectory(prefix="errata-bench-") as folder:
        store = str(Path(folder) / "store")
        flags = ("--store-dir", store, "--embedder", arguments.embedder, "--policy", "executions")
        with (
            start("learner_service", *flags) as learner,
            start("rag_service", "--learner", learner.address) as rag,
            learner.sync_channel() as learner_channel,
            rag.sync_channel() as rag_channel,
        ):
            stubs = LearnerServiceStub(learner_channel), RagServiceStub(rag_channel)
            print(f"{count} corrections, embedder {arguments.embedder}; {machine_line()}")
            _measure("nobody else writes", *stubs, Path(folder), range(count + WARM_UP_COUNT))
            if arguments.updates:
                with writing(learner.address, arguments.updates) as written:
                    numbers = range(count + WARM_UP_COUNT, 2 * (count + WARM_UP_COUNT))
                    _measure("others write too", *stubs, Path(folder), numbers)
                print(f"they caused {written.per_s:,.0f} updates a second")
    print("goals: p50 5 ms and p99 25 ms when nobody else writes, p99 100 ms at 1,000 updates a second")


def _measure(
    title: str, learner: LearnerServiceStub, rag: RagServiceStub, folder: Path, numbers: Sequence[int]
) -> None:
    """Records a correction for each number, with an fsync of a file beside the store in between."""
    samples = []
    fsyncs_s = []
    with (folder / "probe").open("wb") as probe:
        for number in track(numbers, title, transient=True):
            samples.append(_sample(learner, rag, number))
            fsyncs_s.append(_fsync_s(probe))
    samples = samples[WARM_UP_COUNT:]
    print_table(
        title,
        ("", "p50", "p90", "p99"),
        [
            _row("fsync of 4 KiB", fsyncs_s),
            _row("RecordEvents", [recorded_s for recorded_s, _ in samples]),
            _row("returned -> first Search finds it", [found_s for _, found_s in samples]),
        ],
    )


def _sample(learner: LearnerServiceStub, rag: RagServiceStub, number: int) -> tuple[float, float]:
    """Records one correction; returns how long that took, and how long after it a Search found it."""
    # Words of its own, so that nothing learned before answers it.
    question = f"rotate the certificate of host number{number} in rack q{number * 7919 % 10007}"
    command = f"certctl rotate --host h{number}"
    begin_s = time.perf_counter()
    learner.RecordEvents(RecordEventsRequest(events=_correction(number, question, command)))
    returned_s = time.perf_counter()
    while True:
        asked_s = time.perf_counter()
        response = rag.Search(SearchRequest(text=question, limit=1))
        if response.results and response.results[0].example.answer[0].contents == command:
            return returned_s - begin_s, asked_s - returned_s


def _correction(number: int, question: str, command: str) -> list[BlockEvent]:
    now = Timestamp()
    now.FromMicroseconds(time.time_ns() // 1_000)
    doc = Doc(blocks=[Block(kind=BLOCK_KIND_MARKUP, contents=question)])
    proposed = Block(kind=BLOCK_KIND_CODE, language="bash", contents="openssl req -new")
    ran = Block(kind=BLOCK_KIND_CODE, language="bash", contents=command)
    block_id = f"bench-{number}"
    return [
        BlockEvent(block_id=block_id, event_time=now, generated=BlockGenerated(doc=doc, block=proposed)),
        BlockEvent(block_id=block_id, event_time=now, executed=BlockExecuted(block=ran, exit_code=0)),
    ]


def _fsync_s(probe: BinaryIO) -> float:
    probe.write(bytes(4096))
    probe.flush()
    begin_s = time.perf_counter()
    os.fsync(probe.fileno())
    return time.perf_counter() - begin_s


def _row(name: str, durations_s: Sequence[float]) -> tuple[str, ...]:
    return (name, *(f"{percentile(durations_s, percent) * 1e3:.2f} ms" for percent in (50, 90, 99)))


if __name__ == "__main__":
    main()
