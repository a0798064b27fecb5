"""How fast logs are read, and how soon what they say is found: `python -m bench.analyzer`.

Three parts, each on its own with `--part`:

- `throughput`: an Analyzer with a real store reads a log of each kind, in a process of its own of which CPU
  time and memory are taken (private memory: the pages of the store's file are the kernel's); one core is all
  that an interpreter uses. A server's log is Foyle's real one over and over, each time with IDs of its own:
  one line of twenty says something. Then the same without those lines. Our own dialect is a proposal and a
  run for each task of NL2Bash.
- `growth`: the same logs in parts, each as long: what a line costs must not depend on how long the file is.
- `latency`: both services run, idle; a correction is appended to a log, and Search asked until it finds it.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from bench.memory import Growth, private_bytes
from bench.report import MIB, machine_line, percentile, print_table, progress
from errata.v1.rag_pb2 import SearchRequest
from errata.v1.rag_pb2_grpc import RagServiceStub
from learner_service.analyzer import Analyzer, LogDirectory
from learner_service.recorder import record_events
from learner_service.store.store import Store
from scripts.processes import start

DATA: Final = Path(__file__).resolve().parents[1] / "data"
FOYLE_LOG: Final = DATA / "foyle" / "foyle.logs.2024-04-16T19-06-47.json"
TASKS: Final = DATA / "nl2bash" / "learn.jsonl"

REAL_TRACE: Final = b"8038339848652bc1b97789cd9aa98341"
REAL_BLOCKS: Final = (b"9557680b", b"23706965", b"48d530be")
"""How the IDs of the blocks of the real log begin."""
STORE_BYTES_MAX: Final = 64 << 30
WARM_UP_COUNT: Final = 10


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=("throughput", "growth", "latency"), action="append")
    parser.add_argument("--mib", type=int, default=64, help="size of each log, in MiB (default 64)")
    parser.add_argument("--count", type=int, default=100, help="corrections to append (default 100)")
    parser.add_argument("--read", nargs=2, metavar=("KIND", "DIR"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        kind, folder = arguments.read
        print(json.dumps(asyncio.run(_read(kind, Path(folder), arguments.mib * MIB))))
        return
    parts = arguments.part or ["throughput", "growth", "latency"]
    print(machine_line())
    if "throughput" in parts:
        _throughput(arguments.mib)
    if "growth" in parts:
        _growth(arguments.mib)
    if "latency" in parts:
        _latency(arguments.count)


# --- Logs.


def foyle_log() -> Iterator[bytes]:
    """Foyle's real log without end, each time with a trace and blocks of its own."""
    real = FOYLE_LOG.read_bytes().rstrip() + b"\n"
    number = 0
    while True:
        copy = real.replace(REAL_TRACE, b"%032x" % (number + 1))
        for block in REAL_BLOCKS:
            copy = copy.replace(block, b"%08x" % number)
        yield copy
        number += 1


def foyle_log_that_says_nothing() -> Iterator[bytes]:
    """The lines of Foyle's real log from which nothing is learned, without end."""
    wanted = (b"Agent).Generate", b"Agent).LogEvents")
    lines = FOYLE_LOG.read_bytes().splitlines(keepends=True)
    part = b"".join(line for line in lines if not any(each in line for each in wanted))
    while True:
        yield part


def own_log() -> Iterator[bytes]:
    """A proposal and a run for each task of NL2Bash, without end, in our own dialect."""
    tasks = [json.loads(line) for line in TASKS.read_text().splitlines()]
    number = 0
    while True:
        task = tasks[number % len(tasks)]
        doc = {"blocks": [{"kind": "BLOCK_KIND_MARKUP", "contents": task["question"]}]}
        named = {"blockId": f"task-{number}", "eventTime": "2024-05-01T12:00:00.123456Z"}
        code = {"kind": "BLOCK_KIND_CODE", "language": "bash", "id": f"task-{number}"}
        proposed = {"doc": doc, "block": code | {"contents": task["generated"]}, "traceId": f"{number:032x}"}
        ran = {"block": code | {"contents": task["executed"]}, "exitCode": 0, "doc": doc}
        yield b"".join(
            json.dumps(named | event, separators=(",", ":")).encode() + b"\n"
            for event in ({"generated": proposed}, {"executed": ran})
        )
        number += 1


LOGS: Final[dict[str, Callable[[], Iterator[bytes]]]] = {
    "server log": foyle_log,
    "server log, nothing said": foyle_log_that_says_nothing,
    "own dialect": own_log,
}


def _write(parts: Iterator[bytes], path: Path, size_bytes: int) -> None:
    """Appends whole parts to a file until it is as large."""
    with path.open("ab") as file:
        while file.tell() < size_bytes:
            file.write(next(parts))


# --- Throughput.


def _throughput(size_mib: int) -> None:
    rows = []
    for kind in LOGS:
        progress(f"reading {size_mib} MiB: {kind}")
        with tempfile.TemporaryDirectory(prefix="errata-bench-") as folder:
            read = _read_in_a_process(kind, Path(folder), size_mib)
        megabytes = read["bytes"] / 1e6
        rows.append(
            (
                kind,
                f"{megabytes / read['cpu_s']:.1f} MB/s",
                f"{megabytes / read['wall_s']:.1f} MB/s",
                f"{read['events']:,.0f}",
                f"{read['events'] / read['cpu_s']:,.0f}/s",
                f"{read['peak_bytes'] / MIB:,.0f} MiB",
            )
        )
    print_table(
        f"Logs of {size_mib} MiB, read and stored",
        ("", "of CPU time", "of wall time", "blocks", "blocks of CPU time", "peak memory"),
        rows,
    )


