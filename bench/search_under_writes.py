"""What writes cost those who search: `python -m bench.search_under_writes`.

Both services run. Searches by embedding begin at half the rate that the RAG service can answer, steadily,
whether earlier ones have ended or not; a search is as long as from when it was due to its answer. In turns
nothing is written, and 1,000 updates a second are: each is a RecordEvents to the Learner, which takes a part
of the same cores. The goal: p99 with writes at most 1.5 times that without.
"""

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.feed_store import EMBEDDER, fill
from bench.light_client import Ended, LightClient
from bench.report import machine_line, percentile, print_table, progress
from bench.search_data import real
from bench.write_load import writing
from errata.v1.rag_pb2 import SearchRequest
from scripts.processes import start

METHOD = "/errata.v1.RagService/Search"
GOAL = 1.5
QUERY_COUNT = 500
WARM_UP_S = 3.0


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000, help="examples (default 10000)")
    parser.add_argument("--updates", type=float, default=1_000.0, help="a second (default 1000)")
    parser.add_argument("--load", type=float, default=0.5, help="share of what can be answered (default 0.5)")
    parser.add_argument("--turns", type=int, default=6, help="of each kind (default 6)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a turn (default 5)")
    arguments = parser.parse_args()
    corpus = real(arguments.rows, QUERY_COUNT)
    requests = [SearchRequest(embedding=query.tobytes()).SerializeToString() for query in corpus.queries]
    with tempfile.TemporaryDirectory(prefix="errata-bench-") as folder:
        store = Path(folder) / "store"
        fill(store, arguments.rows, corpus.rows)
        with (
            start(
                "learner_service",
                *("--store-dir", str(store), "--embedder", EMBEDDER, "--policy", "executions"),
            ) as learner,
            start("rag_service", "--learner", learner.address) as rag,
            LightClient(rag.address, METHOD) as client,
        ):
            most_per_s = _most_per_s(client, requests)
            per_s = most_per_s * arguments.load
            progress(f"{most_per_s:,.0f} searches a second at most; {per_s:,.0f} from here on")
            quiet: list[list[Ended]] = []
            busy: list[list[Ended]] = []
            written_per_s: list[float] = []
            for _ in range(arguments.turns):
                quiet.append(client.run_paced(requests, per_s=per_s, seconds=arguments.seconds))
                with writing(learner.address, arguments.updates) as written:
                    busy.append(client.run_paced(requests, per_s=per_s, seconds=arguments.seconds))
                written_per_s.append(written.per_s)
    print(machine_line())
    rows = [_row("quiet", quiet), _row(f"{statistics.median(written_per_s):,.0f} updates/s", busy)]
    print_table(
        f"{arguments.rows:,} x 384, {per_s:,.0f} searches/s of {most_per_s:,.0f} possible, "
        f"{arguments.turns} turns of {arguments.seconds:g} s each",
        ("", "p50", "p90", "p99", "p99 of a turn, median"),
        rows,
    )
    share = _percentile_ms(_all(busy), 99) / _percentile_ms(_all(quiet), 99)
    turns = [
        _percentile_ms(one, 99) / _percentile_ms(other, 99) for one, other in zip(busy, quiet, strict=True)
    ]
    print(f"p99 with writes against without: {share:.2f}; median of the turns {statistics.median(turns):.2f}")
    print(f"goal {GOAL:g}")


def _most_per_s(client: LightClient, requests: Sequence[bytes]) -> float:
    client.run(requests, in_flight=16, seconds=WARM_UP_S)
    ended = client.run(requests, in_flight=16, seconds=WARM_UP_S)
    return len(ended) / (ended[-1].end_s - ended[0].begin_s)


def _all(turns: Sequence[Sequence[Ended]]) -> list[Ended]:
    return [call for turn in turns for call in turn]


def _percentile_ms(calls: Sequence[Ended], percent: float) -> float:
    return percentile([call.end_s - call.begin_s for call in calls], percent) * 1e3


def _row(name: str, turns: Sequence[Sequence[Ended]]) -> tuple[str, ...]:
    percents = [f"{_percentile_ms(_all(turns), percent):.2f} ms" for percent in (50, 90, 99)]
    each = statistics.median(_percentile_ms(turn, 99) for turn in turns)
    return (name, *percents, f"{each:.2f} ms")


if __name__ == "__main__":
    main()
