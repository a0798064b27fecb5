"""Many watchers of one Learner: `python -m bench.feed_watchers`.

Each watcher has a connection of its own, as a replica has; all of them run in this process, so the times
include what it takes to read so many messages here. `write to watcher` is from the call of RecordEvents,
which changes one example, to the message in the hands of a watcher. Then the Learner is killed and started
again: every watcher comes back with its token, and must end up with the digest of the Learner.
"""

import argparse
import asyncio
import random
import resource
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
from google.protobuf.duration_pb2 import Duration

from bench.feed_store import EMBEDDER, fill, rewrite_event
from bench.memory import private_bytes
from bench.report import machine_line, percentile, print_table, progress
from errata import digest
from errata.serving.channel import channel_options
from errata.v1.learner_pb2 import (
    GetStatusRequest,
    RecordEventsRequest,
    WatchBookmark,
    WatchUpdatesRequest,
    WatchUpdatesResponse,
)
from errata.v1.learner_pb2_grpc import LearnerServiceStub
from scripts.processes import start

EXAMPLES = 10
"""Few: what is measured is the cost of a watcher, not of its first sync."""
WRITE_PAUSE_S = 0.2
SETTLE_S = 3.0
OPENING_AT_ONCE = 50
RECONNECT_S_MAX = 0.8
"""The first delay of a RAG service whose stream had not lived long."""
STORM_S_MAX = 120.0


class Watcher:
    """One client: what it holds, when it last received a change, and how often it had to call."""

    def __init__(self, address: str, name: str) -> None:
        self.rows: dict[bytes, int] = {}
        self.revision = 0
        self.received_at_s = 0.0
        self.call_count = 0
        self.wrong = ""
        self._address = address
        self._name = name
        self._token = b""

    async def run(self) -> None:
        """Follows for ever, over a new connection each time."""
        while True:
            self.call_count += 1
            async with grpc.aio.insecure_channel(self._address, options=channel_options()) as channel:
                call = LearnerServiceStub(channel).WatchUpdates(
                    WatchUpdatesRequest(
                        resume_token=self._token, watcher=self._name, bookmark_interval=Duration(seconds=60)
                    )
                )
                try:
                    async for message in call:
                        self._take(message)
                except grpc.aio.AioRpcError:
                    pass
                finally:
                    call.cancel()
            await asyncio.sleep(random.uniform(0.0, RECONNECT_S_MAX))  # noqa: S311 - only spreads calls

    def _take(self, message: WatchUpdatesResponse) -> None:
        if message.HasField("batch"):
            self.received_at_s = time.perf_counter()
            for update in message.batch.updates:
                # Nothing is deleted here.
                key = update.put.namespace.encode() + b"\0" + update.put.id.encode()
                self.rows[key] = update.revision
            self._token = message.batch.token
            if message.batch.HasField("bookmark"):
                self._mark(message.batch.bookmark)
        elif message.HasField("bookmark"):
            self._mark(message.bookmark)
        elif message.HasField("reset"):
            self.wrong = "a Reset that nothing called for"

    def _mark(self, bookmark: WatchBookmark) -> None:
        self._token = bookmark.token
        self.revision = bookmark.revision
        if bookmark.example_count != len(self.rows):
            self.wrong = f"{len(self.rows)} examples at a bookmark of {bookmark.example_count}"

    def digest(self) -> bytes:
        """Of what it holds."""
        total = 0
        for key, revision in self.rows.items():
            total = digest.add(total, digest.row_hash(key, revision))
        return digest.encode(total)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--watchers", type=int, default=1_000, help="streams (default 1000)")
    parser.add_argument("--writes", type=int, default=50, help="changes whose way is measured (default 50)")
    arguments = parser.parse_args()
    # A connection each, besides what is open anyway; the Learner inherits the limit.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(measure(arguments.watchers, arguments.writes))


