"""How fast a new replica is filled: `python -m bench.feed_sync`.

A Learner and RAG services run as processes of their own on a store of so many examples. `end to end` is
from the Hello to the first bookmark whose digest agrees, as the RAG service logs them; `served alone` is a
client that reads the same stream and does nothing with it; `applied alone` is the same messages parsed and
put into an index without any network. Then several replicas sync at once, while the memory of the Learner is
watched.
"""

import argparse
import contextlib
import gc
import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import grpc

from bench.feed_store import BYTES_MAX, EMBEDDER, fill
from bench.memory import Growth
from bench.report import MIB, machine_line, print_table, progress, spread
from errata.v1.learner_pb2 import WatchUpdatesRequest, WatchUpdatesResponse
from rag_service.index import ExampleIndex
from rag_service.subscriber import UPDATES_PER_SLICE_MAX
from scripts.processes import Process, start

WATCH = "/errata.v1.LearnerService/WatchUpdates"


def main() -> None:
    """Measures and prints examples a second."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=100_000, help="in the store (default 100000)")
    parser.add_argument("--runs", type=int, default=5, help="of each measurement (default 5)")
    parser.add_argument("--replicas", type=int, default=4, help="that sync at once (default 4)")
    arguments = parser.parse_args()
    # As the RAG service has it.
    gc.set_threshold(50_000, 20, 100)
    count = arguments.examples
    with tempfile.TemporaryDirectory(prefix="errata-bench-") as folder:
        fill(Path(folder) / "store", count)
        with start(
            "learner_service",
            *("--store-dir", f"{folder}/store", "--store-bytes-max", str(BYTES_MAX)),
            *("--embedder", EMBEDDER),
        ) as learner:
            end_to_end, served, applied = [], [], []
            messages = read_all(learner)
            for run in range(arguments.runs):
                progress(f"run {run + 1} of {arguments.runs}")
                end_to_end.append(count / sync_s([learner])[0])
                served.append(count / read_again_s(learner, len(messages)))
                applied.append(count / apply_s(messages))
            bytes_each = sum(map(len, messages)) / count
            del messages
            progress(f"{arguments.replicas} replicas at once")
            with Growth(learner.pid) as growth:
                at_once_s = sync_s([learner] * arguments.replicas)
    print(machine_line())
    print_table(
        f"initial sync of {count:,} examples of {bytes_each:,.0f} bytes",
        ("", "examples/s"),
        [
            ("end to end, into a RAG service", spread(end_to_end)),
            ("served alone", spread(served)),
            ("parsed and applied alone", spread(applied)),
            (f"{arguments.replicas} at once, the slowest", spread([count / max(at_once_s)])),
            (
                f"{arguments.replicas} at once, together",
                spread([arguments.replicas * count / max(at_once_s)]),
            ),
        ],
    )
    print(f"memory of the Learner while {arguments.replicas} sync: +{growth.peak_bytes / MIB:,.0f} MiB")


def sync_s(learners: list[Process]) -> list[float]:
    """Starts a RAG service for each Learner named, all at once; what each took from Hello to bookmark."""
    with ThreadPoolExecutor(len(learners)) as threads:
        return list(threads.map(_sync_one_s, learners))


def _sync_one_s(learner: Process) -> float:
    with start("rag_service", "--learner", learner.address, start_s_max=300) as rag:
        times: dict[str, datetime] = {}
        for line in rag.stderr.splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                times.setdefault(entry["event"], datetime.fromisoformat(entry["ts"]))
    return (times["in sync with the Learner"] - times["following the Learner"]).total_seconds()


def read_all(learner: Process) -> list[bytes]:
    """Every message of a stream from nothing, up to its first bookmark."""
    messages: list[bytes] = []
    with learner.sync_channel() as channel:
        stream = _watch(channel)
        for message in stream:
            messages.append(message)
            parsed = WatchUpdatesResponse.FromString(message)
            if parsed.HasField("bookmark") or parsed.batch.HasField("bookmark"):
                break
        stream.cancel()
    return messages


def read_again_s(learner: Process, message_count: int) -> float:
    """The same without looking at them."""
    with learner.sync_channel() as channel:
        stream = _watch(channel)
        next(stream)
        begin_s = time.perf_counter()
        for _ in range(message_count - 1):
            next(stream)
        duration_s = time.perf_counter() - begin_s
        stream.cancel()
    return duration_s


def apply_s(messages: list[bytes]) -> float:
    """Parses messages and applies them to an empty index, in the slices of the subscriber."""
    hello, *others = messages
    index = ExampleIndex(dimension=WatchUpdatesResponse.FromString(hello).hello.dimension)
    begin_s = time.perf_counter()
    for message in others:
        updates = WatchUpdatesResponse.FromString(message).batch.updates
        for first in range(0, len(updates), UPDATES_PER_SLICE_MAX):
            index.apply(updates[first : first + UPDATES_PER_SLICE_MAX])
    return time.perf_counter() - begin_s


def _watch(channel: grpc.Channel) -> "grpc._CallIterator[bytes]":
    # Without a deserialiser the messages come as bytes.
    watch: grpc.UnaryStreamMultiCallable[WatchUpdatesRequest, bytes] = channel.unary_stream(
        WATCH, request_serializer=WatchUpdatesRequest.SerializeToString
    )
    return watch(WatchUpdatesRequest(watcher="bench"))


if __name__ == "__main__":
    main()
