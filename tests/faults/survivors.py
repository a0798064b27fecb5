"""Says what a store has lost of what was promised."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

from errata.embedding import build_embedder
from errata.v1.example_pb2 import Example
from learner_service.keys import BlockKey
from learner_service.store.read_transaction import ReadTransaction
from learner_service.store.store import Store
from tests.faults.recording import Promise

EMBEDDER: Final = build_embedder("hashing")
"""Of the Learners that are killed."""


def pending_block_count(store_dir: Path) -> int:
    """How many blocks wait in the store of a Learner that is gone."""
    with _opened(store_dir) as store, store.read() as transaction:
        return transaction.queue_summary().queued_block_count


def losses(store_dir: Path, promises: Mapping[str, Promise], forgotten: Collection[str] = ()) -> list[str]:
    """Compares the store of a Learner that had learned everything with what was promised; a sentence each."""
    with _opened(store_dir) as store:
        problems = store.check()
        with store.read() as transaction:
            return [*problems, *_losses(transaction, promises, forgotten)]


def _losses(
    transaction: ReadTransaction, promises: Mapping[str, Promise], forgotten: Collection[str]
) -> Iterator[str]:
    for block_id, promise in promises.items():
        key = BlockKey("", block_id)
        record = transaction.block(key)
        if record is None:
            yield f"{block_id}: acknowledged, but there is no such block"
            continue
        run = record.executed.executed.block.contents
        if run != promise.run:
            yield f"{block_id}: {promise.run!r} was acknowledged, the block has {run!r}"
        stored = transaction.example(key)
        example = None if stored is None else stored.example
        answer = None if example is None else example.answer[0].contents
        if answer != promise.answer:
            yield f"{block_id}: should answer {promise.answer!r}, answers {answer!r}"
        if example is not None and promise.question:
            yield from _wrong_questions(example, promise.question)
    for block_id in forgotten:
        key = BlockKey("", block_id)
        record = transaction.block(key)
        if record is None or not record.forgotten or record.HasField("executed"):
            yield f"{block_id}: was forgotten, and is known"
        if transaction.is_learned(key):
            yield f"{block_id}: was forgotten, and has an example"
    known_count = len(promises) + len(forgotten)
    if transaction.block_count > known_count:
        yield f"{transaction.block_count} blocks, of which only {known_count} were acknowledged"


def _wrong_questions(example: Example, question: str) -> Iterator[str]:
    if example.query_text != question:
        yield f"{example.id}: asks {example.query_text!r}, not {question!r}"
    elif example.embedding != EMBEDDER.documents([question]).tobytes():
        yield f"{example.id}: its vector is that of another question"


def _opened(store_dir: Path) -> Store:
    return Store.open(store_dir, clock_us=lambda: 0, bytes_max=1 << 36)