async def measure(watcher_count: int, write_count: int) -> None:
    """Opens the streams, writes, kills the Learner, and prints the figures."""
    async with AsyncExitStack() as running:
        folder = running.enter_context(tempfile.TemporaryDirectory(prefix="errata-bench-"))
        fill(Path(folder) / "store", EXAMPLES)
        flags = ("--store-dir", f"{folder}/store", "--embedder", EMBEDDER, "--policy", "executions")
        async with start("learner_service", *flags) as learner:
            # A round of everything first: what a first call costs is no watcher's.
            await write(learner.address, 1, 1)
            before_bytes = private_bytes(learner.pid)
            watchers = [Watcher(learner.address, f"bench-{number}") for number in range(watcher_count)]
            await running.enter_async_context(following(watchers))
            await all_at(watchers, await head(learner.address), STORM_S_MAX)
            await asyncio.sleep(SETTLE_S)
            idle_bytes = private_bytes(learner.pid) - before_bytes
            progress(f"{write_count} writes")
            delays_s = await write_and_watch(learner.address, watchers, write_count)
            busy_bytes = private_bytes(learner.pid) - before_bytes
            address = learner.address
            progress("killing the Learner")
            learner.kill()
        calls_before = sum(watcher.call_count for watcher in watchers)
        async with start("learner_service", *flags, "--listen", address) as learner:
            begin_s = time.perf_counter()
            await write(address, 1, write_count + 2)
            await all_at(watchers, await head(address), STORM_S_MAX)
            storm_s = time.perf_counter() - begin_s
            calls = sum(watcher.call_count for watcher in watchers) - calls_before
            wrong = [watcher.wrong for watcher in watchers if watcher.wrong]
            wanted = await store_digest(address)
            differing = sum(watcher.digest() != wanted for watcher in watchers)
    print(machine_line())
    print_table(
        f"{watcher_count:,} watchers, a connection each",
        ("", "measured"),
        [
            ("write to watcher, median", f"{percentile(delays_s, 50) * 1e3:.0f} ms"),
            ("write to watcher, p99", f"{percentile(delays_s, 99) * 1e3:.0f} ms"),
            ("write to watcher, worst", f"{max(delays_s) * 1e3:.0f} ms"),
            ("memory of the Learner, idle", f"{idle_bytes / watcher_count / 1024:.1f} KiB each"),
            ("memory of the Learner, after the writes", f"{busy_bytes / watcher_count / 1024:.1f} KiB each"),
            ("Learner back to all of them up to date", f"{storm_s:.1f} s"),
            ("calls for that", f"{calls:,}"),
            ("watchers lost or wrong afterwards", f"{len(wrong) + differing}"),
        ],
    )


@asynccontextmanager
async def following(watchers: list[Watcher]) -> AsyncIterator[None]:
    """Runs the watchers, opening some at a time."""
    tasks = []
    try:
        for first in range(0, len(watchers), OPENING_AT_ONCE):
            progress(f"opening streams {first:,} of {len(watchers):,}")
            some = watchers[first : first + OPENING_AT_ONCE]
            tasks += [asyncio.create_task(watcher.run()) for watcher in some]
            await all_at(some, 1, STORM_S_MAX)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def all_at(watchers: list[Watcher], revision: int, seconds: float) -> None:
    """Returns when a bookmark has told each of the watchers that it is at a revision."""
    async with asyncio.timeout(seconds):
        # An event of each watcher would cost more than looking.
        while any(watcher.revision < revision for watcher in watchers):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def write_and_watch(address: str, watchers: list[Watcher], count: int) -> list[float]:
    """Changes one example after another; how long each took to each of the watchers."""
    delays_s: list[float] = []
    for number in range(2, count + 2):
        begin_s = time.perf_counter()
        await write(address, number % EXAMPLES, number)
        await all_at(watchers, await head(address), STORM_S_MAX)
        delays_s += [watcher.received_at_s - begin_s for watcher in watchers]
        await asyncio.sleep(WRITE_PAUSE_S)
    return delays_s


async def write(address: str, place: int, number: int) -> None:
    """Changes one example, and returns when that is announced."""
    async with grpc.aio.insecure_channel(address) as channel:
        await LearnerServiceStub(channel).RecordEvents(
            RecordEventsRequest(events=[rewrite_event(place, number)], learn_wait=Duration(seconds=60))
        )


async def head(address: str) -> int:
    """The newest revision."""
    async with grpc.aio.insecure_channel(address) as channel:
        return (await LearnerServiceStub(channel).GetStatus(GetStatusRequest())).head_revision


async def store_digest(address: str) -> bytes:
    """The digest of the newest state."""
    async with grpc.aio.insecure_channel(address) as channel:
        return (await LearnerServiceStub(channel).GetStatus(GetStatusRequest())).digest


if __name__ == "__main__":
    main()
