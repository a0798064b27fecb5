"""What a Learner holds in memory while it learns for long: `python -m bench.learning_memory --events N`.

A real Learner with the hashing embedder is sent runs, in requests of 500: of 100,000 blocks that are
rewritten again and again, every other time with another question, and of new ones, one in ten. Every 50,000
events the sender waits until all is learned from, and a row is noted. After the first rows only what grows
with the number of blocks, or leaks, still grows.

Beside the rate stands what the Learner used of processors for an event, which depends less on what else the
machine does. To rewrite a block costs more than to add one: its rows lie anywhere in the store, and the page
of each is copied.

Memory is RssAnon. RssFile, beside it, has the pages of the store that are in memory, which the kernel may
take.
"""

import argparse
import os
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.report import MIB, machine_line, print_table, progress
from errata.v1.block_pb2 import BLOCK_KIND_CODE, BLOCK_KIND_MARKUP, BlockEvent
from errata.v1.learner_pb2 import GetStatusRequest, RecordEventsRequest
from errata.v1.learner_pb2_grpc import LearnerServiceStub
from scripts.processes import Process, start

REWRITTEN_BLOCKS: Final = 100_000
NEW_SHARE: Final = 0.1
EVENTS_PER_REQUEST: Final = 500
EVENTS_PER_SAMPLE: Final = 50_000
BEGIN_S: Final = 1_700_000_000
SEED: Final = 20_240_416
CALL_S_MAX: Final = 60.0
POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Sample:
    """The Learner when everything sent so far was learned from."""

    event_count: int
    block_count: int
    example_count: int
    anonymous_bytes: int
    peak_bytes: int
    """The most private memory that was seen since the sample before."""
    file_bytes: int
    store_bytes: int
    elapsed_s: float
    """Since the sample before. What else the machine does is in it."""
    cpu_s: float
    """Of the Learner since then, of all cores together."""


class Sender:
    """Makes events and sends them, and looks at the memory of the receiver after each request."""

    def __init__(self, process: Process, stub: LearnerServiceStub) -> None:
        self._process = process
        self._stub = stub
        self._random = random.Random(SEED)  # noqa: S311 - of a benchmark, to be the same in each run
        self._event_count = 0
        self._block_count = 0
        self._peak_bytes = 0

    def sample_after(self, event_count: int) -> Sample:
        """Sends so many events, and waits until all are learned from."""
        self._peak_bytes = 0
        self._look()
        begin_s, begin_cpu_s = time.monotonic(), _cpu_s(self._process.pid)
        while event_count > 0:
            size = min(event_count, EVENTS_PER_REQUEST)
            events = [self._event() for _ in range(size)]
            self._stub.RecordEvents(RecordEventsRequest(events=events), timeout=CALL_S_MAX)
            event_count -= size
            self._look()
        while (status := self._stub.GetStatus(GetStatusRequest(), timeout=CALL_S_MAX)).queued_block_count:
            time.sleep(POLL_S)
            self._look()
        return Sample(
            event_count=self._event_count,
            block_count=status.block_count,
            example_count=status.example_count,
            anonymous_bytes=_resident_bytes(self._process.pid, "RssAnon"),
            peak_bytes=self._peak_bytes,
            file_bytes=_resident_bytes(self._process.pid, "RssFile"),
            store_bytes=status.store_bytes,
            elapsed_s=time.monotonic() - begin_s,
            cpu_s=_cpu_s(self._process.pid) - begin_cpu_s,
        )

    def _look(self) -> None:
        self._peak_bytes = max(self._peak_bytes, _resident_bytes(self._process.pid, "RssAnon"))

    def _event(self) -> BlockEvent:
        """A run of a new block, until there are enough of them and now and then later, else of an old one."""
        self._event_count += 1
        number = self._event_count
        if self._block_count < REWRITTEN_BLOCKS or self._random.random() < NEW_SHARE:
            place = self._block_count
            self._block_count += 1
        else:
            place = self._random.randrange(REWRITTEN_BLOCKS)
        event = BlockEvent(block_id=f"block-{place:08}")
        event.event_time.FromSeconds(BEGIN_S + number)
        event.executed.exit_code = 0
        event.executed.block.kind = BLOCK_KIND_CODE
        event.executed.block.language = "bash"
        event.executed.block.contents = f"kubectl get pods -n {place} | sort --version {number}"
        question = (
            f"list the pods of namespace {place}, sorted as in release {number if number % 2 else place}"
        )
        event.executed.doc.blocks.add(kind=BLOCK_KIND_MARKUP, contents=question)
        return event


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=1_000_000, help="events to record (1000000)")
    parser.add_argument("--seconds-max", type=float, default=3_600.0, help="ends it early (3600)")
    arguments = parser.parse_args()
    print(machine_line())
    _print(_measured(arguments.events, arguments.seconds_max))


def _measured(event_count: int, seconds_max: float) -> list[Sample]:
    samples: list[Sample] = []
    deadline_s = time.monotonic() + seconds_max
    with tempfile.TemporaryDirectory(prefix="errata-bench-") as folder:
        flags = ("--store-dir", str(Path(folder) / "store"), "--embedder", "hashing")
        with (
            start("learner_service", *flags, "--policy", "executions") as process,
            process.sync_channel() as channel,
        ):
            sender = Sender(process, LearnerServiceStub(channel))
            samples.append(sender.sample_after(0))
            while samples[-1].event_count < event_count and time.monotonic() < deadline_s:
                left_count = event_count - samples[-1].event_count
                samples.append(sender.sample_after(min(EVENTS_PER_SAMPLE, left_count)))
                progress(f"{samples[-1].event_count:,} events, {samples[-1].anonymous_bytes / MIB:,.0f} MiB")
    return samples


def _print(samples: Sequence[Sample]) -> None:
    sizes_of = ["RssAnon", "peak", "RssFile", "store"]
    headers = ["events", "blocks", "examples", *sizes_of, "events/s", "CPU an event"]
    rows = []
    before = 0
    for sample in samples:
        sizes = (sample.anonymous_bytes, sample.peak_bytes, sample.file_bytes, sample.store_bytes)
        sent = sample.event_count - before
        before = sample.event_count
        rows.append(
            [
                f"{sample.event_count:,}",
                f"{sample.block_count:,}",
                f"{sample.example_count:,}",
                *(f"{size / MIB:,.1f}" for size in sizes),
                *(_costs(sample, sent) if sent else ("", "")),
            ]
        )
    print_table(
        f"The Learner's memory in MiB, when everything sent was learned from; {REWRITTEN_BLOCKS:,} blocks "
        f"first, then {1 - NEW_SHARE:.0%} of the events rewrite one of them",
        headers,
        rows,
    )


def _costs(sample: Sample, event_count: int) -> tuple[str, str]:
    return f"{event_count / sample.elapsed_s:,.0f}", f"{sample.cpu_s / event_count * 1e6:,.0f} µs"


def _cpu_s(pid: int) -> float:
    """What a process has used of processors."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_bytes(pid: int, kind: str) -> int:
    """What a process has in memory, of one of the kinds of /proc/PID/status."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"process {pid} has ended")


if __name__ == "__main__":
    main()
