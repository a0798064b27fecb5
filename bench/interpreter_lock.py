"""What a busy thread costs a commit: `python -m bench.interpreter_lock`.

LMDB's calls give up the interpreter lock. A thread that computes gives it back only after Python's switch
interval, and a commit waits for that. Times single commits beside such a thread, under Python's default
interval and under the Learner's.
"""

import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from bench.report import machine_line, print_table, spread
from errata.v1.example_pb2 import Example
from learner_service.__main__ import SWITCH_INTERVAL_S
from learner_service.store.store import Store

COMMITS_PER_RUN = 100
RUN_COUNT = 5


def main() -> None:
    """Measures and prints medians of the runs' medians."""
    intervals_s = (sys.getswitchinterval(), SWITCH_INTERVAL_S)
    runs: dict[tuple[float, bool], list[float]] = {}
    for _ in range(RUN_COUNT):
        for interval_s in intervals_s:
            for busy in (False, True):
                runs.setdefault((interval_s, busy), []).append(_median_commit_ms(interval_s, busy=busy))
    print(machine_line())
    print_table(
        f"one commit of one example, ms; medians of {COMMITS_PER_RUN}",
        ["switch interval", "alone", "beside a busy thread"],
        [
            [f"{interval_s * 1e3:g} ms", *(spread(runs[interval_s, busy], ".2f") for busy in (False, True))]
            for interval_s in intervals_s
        ],
    )


def _median_commit_ms(interval_s: float, *, busy: bool) -> float:
    default_s = sys.getswitchinterval()
    sys.setswitchinterval(interval_s)
    stop = threading.Event()
    thread = threading.Thread(target=_compute, args=(stop,))
    if busy:
        thread.start()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="errata-bench-") as folder,
            Store.open(Path(folder), clock_us=lambda: time.time_ns() // 1_000, bytes_max=1 << 30) as store,
        ):
            durations_s = [_commit_s(store, number) for number in range(COMMITS_PER_RUN)]
    finally:
        stop.set()
        if busy:
            thread.join()
        sys.setswitchinterval(default_s)
    return statistics.median(durations_s) * 1e3


def _commit_s(store: Store, number: int) -> float:
    example = Example(id=str(number), query_text="which process listens on port 80", embedding=bytes(1_536))
    begin_s = time.perf_counter()
    store.submit(lambda transaction: transaction.put_example(example)).result()
    return time.perf_counter() - begin_s


def _compute(stop: threading.Event) -> None:
    total = 0
    while not stop.is_set():
        total += sum(range(100))


if __name__ == "__main__":
    main()