def _read_in_a_process(kind: str, folder: Path, size_mib: int) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.analyzer", "--mib", str(size_mib), "--read", kind, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - this very program
    read: dict[str, float] = json.loads(done.stdout)
    return read


async def _read(kind: str, folder: Path, size_bytes: int) -> dict[str, float]:
    logs = folder / "logs"
    logs.mkdir()
    _write(LOGS[kind](), logs / "a.log", size_bytes)
    begin_bytes = private_bytes(os.getpid())
    with Store.open(folder / "store", clock_us=_wall_us, bytes_max=STORE_BYTES_MAX) as store:
        with Growth(os.getpid()) as growth:
            wall_s, cpu_s = await _read_what_there_is(store, logs)
        with store.read() as transaction:
            block_count = transaction.block_count
    return {
        "bytes": (logs / "a.log").stat().st_size,
        "cpu_s": cpu_s,
        "wall_s": wall_s,
        "events": block_count,
        "peak_bytes": begin_bytes + growth.peak_bytes,
    }


async def _read_what_there_is(store: Store, logs: Path) -> tuple[float, float]:
    """Reads to the end; returns the time that it took, on the wall and of the processor."""
    analyzer = Analyzer(
        store=store,
        record_events=record_events,
        directories=[LogDirectory("", logs)],
        notify=lambda _: None,
        clock_us=_wall_us,
    )
    begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
    await analyzer.poll()
    return time.perf_counter() - begin_s, time.process_time() - begin_cpu_s


# --- Growth.


def _growth(size_mib: int) -> None:
    part_count = 8
    part_bytes = size_mib * MIB // part_count
    rows = []
    for kind, parts_of in LOGS.items():
        progress(f"reading a log as it grows: {kind}")
        with tempfile.TemporaryDirectory(prefix="errata-bench-") as folder:
            speeds = asyncio.run(_speeds(parts_of(), Path(folder), part_bytes, part_count))
        rows.append((kind, *(f"{speed / 1e6:.1f}" for speed in speeds)))
    headers = (
        "MB/s of CPU time, from MiB",
        *(f"{number * part_bytes // MIB}" for number in range(part_count)),
    )
    print_table(f"A log that grows by {part_bytes // MIB} MiB at a time", headers, rows)


async def _speeds(parts: Iterator[bytes], folder: Path, part_bytes: int, part_count: int) -> list[float]:
    """Bytes a second of CPU time, of each part of a log."""
    logs = folder / "logs"
    logs.mkdir()
    speeds = []
    with Store.open(folder / "store", clock_us=_wall_us, bytes_max=STORE_BYTES_MAX) as store:
        for number in range(part_count):
            _write(parts, logs / "a.log", (number + 1) * part_bytes)
            _, cpu_s = await _read_what_there_is(store, logs)
            speeds.append(part_bytes / cpu_s)
    return speeds


# --- Latency.


def _latency(count: int) -> None:
    progress(f"appending {count} corrections")
    with tempfile.TemporaryDirectory(prefix="errata-bench-") as folder:
        logs = Path(folder, "logs")
        logs.mkdir()
        store = str(Path(folder, "store"))
        with (
            start(
                "learner_service", "--store-dir", store, "--embedder", "hashing", "--log-dir", str(logs)
            ) as learner,
            start("rag_service", "--learner", learner.address) as rag,
            rag.sync_channel() as channel,
        ):
            stub = RagServiceStub(channel)
            found_s = [_found_s(stub, logs / "a.log", number) for number in range(count + WARM_UP_COUNT)]
    found_s = found_s[WARM_UP_COUNT:]
    cells = [f"{percentile(found_s, percent) * 1e3:.1f} ms" for percent in (50, 90, 99)]
    print_table(
        f"{count} corrections, both services idle, embedder hashing",
        ("", "p50", "p90", "p99"),
        [("appended -> first Search finds it", *cells)],
    )


def _found_s(stub: RagServiceStub, path: Path, number: int) -> float:
    """Appends a correction; returns how long it took until a Search that found it had begun."""
    question = f"rotate the certificate of host number{number} in rack q{number * 7919 % 10007}"
    command = f"certctl rotate --host h{number}"
    line = {
        "blockId": f"bench-{number}",
        "eventTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "taught": {
            "query": {"blocks": [{"kind": "BLOCK_KIND_MARKUP", "contents": question}]},
            "answer": [{"kind": "BLOCK_KIND_CODE", "contents": command}],
        },
    }
    # Idle: nothing of the last one is under way any more.
    time.sleep(0.1)
    with path.open("ab") as file:
        file.write(json.dumps(line).encode() + b"\n")
    begin_s = time.perf_counter()
    while True:
        asked_s = time.perf_counter()
        response = stub.Search(SearchRequest(text=question, limit=1))
        if response.results and response.results[0].example.answer[0].contents == command:
            return asked_s - begin_s
        time.sleep(0.001)


def _wall_us() -> int:
    return time.time_ns() // 1_000


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", str(DATA.parent))
    main()
