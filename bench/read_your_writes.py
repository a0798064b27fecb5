"""Whether a search sees what its token promises, and how long it waits: `python -m bench.read_your_writes`.

Writers change blocks and ask for each at once, in a Search with the token of the write as `min_token`: the
answer must hold that write or a newer one. `wait` is the whole Search. The RAG service follows over a proxy
that resets its link again and again; a Search counts as one with the link up when no part of it lay between
a reset and the first state that the service received afterwards.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from google.protobuf.duration_pb2 import Duration

from bench.feed_store import EMBEDDER, rewrite_event
from bench.report import machine_line, percentile, print_table, progress
from errata.v1.learner_pb2 import RecordEventsRequest
from errata.v1.learner_pb2_grpc import LearnerServiceStub
from errata.v1.rag_pb2 import SearchRequest
from errata.v1.rag_pb2_grpc import RagServiceStub
from scripts.processes import start
from tests.faults.proxy import Proxy

if TYPE_CHECKING:
    from errata.v1.learner_pb2_grpc import LearnerServiceAsyncStub
    from errata.v1.rag_pb2_grpc import RagServiceAsyncStub

MAX_WAIT = Duration(seconds=30)
"""Longer than any reconnect here takes: every Search has an answer."""
LEARN_WAIT = Duration(seconds=30)
PROBE_PLACE = 1_000_000


class Outage(NamedTuple):
    """From a reset to the first state received after it, by `time.perf_counter`."""

    begin_s: float
    end_s: float

    def touches(self, begin_s: float, end_s: float) -> bool:
        """Whether a stretch of time has a part in it."""
        return begin_s <= self.end_s and end_s >= self.begin_s


@dataclass
class Asked:
    """What the searches gave."""

    waits: list[tuple[float, float]] = field(default_factory=list)
    """When each began and ended."""
    stale_count: int = 0


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--searches", type=int, default=10_000, help="in all (default 10000)")
    parser.add_argument("--writers", type=int, default=8, help="that write and ask at once (default 8)")
    parser.add_argument("--cut-every", type=float, default=12.0, help="seconds between resets (default 12)")
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.searches, arguments.writers, arguments.cut_every))


async def measure(search_count: int, writer_count: int, cut_every_s: float) -> None:
    """Writes and asks, and prints the figures."""
    asked = Asked()
    async with AsyncExitStack() as running:
        folder = running.enter_context(tempfile.TemporaryDirectory(prefix="errata-bench-"))
        learner = await running.enter_async_context(
            start(
                "learner_service",
                *("--store-dir", f"{folder}/store", "--embedder", EMBEDDER, "--policy", "executions"),
            )
        )
        proxy = await running.enter_async_context(Proxy(learner.address))
        rag = await running.enter_async_context(start("rag_service", "--learner", proxy.address))
        learner_stub = LearnerServiceStub(await running.enter_async_context(learner.channel()))
        rag_stub = RagServiceStub(await running.enter_async_context(rag.channel()))
        begin_s = time.perf_counter()
        progress(f"{search_count:,} searches, the link reset every {cut_every_s:g} s")
        async with (
            cutting(proxy, learner_stub, rag_stub, cut_every_s) as outages,
            asyncio.TaskGroup() as writers,
        ):
            for place in range(writer_count):
                count = search_count // writer_count + (place < search_count % writer_count)
                writers.create_task(write_and_ask(learner_stub, rag_stub, place, count, asked))
        duration_s = time.perf_counter() - begin_s
    up = [end - begin for begin, end in asked.waits if not _any_touches(outages, begin, end)]
    down = [end - begin for begin, end in asked.waits if _any_touches(outages, begin, end)]
    print(machine_line())
    print_table(
        f"{len(asked.waits):,} writes and searches with their tokens by {writer_count} writers, "
        f"{len(asked.waits) / duration_s:.0f} a second",
        ("", "searches", "wait, median", "p99", "longest"),
        [_row("link up", up), _row(f"around {len(outages)} resets", down)],
    )
    print(f"stale answers: {asked.stale_count}")
    if outages:
        lengths_s = [outage.end_s - outage.begin_s for outage in outages]
        print(
            f"from a reset to the next state received: median {percentile(lengths_s, 50) * 1e3:.0f} ms, "
            f"longest {max(lengths_s) * 1e3:.0f} ms"
        )


async def write_and_ask(
    learner: "LearnerServiceAsyncStub", rag: "RagServiceAsyncStub", place: int, count: int, asked: Asked
) -> None:
    """Changes one block again and again, and asks for each change with its token."""
    for number in range(1, count + 1):
        token = await _write(learner, place, number)
        event = rewrite_event(place, number)
        question = event.executed.doc.blocks[0].contents
        begin_s = time.perf_counter()
        response = await rag.Search(SearchRequest(text=question, limit=1, min_token=token, max_wait=MAX_WAIT))
        asked.waits.append((begin_s, time.perf_counter()))
        found = response.results[0].example.answer[0].contents if response.results else ""
        # Nobody else writes to the block, so nothing newer than this can be there.
        asked.stale_count += found != event.executed.block.contents


@asynccontextmanager
async def cutting(
    proxy: Proxy, learner: "LearnerServiceAsyncStub", rag: "RagServiceAsyncStub", every_s: float
) -> AsyncIterator[list[Outage]]:
    """Resets the link of the RAG service now and then; gives the outages."""
    outages: list[Outage] = []

    async def cut() -> None:
        number = 0
        while True:
            await asyncio.sleep(every_s)
            number += 1
            begin_s = time.perf_counter()
            proxy.cut()
            # A write after the reset is in no state that was received before it.
            token = await _write(learner, PROBE_PLACE, number)
            await rag.Search(SearchRequest(text="probe", min_token=token, max_wait=MAX_WAIT))
            outages.append(Outage(begin_s, time.perf_counter()))

    task = asyncio.create_task(cut())
    try:
        yield outages
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _write(learner: "LearnerServiceAsyncStub", place: int, number: int) -> bytes:
    response = await learner.RecordEvents(
        RecordEventsRequest(events=[rewrite_event(place, number)], learn_wait=LEARN_WAIT)
    )
    if not response.token:
        raise TimeoutError("the block was not learned from in time")
    return response.token


def _any_touches(outages: Iterable[Outage], begin_s: float, end_s: float) -> bool:
    return any(outage.touches(begin_s, end_s) for outage in outages)


def _row(name: str, waits_s: list[float]) -> tuple[str, str, str, str, str]:
    if not waits_s:
        return (name, "0", "", "", "")
    return (
        name,
        f"{len(waits_s):,}",
        f"{percentile(waits_s, 50) * 1e3:.1f} ms",
        f"{percentile(waits_s, 99) * 1e3:.1f} ms",
        f"{max(waits_s) * 1e3:.0f} ms",
    )


if __name__ == "__main__":
    main()
