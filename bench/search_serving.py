"""What a search costs on the wire beyond the wire itself: `python -m bench.search_serving`.

Search by embedding, 16 calls in flight, against a bare echo: a server of the same kind that gives the same
bytes to every call. Beside the service as it is (`grpc.aio`) stand both with the synchronous server, which is
why the service is what it is. All servers run at once and take turns of less than a second, so that a busy
machine slows them alike; a ratio is the median over the turns. `CPU` is that of the server, a call.

The client is `bench.light_client`: a gRPC client would take as much of two cores as the server.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.light_client import LightClient
from bench.report import machine_line, percentile, print_table, progress
from bench.search_data import real
from bench.serving_process import serving
from errata.v1.rag_pb2 import SearchRequest, SearchResponse

METHOD = "/errata.v1.RagService/Search"
QUERY_COUNT = 500
WARM_UP_S = 2.0
GOALS = {1_000: 0.85, 10_000: 0.7, 100_000: 0.5}
"""Least share of the echo's calls a second, by rows."""

_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Turns:
    """What a server did in its turns."""

    calls_per_s: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Server:
    """A server that runs, a client of it, and what it did."""

    client: LightClient
    pid: int
    turns: Turns = field(default_factory=Turns)

    def take_turn(self, requests: Sequence[bytes], in_flight: int, seconds: float) -> None:
        """Answers for so long, and keeps the figures."""
        cpu_s = _cpu_s(self.pid)
        ended = self.client.run(requests, in_flight=in_flight, seconds=seconds)
        cpu_s = _cpu_s(self.pid) - cpu_s
        duration_s = max(call.end_s for call in ended) - min(call.begin_s for call in ended)
        self.turns.calls_per_s.append(len(ended) / duration_s)
        self.turns.cpu_us.append(cpu_s / len(ended) * 1e6)
        self.turns.latencies_s.extend(call.end_s - call.begin_s for call in ended)


def main() -> None:
    """Measures every size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--kinds", nargs="+", choices=("aio", "sync"), default=["aio", "sync"])
    parser.add_argument("--in-flight", type=int, default=16, help="calls at once (default 16)")
    parser.add_argument("--turns", type=int, default=15, help="of each server (default 15)")
    parser.add_argument("--seconds", type=float, default=0.6, help="of a turn (default 0.6)")
    arguments = parser.parse_args()
    print(machine_line())
    for row_count in arguments.rows:
        servers = measure(row_count, arguments.kinds, arguments.in_flight, arguments.turns, arguments.seconds)
        report(row_count, arguments.in_flight, servers)


def measure(
    row_count: int, kinds: Sequence[str], in_flight: int, turn_count: int, seconds: float
) -> Mapping[tuple[str, str], Turns]:
    """Lets every server take its turns; their figures by what it is, `echo` or `Search`, and its kind."""
    progress(f"{row_count:,} rows: starting {2 * len(kinds)} servers")
    corpus = real(row_count, QUERY_COUNT)
    requests = [SearchRequest(embedding=query.tobytes()).SerializeToString() for query in corpus.queries]
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="errata-bench-")))
        vectors = folder / "vectors.npy"
        np.save(vectors, corpus.rows)
        processes: dict[tuple[str, str], tuple[str, int]] = {}
        for kind in kinds:
            search = running.enter_context(serving(kind, vectors))
            with LightClient(search[0], METHOD) as client:
                answer = client.one(requests[0])
            if not SearchResponse.FromString(answer).results:
                raise ValueError("the first search found nothing")
            processes["echo", kind] = running.enter_context(serving(kind, answer=answer))
            processes["Search", kind] = search
        # Connected last: a server gives up on a client that is silent while others start.
        servers = {
            name: Server(running.enter_context(LightClient(address, METHOD)), pid)
            for name, (address, pid) in processes.items()
        }
        for server in servers.values():
            server.client.run(requests, in_flight=in_flight, seconds=WARM_UP_S)
        progress(f"{row_count:,} rows: {turn_count} turns of {seconds:g} s each")
        for _ in range(turn_count):
            for server in servers.values():
                server.take_turn(requests, in_flight, seconds)
        return {name: server.turns for name, server in servers.items()}


def report(row_count: int, in_flight: int, servers: Mapping[tuple[str, str], Turns]) -> None:
    """Prints one size."""
    rows = []
    for (what, kind), turns in servers.items():
        echo = servers["echo", kind]
        shares = [ours / its for ours, its in zip(turns.calls_per_s, echo.calls_per_s, strict=True)]
        share = "" if what == "echo" else f"{statistics.median(shares):.2f}"
        rows.append(
            (
                f"{what}, {kind}",
                f"{statistics.median(turns.calls_per_s):,.0f}",
                share,
                f"{statistics.median(turns.cpu_us):.0f} us",
                f"{percentile(turns.latencies_s, 50) * 1e3:.2f} ms",
                f"{percentile(turns.latencies_s, 99) * 1e3:.2f} ms",
            )
        )
    goal = f", goal {GOALS[row_count]:g} of the echo" if row_count in GOALS else ""
    print_table(
        f"{row_count:,} x 384, {in_flight} in flight{goal}",
        ("", "calls a second", "of the echo", "CPU", "p50", "p99"),
        rows,
    )


def _cpu_s(pid: int) -> float:
    """CPU time of all threads of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS


if __name__ == "__main__":
    main()
