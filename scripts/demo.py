"""The main job on real input, in under two minutes: `make demo`.

Starts a Learner and a RAG service as real processes on free ports, gives them real logs, asks questions, and
records a live correction. Everything it makes lies in a temporary directory and is gone afterwards.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from errata.v1.block_pb2 import (
    BLOCK_KIND_CODE,
    BLOCK_KIND_MARKUP,
    Block,
    BlockEvent,
    BlockExecuted,
    BlockGenerated,
    Doc,
)
from errata.v1.learner_pb2 import GetStatusRequest, RecordEventsRequest
from errata.v1.learner_pb2_grpc import LearnerServiceStub
from errata.v1.rag_pb2 import GetIndexStatusRequest, SearchRequest, SearchResponse
from errata.v1.rag_pb2_grpc import RagServiceStub
from scripts.processes import start

DATA: Final = Path(__file__).resolve().parent.parent / "data"
FOYLE_LOG: Final = DATA / "foyle" / "foyle.logs.2024-04-16T19-06-47.json"

TASK_COUNT: Final = 500
PARAPHRASES: Final = (
    "nl2bash-00079",
    "nl2bash-00395",
    "nl2bash-00307",
    "nl2bash-00181",
    "nl2bash-00018",
)
"""Tasks whose paraphrases are asked; see data/nl2bash/queries.jsonl."""

OWN_QUESTION: Final = "get me the newest logs with curl please"
"""In nobody's data: what the Foyle log taught should answer it."""

LIVE_QUESTION: Final = "Show which process listens on port 7411"
LIVE_PROPOSED: Final = "netstat -a | grep 7411"
LIVE_RUN: Final = "ss -ltnp 'sport = :7411'"

LEARN_S_MAX: Final = 90.0

console = Console()


def main() -> None:
    """Runs the demo; exits with 0 when everything came out as it should."""
    begin_s = time.monotonic()
    console.print(
        "[bold]Errata learns from what people run instead of what an assistant proposed.[/bold]\n"
        "Two services start on free ports: the Learner follows a log directory and\n"
        "keeps what it learns, the RAG service follows the Learner and answers\n"
        "searches from memory.\n"
    )
    with tempfile.TemporaryDirectory(prefix="errata-demo-") as folder, _services(Path(folder)) as stubs:
        learner, rag = stubs
        _learn(Path(folder) / "logs", learner, rag)
        _ask(rag)
        _correct(learner, rag)
    console.print(f"\nDone in {time.monotonic() - begin_s:.0f} s; both services have ended.")


@contextmanager
def _services(folder: Path) -> Iterator[tuple[LearnerServiceStub, RagServiceStub]]:
    (folder / "logs").mkdir()
    with (
        start(
            "learner_service", "--store-dir", str(folder / "store"), "--log-dir", str(folder / "logs")
        ) as learner,
        start("rag_service", "--learner", learner.address) as rag,
        learner.sync_channel() as learner_channel,
        rag.sync_channel() as rag_channel,
    ):
        console.print(f"Learner at {learner.address}, RAG service at {rag.address}\n")
        yield LearnerServiceStub(learner_channel), RagServiceStub(rag_channel)


