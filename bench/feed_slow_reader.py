"""What a slow watcher costs the Learner and the others: `python -m bench.feed_slow_reader [--seconds 30]`.

Examples are changed at a steady rate. Fast watchers note how long each change took from the call of
RecordEvents to their hands: first among themselves, then beside a watcher that reads one message a second,
then among themselves again. At the end the slow one is released and must come to hold what the Learner holds.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc

from bench.feed_store import EMBEDDER, fill, rewrite_event
from bench.memory import Growth
from bench.report import MIB, machine_line, percentile, print_table, progress
from errata.serving.channel import channel_options
from errata.v1.learner_pb2 import GetStatusRequest, RecordEventsRequest, WatchUpdatesRequest
from errata.v1.learner_pb2_grpc import LearnerServiceStub
from scripts.processes import start

EXAMPLES = 1_000
FAST_WATCHERS = 4
SETTLE_S = 2.0
CATCH_UP_S_MAX = 300.0


class Watcher:
    """Follows over a connection of its own, pausing after each message."""

    def __init__(self, address: str, *, pause_s: float = 0.0) -> None:
        self.revision = 0
        """Of the newest bookmark."""
        self.message_count = 0
        self.pause_s = pause_s
        self.rows: dict[str, int] = {}
        self.received_at_s: dict[str, float] = {}
        """By the contents of an answer, which are of one change alone."""
        self._address = address

    async def run(self) -> None:
        """Follows until it is cancelled; fails when the stream ends."""
        async with grpc.aio.insecure_channel(self._address, options=channel_options()) as channel:
            call = LearnerServiceStub(channel).WatchUpdates(WatchUpdatesRequest(watcher="bench"))
            async for message in call:
                now_s = time.perf_counter()
                self.message_count += 1
                for update in message.batch.updates:
                    self.rows[update.put.id] = update.revision
                    self.received_at_s[update.put.answer[0].contents] = now_s
                self.revision = max(self.revision, message.batch.bookmark.revision, message.bookmark.revision)
                await asyncio.sleep(self.pause_s)
        raise ConnectionError("the Learner ended the stream")


class Writer:
    """Changes one example after another, each at its time, whatever became of the one before."""

    def __init__(self, channel: grpc.aio.Channel, *, rate: float) -> None:
        self.sent_at_s: dict[str, float] = {}
        """By the contents that it sent."""
        self._stub = LearnerServiceStub(channel)
        self._interval_s = 1 / rate
        self._number = 0

    async def run(self, seconds: float) -> float:
        """Writes for so long; returns how many changes a second that were."""
        begin_s = time.perf_counter()
        count = 0
        async with asyncio.TaskGroup() as calls:
            while (elapsed_s := time.perf_counter() - begin_s) < seconds:
                if elapsed_s < count * self._interval_s:
                    await asyncio.sleep(count * self._interval_s - elapsed_s)
                self._number += 1
                event = rewrite_event(self._number % EXAMPLES, self._number)
                self.sent_at_s[event.executed.block.contents] = time.perf_counter()
                calls.create_task(self._record(RecordEventsRequest(events=[event])))
                count += 1
        return count / (time.perf_counter() - begin_s)

    async def _record(self, request: RecordEventsRequest) -> None:
        await self._stub.RecordEvents(request)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=300, help="with the slow watcher (default 300)")
    parser.add_argument("--rate", type=float, default=200, help="changes a second (default 200)")
    parser.add_argument("--pause", type=float, default=1.0, help="of the slow watcher, in s (default 1)")
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.seconds, arguments.rate, arguments.pause))


async def measure(seconds: float, rate: float, pause_s: float) -> None:
    """Runs the three phases and prints the figures."""
    alone_s = min(seconds, 60.0)
    async with AsyncExitStack() as running:
        folder = running.enter_context(tempfile.TemporaryDirectory(prefix="errata-bench-"))
        fill(Path(folder) / "store", EXAMPLES)
        learner = await running.enter_async_context(
            start(
                "learner_service",
                *("--store-dir", f"{folder}/store", "--embedder", EMBEDDER, "--policy", "executions"),
            )
        )
        writer = Writer(await running.enter_async_context(learner.channel()), rate=rate)
        fast = [Watcher(learner.address) for _ in range(FAST_WATCHERS)]
        await running.enter_async_context(following(fast))
        progress("warming up")
        await writer.run(SETTLE_S)
        progress(f"{alone_s:.0f} s without a slow watcher")
        before = await phase(writer, fast, alone_s)
        slow = Watcher(learner.address, pause_s=pause_s)
        with Growth(learner.pid) as growth:
            async with following([slow]):
                progress(f"{seconds:.0f} s with a slow watcher")
                beside = await phase(writer, fast, seconds)
                grown_bytes, read_count = growth.peak_bytes, slow.message_count
                progress("releasing the slow watcher")
                slow.pause_s = 0.0
                begin_s = time.perf_counter()
                await caught_up(learner.address, [slow])
                catch_up_s = time.perf_counter() - begin_s
                same = slow.rows == fast[0].rows
        progress(f"{alone_s:.0f} s without it again")
        after = await phase(writer, fast, alone_s)
    print(machine_line())
    print_table(
        f"{FAST_WATCHERS} watchers, {rate:.0f} changes a second asked for",
        ("", "changes/s", "median", "p99"),
        [
            _row("without a slow watcher", before),
            _row(f"beside one that reads every {pause_s:g} s, for {seconds:.0f} s", beside),
            _row("without it again", after),
        ],
    )
    # Against the quieter of the two: whatever else the machine did then must not hide what it cost.
    ratio = percentile(beside[1], 99) / min(percentile(each[1], 99) for each in (before, after))
    print(f"p99 beside the slow watcher: x {ratio:.2f} of the better one without")
    print(f"memory of the Learner meanwhile: +{grown_bytes / MIB:.1f} MiB at most")
    print(
        f"the slow one read {read_count:,} messages; released, it was up to date after {catch_up_s:.1f} s, "
        f"{'with' if same else 'WITHOUT'} the rows of the others"
    )


Phase = tuple[float, list[float]]
"""Changes a second, and what each took to each of the fast watchers."""


async def phase(writer: Writer, fast: list[Watcher], seconds: float) -> Phase:
    """Writes for so long and waits until every fast watcher has the last of it."""
    writer.sent_at_s.clear()
    for watcher in fast:
        watcher.received_at_s.clear()
    written_rate = await writer.run(seconds)
    await asyncio.sleep(SETTLE_S)
    delays_s = [
        watcher.received_at_s[contents] - sent_s
        for contents, sent_s in writer.sent_at_s.items()
        for watcher in fast
        # A change that was overtaken before it was sent is not missed.
        if contents in watcher.received_at_s
    ]
    return written_rate, delays_s


async def caught_up(address: str, watchers: list[Watcher]) -> None:
    """Returns when the watchers are at the head."""
    async with grpc.aio.insecure_channel(address) as channel:
        head = (await LearnerServiceStub(channel).GetStatus(GetStatusRequest())).head_revision
    async with asyncio.timeout(CATCH_UP_S_MAX):
        # An event of each watcher would cost more than looking.
        while any(watcher.revision < head for watcher in watchers):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@asynccontextmanager
async def following(watchers: list[Watcher]) -> AsyncIterator[None]:
    """Runs the watchers meanwhile; a stream that ends fails the measurement."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(watcher.run()) for watcher in watchers]
        yield
        for task in tasks:
            task.cancel()


def _row(name: str, figures: Phase) -> tuple[str, str, str, str]:
    rate, delays_s = figures
    return (
        name,
        f"{rate:.0f}",
        f"{percentile(delays_s, 50) * 1e3:.1f} ms",
        f"{percentile(delays_s, 99) * 1e3:.1f} ms",
    )


if __name__ == "__main__":
    main()
