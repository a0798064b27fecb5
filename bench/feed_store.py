"""Stores full of examples for the benchmarks of the change feed, written without learning anything."""

import time
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.report import progress
from errata.embedding import build_embedder
from errata.v1.block_pb2 import BLOCK_KIND_CODE, BLOCK_KIND_MARKUP, BlockEvent
from errata.v1.example_pb2 import Example
from learner_service.store.store import Store
from learner_service.store.write_transaction import WriteTransaction

EMBEDDER = "hashing"
"""Of the services that run on such a store: 384 dimensions and no model to load."""

TIME_S_FIRST = 1_700_000_000
"""Times of runs count from here."""
BYTES_MAX = 64 << 30
_TRANSACTION_EXAMPLES = 2_000


def wall_us() -> int:
    """The clock of a store."""
    return time.time_ns() // 1_000


def fill(directory: Path, count: int, vectors: NDArray[np.float32] | None = None) -> None:
    """Makes a store of so many examples, for a Learner with the embedder `EMBEDDER`.

    Args:
        directory: of the store.
        count: of the examples.
        vectors: their embeddings, one row each, of the embedder's dimension; random ones when None.
    """
    progress(f"writing {count:,} examples")
    embedder = build_embedder(EMBEDDER)
    generator = np.random.default_rng(count)
    with Store.open(directory, clock_us=wall_us, bytes_max=BYTES_MAX) as store:
        store.submit(lambda transaction: transaction.set_embedder_fingerprint(embedder.fingerprint)).result()
        for first in range(0, count, _TRANSACTION_EXAMPLES):
            some = min(_TRANSACTION_EXAMPLES, count - first)
            if vectors is None:
                rows = random_rows(generator, some, embedder.dimension)
            else:
                rows = vectors[first : first + some]
            examples = [example(first + place, row, embedder.fingerprint) for place, row in enumerate(rows)]
            store.submit(partial(_put, examples=examples)).result()


def example(place: int, embedding: NDArray[np.float32], fingerprint: str) -> Example:
    """An example of usual size."""
    made = Example(
        id=_block_id(place),
        query_text=_question(place),
        embedding=embedding.tobytes(),
        embedder_fingerprint=fingerprint,
    )
    made.query.blocks.add(kind=BLOCK_KIND_MARKUP, contents=made.query_text)
    made.answer.add(kind=BLOCK_KIND_CODE, language="bash", contents=f"kubectl get pods -n {place} | sort")
    made.executed_time.seconds = TIME_S_FIRST + place
    return made


def place_of(made: Example) -> int:
    """Where an example stands that `example` made."""
    return int(made.id.removeprefix("block-"))


def random_rows(generator: np.random.Generator, count: int, dimension: int) -> NDArray[np.float32]:
    """Unit vectors in all directions."""
    rows = generator.standard_normal((count, dimension))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.float32] = rows.astype(np.float32)
    return unit


def rewrite_event(place: int, number: int) -> BlockEvent:
    """A run that makes another example of the one at a place; `number` rises with each."""
    event = BlockEvent(block_id=_block_id(place))
    event.event_time.FromSeconds(TIME_S_FIRST + number)
    event.executed.exit_code = 0
    event.executed.block.kind = BLOCK_KIND_CODE
    event.executed.block.language = "bash"
    event.executed.block.contents = f"kubectl get pods -n {place} | sort --version {number}"
    event.executed.doc.blocks.add(kind=BLOCK_KIND_MARKUP, contents=_question(place))
    return event


def _put(transaction: WriteTransaction, examples: list[Example]) -> None:
    for each in examples:
        transaction.put_example(each)


def _block_id(place: int) -> str:
    return f"block-{place:09d}"


def _question(place: int) -> str:
    return f"how do I list the pods of namespace {place} and sort them by name"
