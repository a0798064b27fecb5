"""Writes to a Learner at a steady rate, from a process of its own: `python -m bench.write_load`.

Used by benchmarks of what happens meanwhile. Each write is one of ten events of a RecordEvents, and makes
another example of one that the store of `bench.feed_store` holds: for a watcher, one update. The Learner
needs `--policy executions`. Ends with SIGTERM, and then says how many it wrote and how long that took.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from bench.feed_store import TIME_S_FIRST, rewrite_event
from errata.v1.learner_pb2 import RecordEventsRequest, RecordEventsResponse
from errata.v1.learner_pb2_grpc import LearnerServiceStub

EVENTS_A_CALL = 10
CALLS_MAX = 16
"""Open at once: a call takes as long as the disk does, longer than from one to the next."""
PLACES = 1_000
"""Examples that are written again and again."""

_ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Written:
    """What was written; filled in at the end."""

    per_s: float = 0.0


@contextmanager
def writing(learner_address: str, per_s: float) -> Iterator[Written]:
    """Writes from here to the end of the block, once the first write is there."""
    process = subprocess.Popen(  # noqa: S603 - this program itself
        [sys.executable, "-m", "bench.write_load", learner_address, "--per-second", str(per_s)],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
    )
    written = Written()
    with process:
        if process.stdout is None:
            raise RuntimeError("the writer has no pipe")
        try:
            if not process.stdout.readline():
                raise RuntimeError("nothing can be written; the writer says above why")
            yield written
        finally:
            process.terminate()
        said = process.stdout.readline()
        if not said:
            raise RuntimeError("the writer failed; it says above why")
        counted = json.loads(said)
        written.per_s = counted["events"] / counted["seconds"]


def main() -> None:
    """Writes until it is told to end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("learner", help="HOST:PORT")
    parser.add_argument("--per-second", type=float, default=1_000.0, help="writes (default 1000)")
    arguments = parser.parse_args()
    ended = False

    def end(*_: object) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    with grpc.insecure_channel(arguments.learner) as channel:
        stub = LearnerServiceStub(channel)
        # Rises from one run of this program to the next, as the times of events do.
        number = int(time.time()) - TIME_S_FIRST
        call_count = 0
        open_calls: deque[grpc.Future[RecordEventsResponse]] = deque()
        begin_s = time.perf_counter()
        while not ended:
            first = call_count * EVENTS_A_CALL
            if len(open_calls) == CALLS_MAX:
                open_calls.popleft().result()
            call: grpc.Future[RecordEventsResponse] = stub.RecordEvents.future(
                RecordEventsRequest(
                    events=[
                        rewrite_event(place % PLACES, number + place // PLACES)
                        for place in range(first, first + EVENTS_A_CALL)
                    ]
                )
            )
            open_calls.append(call)
            call_count += 1
            if call_count == 1:
                call.result()
                sys.stdout.write("writing\n")
                sys.stdout.flush()
            left_s = begin_s + call_count * EVENTS_A_CALL / arguments.per_second - time.perf_counter()
            if left_s > 0:
                time.sleep(left_s)
        for call in open_calls:
            call.result()
        seconds = time.perf_counter() - begin_s
    sys.stdout.write(json.dumps({"events": call_count * EVENTS_A_CALL, "seconds": seconds}) + "\n")


if __name__ == "__main__":
    main()
