"""How much disk and memory an example takes: `python -m bench.footprint [--embedder hashing]`.

The Learner follows a log of the 10,594 tasks of NL2Bash, a correction each, then one more of the same tasks
in another namespace, and so on. After each, what the store and both processes take is noted; an example takes
what was added from the first note to the last, divided. Memory is private pages: those of the store's file
are the kernel's.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import grpc

from bench.memory import private_bytes
from bench.report import MIB, machine_line, print_table, progress
from errata.v1.learner_pb2 import GetStatusRequest
from errata.v1.learner_pb2_grpc import LearnerServiceStub
from errata.v1.rag_pb2 import GetIndexStatusRequest
from errata.v1.rag_pb2_grpc import RagServiceStub
from scripts.processes import Process, start

TASKS: Final = Path(__file__).resolve().parent.parent / "data" / "nl2bash" / "learn.jsonl"
POLL_S: Final = 0.1
SETTLE_S: Final = 3.0
"""After the last example, for buffers to be given back."""


def main() -> None:
    """Measures and prints bytes an example."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--embedder", default="hashing", help="of both services (default hashing)")
    parser.add_argument("--times", type=int, default=8, help="that the tasks are learned (default 8)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="errata-bench-") as folder:
        logs = Path(folder) / "logs"
        logs.mkdir()
        flags = ("--store-dir", f"{folder}/store", "--log-dir", str(logs), "--embedder", arguments.embedder)
        with (
            start("learner_service", *flags) as learner,
            start("rag_service", "--learner", learner.address) as rag,
            learner.sync_channel() as learner_channel,
            rag.sync_channel() as rag_channel,
        ):
            notes = []
            for number in range(arguments.times):
                progress(f"learning the tasks, {number + 1} of {arguments.times}")
                _append(logs, f"copy-{number}")
                notes.append(_note(learner, rag, learner_channel, rag_channel))
    first, last = notes[0], notes[-1]
    count = last[0] - first[0]
    rows = [(f"{note[0]:,}", *(f"{value / MIB:,.0f}" for value in note[1:])) for note in notes]
    rows.append(
        ("an example, KiB", *(f"{(last[i] - first[i]) / count / 1024:.1f}" for i in range(1, len(first))))
    )
    print(machine_line())
    print_table(
        f"{arguments.embedder}, MiB", ("examples", "store", "Learner's memory", "RAG service's memory"), rows
    )


def _append(logs: Path, namespace: str) -> None:
    subprocess.run(  # noqa: S603 - a program of this project
        [
            *(sys.executable, "-m", "errata.cli", "events", str(TASKS)),
            *("--namespace", namespace, "--output", str(logs / f"{namespace}.jsonl")),
        ],
        check=True,
        capture_output=True,
    )


def _note(
    learner: Process, rag: Process, learner_channel: grpc.Channel, rag_channel: grpc.Channel
) -> tuple[int, int, int, int]:
    """Examples, bytes of the store, of the Learner and of the RAG service, once all is learned and found."""
    learner_stub, rag_stub = LearnerServiceStub(learner_channel), RagServiceStub(rag_channel)
    still_s = time.monotonic()
    before = -1
    while time.monotonic() - still_s < SETTLE_S:
        status = learner_stub.GetStatus(GetStatusRequest())
        found = rag_stub.GetIndexStatus(GetIndexStatusRequest())
        behind = any(file.offset_bytes < file.size_bytes for file in status.log_files)
        if status.head_revision != before or behind or found.applied_revision < status.head_revision:
            before, still_s = status.head_revision, time.monotonic()
        time.sleep(POLL_S)
    return status.example_count, status.store_bytes, private_bytes(learner.pid), private_bytes(rag.pid)


if __name__ == "__main__":
    main()
