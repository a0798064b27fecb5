"""What a reconnect costs: `python -m bench.feed_reconnect`.

A watcher that was up to date misses some changes of existing examples and comes back with its token over a
new connection. `connect to bookmark` is from opening the channel to the bookmark that says it is up to date
again; `call to bookmark` leaves the connection out. `rows read` counts what the Learner takes from its log to
answer, in this process, on the same store.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
from google.protobuf.duration_pb2 import Duration

from bench.feed_store import BYTES_MAX, EMBEDDER, fill, rewrite_event, wall_us
from bench.report import machine_line, print_table, progress
from errata.v1.learner_pb2 import RecordEventsRequest, WatchUpdatesRequest, WatchUpdatesResponse
from errata.v1.learner_pb2_grpc import LearnerServiceStub
from learner_service.change_feed import WatchOptions, scan
from learner_service.store.read_transaction import ReadTransaction
from learner_service.store.rows import LogRow
from learner_service.store.store import Store
from learner_service.tokens import WatchPosition
from scripts.processes import Process, start

EVENTS_PER_REQUEST = 500


class Reconnect(NamedTuple):
    """One reconnect."""

    connect_s: float
    call_s: float
    update_count: int
    token: bytes
    """Of the bookmark at its end."""


def main() -> None:
    """Measures and prints the time to be up to date again."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=100_000, help="in the store (default 100000)")
    parser.add_argument(
        "--missed", type=int, nargs="+", default=[0, 100, 1_000, 10_000], help="changes (default 0 to 10000)"
    )
    parser.add_argument("--runs", type=int, default=5, help="of each measurement (default 5)")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="errata-bench-") as folder:
        store_dir = Path(folder) / "store"
        fill(store_dir, arguments.examples)
        with start(
            "learner_service",
            *("--store-dir", str(store_dir), "--store-bytes-max", str(BYTES_MAX)),
            *("--embedder", EMBEDDER, "--policy", "executions"),
        ) as learner:
            token = reconnect(learner, b"").token
            number = 0
            for missed in arguments.missed:
                progress(f"{missed:,} of {arguments.examples:,} changes missed")
                runs = []
                for _ in range(arguments.runs):
                    number += 1
                    change(learner, missed, number)
                    before = token
                    runs.append(reconnect(learner, before))
                    token = runs[-1].token
                shutil.copytree(store_dir, f"{folder}/copy")
                read_count = rows_read(Path(folder) / "copy", before)
                shutil.rmtree(f"{folder}/copy")
                rows.append(
                    (
                        f"{missed:,}",
                        f"{statistics.median(run.connect_s for run in runs) * 1e3:.1f} ms",
                        f"{statistics.median(run.call_s for run in runs) * 1e3:.1f} ms",
                        f"{runs[-1].update_count:,}",
                        f"{read_count:,}",
                    )
                )
    print(machine_line())
    print_table(
        f"reconnect after missing some changes of {arguments.examples:,} examples, "
        f"medians of {arguments.runs} runs",
        ("missed", "connect to bookmark", "call to bookmark", "changes sent", "rows read"),
        rows,
    )


def change(learner: Process, count: int, number: int) -> None:
    """Changes so many examples of the store, none twice; returns when they are announced."""
    with learner.sync_channel() as channel:
        stub = LearnerServiceStub(channel)
        for first in range(0, count, EVENTS_PER_REQUEST):
            places = range(first, min(first + EVENTS_PER_REQUEST, count))
            response = stub.RecordEvents(
                RecordEventsRequest(
                    events=[rewrite_event(place, number) for place in places], learn_wait=Duration(seconds=60)
                )
            )
            if response.pending_block_count:
                raise TimeoutError(f"{response.pending_block_count} blocks were not learned from in a minute")


def reconnect(learner: Process, token: bytes) -> Reconnect:
    """Opens a stream over a new connection and reads it up to its first bookmark."""
    begin_s = time.perf_counter()
    with learner.sync_channel() as channel:
        grpc.channel_ready_future(channel).result()
        connected_s = time.perf_counter()
        stream = LearnerServiceStub(channel).WatchUpdates(WatchUpdatesRequest(resume_token=token))
        update_count = 0
        for message in stream:
            update_count += len(message.batch.updates)
            if message.HasField("reset"):
                raise RuntimeError("the token was not taken")
            bookmark = _bookmark_token(message)
            if bookmark:
                break
        end_s = time.perf_counter()
        stream.cancel()
    return Reconnect(end_s - begin_s, end_s - connected_s, update_count, bookmark)


def _bookmark_token(message: WatchUpdatesResponse) -> bytes:
    return message.bookmark.token or message.batch.bookmark.token


class _CountingTransaction(ReadTransaction):
    """Counts the rows of the log that are read through it."""

    row_count = 0

    def log_after(self, revision: int) -> Iterator[tuple[int, LogRow]]:
        for row in super().log_after(revision):
            self.row_count += 1
            yield row


def rows_read(store_dir: Path, token: bytes) -> int:
    """Rows of the log that are read to bring a watcher with this token up to date."""
    options = WatchOptions(
        watcher="bench",
        resume_token=token,
        embedder_fingerprint="",
        namespaces=frozenset(),
        bookmark_interval_s=1.0,
    )
    position, count, complete = WatchPosition.decode(token), 0, False
    with Store.open(store_dir, clock_us=wall_us, bytes_max=BYTES_MAX) as store:
        while not complete:
            with store.read() as transaction:
                # The same tables, read through something that counts.
                counting = _CountingTransaction(transaction._tables, transaction._epoch_nonce)  # noqa: SLF001
                _, position, complete = scan(counting, position, options)
                count += counting.row_count
    return count


if __name__ == "__main__":
    main()