def _learn(logs: Path, learner: LearnerServiceStub, rag: RagServiceStub) -> None:
    console.print(
        "[bold]1. Logs on disk become examples.[/bold] A log that Foyle really wrote, with\n"
        f"one correction in it, and {TASK_COUNT} tasks of NL2Bash: what was asked, a wrong\n"
        "proposal, and what was run."
    )
    shutil.copy(FOYLE_LOG, logs / FOYLE_LOG.name)
    subprocess.run(
        [
            *(sys.executable, "-m", "errata.cli", "events", str(DATA / "nl2bash" / "learn.jsonl")),
            *("--limit", str(TASK_COUNT), "--output", str(logs / "nl2bash.jsonl")),
        ],
        check=True,
        capture_output=True,
    )
    # The Foyle log has one block that was corrected.
    wanted = TASK_COUNT + 1
    columns = (TextColumn("   {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    deadline_s = time.monotonic() + LEARN_S_MAX
    with Progress(*columns, console=console) as progress:
        learning = progress.add_task("learned by the Learner ", total=wanted)
        indexing = progress.add_task("searchable in the RAG  ", total=wanted)
        searchable = 0
        while searchable < wanted:
            if time.monotonic() > deadline_s:
                sys.exit(f"only {searchable} of {wanted} examples after {LEARN_S_MAX:.0f} s")
            progress.update(learning, completed=learner.GetStatus(GetStatusRequest()).example_count)
            searchable = rag.GetIndexStatus(GetIndexStatusRequest()).example_count
            progress.update(indexing, completed=searchable)
            time.sleep(0.05)
    status = learner.GetStatus(GetStatusRequest())
    console.print(
        f"   {status.block_count} blocks known, {status.example_count} examples learned; the others were "
        "not run.\n"
    )


def _ask(rag: RagServiceStub) -> None:
    console.print(
        "[bold]2. Questions find them.[/bold] Five paraphrases that nobody learned from, and\n"
        "one in words of our own."
    )
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("question", ratio=5)
    table.add_column("learned command", ratio=5, style="green")
    table.add_column("score", justify="right")
    for question in (*_paraphrases(), OWN_QUESTION):
        answer = rag.Search(SearchRequest(text=question, limit=1))
        result = answer.results[0]
        table.add_row(question, result.example.answer[0].contents.strip(), f"{result.score:.2f}")
    console.print()
    console.print(table)
    console.print()
    console.print(
        "   The score is the cosine of the angle between the question asked and the one\n"
        "   that was learned from; 1 is the same.\n"
    )


def _paraphrases() -> list[str]:
    by_task: dict[str, str] = {}
    with (DATA / "nl2bash" / "queries.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            by_task.setdefault(row["answer_id"], row["question"])
    return [by_task[task] for task in PARAPHRASES]


def _correct(learner: LearnerServiceStub, rag: RagServiceStub) -> None:
    console.print(
        "[bold]3. A correction counts at once.[/bold] An assistant proposes, a person runs\nsomething else:"
    )
    console.print(f"   asked     {LIVE_QUESTION}")
    console.print(f"   proposed  {LIVE_PROPOSED}", highlight=False)
    console.print(f"   run       {LIVE_RUN}", highlight=False)
    learner.RecordEvents(RecordEventsRequest(events=_correction()))
    recorded_s = time.monotonic()
    search_count = 0
    while True:
        asked_s = time.monotonic()
        search_count += 1
        if _best_answer(rag.Search(SearchRequest(text=LIVE_QUESTION, limit=1))) == LIVE_RUN:
            break
        if asked_s - recorded_s > LEARN_S_MAX:
            sys.exit("the correction did not arrive")
    console.print(
        f"   After RecordEvents had returned, Search was asked again and again: number\n"
        f"   {search_count}, begun [bold]{(asked_s - recorded_s) * 1e3:.1f} ms[/bold] later, "
        "returned the new command."
    )


def _correction() -> list[BlockEvent]:
    now_us = time.time_ns() // 1_000
    question = Doc(blocks=[Block(kind=BLOCK_KIND_MARKUP, contents=LIVE_QUESTION)])
    proposed = Block(kind=BLOCK_KIND_CODE, language="bash", contents=LIVE_PROPOSED)
    run = Block(kind=BLOCK_KIND_CODE, language="bash", contents=LIVE_RUN)
    return [
        BlockEvent(
            block_id="demo-live-correction",
            event_time=_timestamp(now_us - 5_000_000),
            generated=BlockGenerated(doc=question, block=proposed),
        ),
        BlockEvent(
            block_id="demo-live-correction",
            event_time=_timestamp(now_us),
            executed=BlockExecuted(block=run, exit_code=0),
        ),
    ]


def _best_answer(response: SearchResponse) -> str:
    return response.results[0].example.answer[0].contents if response.results else ""


def _timestamp(time_us: int) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromMicroseconds(time_us)
    return timestamp


if __name__ == "__main__":
    main()
