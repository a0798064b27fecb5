"""How often the right example is found: `python -m bench.quality`.

Embeds the 10,594 tasks of NL2Bash and 856 paraphrases of some of them, ranks by exact cosine, and counts for
how many of the paraphrases the right task is the first, or among the first ten. Exits with 1 when the default
embedder falls short of its targets.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from errata.embedding import build_embedder
from errata.text import query_from_text, redact

DATA = Path(__file__).parent.parent / "data" / "nl2bash"

CHUNK_TEXT_COUNT = 256
"""Embedded between two steps of the progress bar."""

TARGETS = {1: 0.33, 10: 0.70}
"""Least hit rate of `minilm`, by the number of results looked at."""


def main() -> int:
    """Measures and prints hit rates; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--embedder", default="minilm", help="the embedder to measure (default minilm)")
    arguments = parser.parse_args()
    embedder = build_embedder(arguments.embedder)
    tasks, paraphrases = _rows("learn.jsonl"), _rows("queries.jsonl")
    begin_s = time.perf_counter()
    documents = _embedded(embedder.documents, [row["question"] for row in tasks], "tasks")
    documents_s = time.perf_counter() - begin_s
    queries = _embedded(embedder.queries, [row["question"] for row in paraphrases], "paraphrases")
    position_of = {row["id"]: position for position, row in enumerate(tasks)}
    ranks = _ranks(documents, queries, [position_of[row["answer_id"]] for row in paraphrases])
    print(f"{len(tasks)} tasks, {len(paraphrases)} paraphrases, embedder {embedder.fingerprint}")
    print(f"{'tasks embedded a second':28}{len(tasks) / documents_s:9.0f}")
    reached = True
    for count, target in TARGETS.items():
        rate = float(np.mean(ranks < count))
        line = f"{f'hit@{count}':28}{rate:9.3f}"
        if embedder.spec == "minilm":
            line += f"   target {target:.2f}   {'reached' if rate >= target else 'MISSED'}"
            reached = reached and rate >= target
        print(line)
    print(f"{'mean reciprocal rank':28}{float(np.mean(1 / (ranks + 1))):9.3f}")
    return 0 if reached else 1


def _rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _embedded(
    embed: Callable[[Sequence[str]], NDArray[np.float32]], questions: Sequence[str], name: str
) -> NDArray[np.float32]:
    """Unit rows of the query texts of the questions, as the services make them."""
    texts = [query_from_text(redact(question)).text for question in questions]
    # Texts of one length side by side: the least padding, so the fastest.
    by_length = sorted(range(len(texts)), key=lambda position: len(texts[position]))
    chunks = [by_length[start : start + CHUNK_TEXT_COUNT] for start in range(0, len(texts), CHUNK_TEXT_COUNT)]
    rows: NDArray[np.float32] | None = None
    for chunk in track(chunks, f"embedding {name}", transient=True):
        embedded = embed([texts[position] for position in chunk])
        if rows is None:
            rows = np.empty((len(texts), embedded.shape[1]), np.float32)
        rows[chunk] = embedded
    if rows is None:
        raise ValueError(f"no {name}")
    return rows


def _ranks(
    documents: NDArray[np.float32], queries: NDArray[np.float32], answers: Sequence[int]
) -> NDArray[np.int64]:
    """For each query, how many documents are nearer than its answer: 0 is a hit at once."""
    scores = queries @ documents.T
    # A document of the same score counts as nearer, so that a tie is never taken for a hit.
    answer_scores = scores[np.arange(len(answers)), np.asarray(answers)][:, np.newaxis]
    nearer_counts: NDArray[np.int64] = np.sum(scores >= answer_scores, axis=1, dtype=np.int64)
    return nearer_counts - 1


if __name__ == "__main__":
    sys.exit(main())
