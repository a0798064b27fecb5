"""How often the services return the right example: `python -m bench.retrieval`.

Learns the 10,594 tasks of NL2Bash from a log, as an installation would, then asks the RAG service the 856
paraphrases. Prints how often the right task is the first result and among the first ten, and how long
learning took. `bench.quality` measures the embedder alone: the two must agree.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from rich.progress import Progress, track

from bench.report import machine_line
from errata.v1.rag_pb2 import GetIndexStatusRequest, SearchRequest
from errata.v1.rag_pb2_grpc import RagServiceStub
from scripts.processes import start

DATA: Final = Path(__file__).resolve().parent.parent / "data" / "nl2bash"

PER_QUESTION_LIMIT: Final = 100
"""All tasks count, also those whose question others have too."""

TARGETS: Final = {1: 0.33, 10: 0.70}
"""Least hit rate of `minilm`, by the number of results looked at."""


def main() -> int:
    """Measures and prints; returns 1 when the default embedder falls short of its targets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embedder", default="minilm", help="embedder of both services (default minilm)")
    arguments = parser.parse_args()
    task_count = sum(1 for _ in (DATA / "learn.jsonl").open(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="errata-bench-") as folder:
        logs = Path(folder) / "logs"
        logs.mkdir()
        flags = ("--store-dir", f"{folder}/store", "--log-dir", str(logs), "--embedder", arguments.embedder)
        with (
            start("learner_service", *flags) as learner,
            start("rag_service", "--learner", learner.address) as rag,
            rag.sync_channel() as channel,
        ):
            stub = RagServiceStub(channel)
            begin_s = time.perf_counter()
            events = ("-m", "errata.cli", "events", str(DATA / "learn.jsonl"))
            subprocess.run(  # noqa: S603 - a program of this project
                [sys.executable, *events, "--output", str(logs / "tasks.jsonl")],
                check=True,
                capture_output=True,
            )
            _wait_until_learned(stub, task_count)
            learn_s = time.perf_counter() - begin_s
            ranks = _ranks(stub)
    print(machine_line())
    print(
        f"{task_count} tasks learned in {learn_s:.1f} s, {task_count / learn_s:.0f}/s, {arguments.embedder}"
    )
    reached = True
    for count, target in TARGETS.items():
        rate = sum(rank < count for rank in ranks) / len(ranks)
        reached = reached and rate >= target
        print(f"hit@{count:<3} of {len(ranks)} paraphrases  {rate:.3f}  target {target:.2f}")
    return 0 if reached or arguments.embedder != "minilm" else 1


def _wait_until_learned(stub: RagServiceStub, task_count: int) -> None:
    with Progress(transient=True) as progress:
        learning = progress.add_task("learning", total=task_count)
        while (known := stub.GetIndexStatus(GetIndexStatusRequest()).example_count) < task_count:
            progress.update(learning, completed=known)
            time.sleep(0.1)


def _ranks(stub: RagServiceStub) -> list[int]:
    """Where the right task stands among the first ten results of each paraphrase; 10 when it does not."""
    with (DATA / "queries.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    most = max(TARGETS)
    ranks = []
    for row in track(rows, "asking", transient=True):
        request = SearchRequest(text=row["question"], limit=most, per_question_limit=PER_QUESTION_LIMIT)
        found = [result.example.id for result in stub.Search(request).results]
        ranks.append(found.index(row["answer_id"]) if row["answer_id"] in found else most)
    return ranks


if __name__ == "__main__":
    sys.exit(main())
