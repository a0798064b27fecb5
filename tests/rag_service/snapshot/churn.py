"""A process that learns, forgets and writes snapshots as fast as it can, until it is killed."""

import asyncio
import itertools
from multiprocessing.connection import Connection
from pathlib import Path

from tests.rag_service.scripted_learner import ToyStore
from tests.rag_service.snapshot.keeping import keeping

EXAMPLE_COUNT = 300
TEXT = "a question that takes some room " * 20
"""So that writing takes about as long as everything else."""


def churn(path: Path, said: Connection) -> None:
    """Runs until it is killed.

    Args:
        path: the directory.
        said: gets ("saved", revision) for each snapshot that is known to be there, and ("deleted", ID) for
            each deletion whose bookmark was acknowledged.
    """
    asyncio.run(_churn(path, said))


async def _churn(path: Path, said: Connection) -> None:
    store = ToyStore()
    async with keeping(path, store) as it:
        it.open()
        await it.bookmark(*[store.put(f"e{number}", f"{TEXT} {number}") for number in range(EXAMPLE_COUNT)])
        await it.saved(store.head)
        told_revision = 0
        for number in itertools.count():
            saved = it.keeper._saved
            if saved is not None and saved.applied_revision > told_revision:
                told_revision = saved.applied_revision
                said.send(("saved", told_revision))
            await it.bookmark(store.put(f"e{number + EXAMPLE_COUNT}", TEXT), store.delete(f"e{number}"))
            said.send(("deleted", f"e{number}"))
            if not it.keeper._saving.locked():
                # The next one is due at once.
                it.clock.advance(1_000)
