"""How soon what somebody ran is found: `python -m bench.freshness`.

From the return of RecordEvents, which is when the event is durable, to the start of the first Search that
finds what was learned from it. Both services run on this machine, with the `hashing` embedder, so that the
time of a model does not hide that of everything else. Beside it stands what an fsync takes on this disk.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp
from rich.progress import track

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
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="errata-bench-") as folder:
        fsyncs_s = _fsyncs(Path(folder), arguments.count)
        store = str(Path(folder) / "store")
        with (
            start("learner_service", "--store-dir", store, "--embedder", arguments.embedder) as learner,
            start("rag_service", "--learner", learner.address) as rag,
            learner.sync_channel() as learner_channel,
            rag.sync_channel() as rag_channel,
        ):
            learner_stub, rag_stub = LearnerServiceStub(learner_channel), RagServiceStub(rag_channel)
            samples = [
                _sample(learner_stub, rag_stub, number)
                for number in track(range(arguments.count + WARM_UP_COUNT), "recording", transient=True)
            ][WARM_UP_COUNT:]
    print(f"{arguments.count} corrections, embedder {arguments.embedder}, {os.cpu_count()} cores")
    print(f"{'':36}{'p50':>9}{'p90':>9}{'p99':>9}")
    _print_row("fsync of 4 KiB", fsyncs_s)
    _print_row("RecordEvents", [recorded for recorded, _ in samples])
    _print_row("returned -> first Search finds it", [found for _, found in samples])


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


def _fsyncs(folder: Path, count: int) -> list[float]:
    durations_s = []
    with (folder / "probe").open("wb") as probe:
        for _ in range(count):
            probe.write(bytes(4096))
            probe.flush()
            begin_s = time.perf_counter()
            os.fsync(probe.fileno())
            durations_s.append(time.perf_counter() - begin_s)
    return durations_s


def _print_row(name: str, durations_s: list[float]) -> None:
    cuts = statistics.quantiles(durations_s, n=100, method="inclusive")
    print(f"{name:36}" + "".join(f"{cuts[percent - 1] * 1e3:6.2f} ms" for percent in (50, 90, 99)))


if __name__ == "__main__":
    main()
