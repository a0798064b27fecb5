"""SIGKILL at any moment leaves a snapshot that can be used, and that gives back nothing that was deleted."""

import asyncio
import multiprocessing
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.rag_service.snapshot.churn import EXAMPLE_COUNT, churn
from tests.rag_service.snapshot.keeping import keeping, saved_revision

KILLS = 10
CHURN_S_MAX = 0.3
"""A few snapshots."""


@contextmanager
def churning(path: Path) -> Iterator[tuple[ForkServerProcess, Connection]]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.rag_service.snapshot.churn"])
    heard, said = context.Pipe(duplex=False)
    process = context.Process(target=churn, args=(path, said))
    process.start()
    said.close()
    try:
        yield process, heard
    finally:
        process.kill()
        process.join()
        heard.close()


def kill_after(path: Path, seconds: float) -> tuple[list[int], set[str]]:
    """Kills a process so long after its first snapshot.

    Returns:
        Revisions of the snapshots known to have been there, and the examples known to have been deleted.
    """
    saved, deleted = list[int](), set[str]()
    with churning(path) as (process, heard):
        assert heard.poll(30)
        # Read all the while, or the pipe fills up and the process waits.
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            if heard.poll(left_s):
                take_in(heard, saved, deleted)
        process.kill()
        process.join()
        with suppress(EOFError):
            while True:
                take_in(heard, saved, deleted)
    return saved, deleted


def take_in(heard: Connection, saved: list[int], deleted: set[str]) -> None:
    match heard.recv():
        case ("saved", int(revision)):
            saved.append(revision)
        case ("deleted", str(example_id)):
            deleted.add(example_id)


@pytest.mark.slow
async def test_a_killed_process_leaves_the_old_snapshot_or_the_new_one(tmp_path: Path) -> None:
    generator = random.Random(7)
    snapshot_count = deleted_count = beside_count = 0
    for kill in range(KILLS):
        path = tmp_path / f"{kill}"
        saved, deleted = await asyncio.to_thread(kill_after, path, generator.uniform(0, CHURN_S_MAX))
        snapshot_count += len(saved)
        deleted_count += len(deleted)
        beside_count += any(each.name == "snapshot.tmp" for each in path.iterdir())
        revision = saved_revision(path)
        assert revision is not None
        assert revision >= saved[-1]
        with capture_logs() as logged:
            async with keeping(path) as it:
                assert it.ids.isdisjoint(deleted)
                assert it.mirror.live is not None
                assert it.mirror.live.index.count == EXAMPLE_COUNT
        assert [entry for entry in logged if entry["log_level"] == "warning"] == []
    # Otherwise nothing was tried.
    assert snapshot_count > KILLS
    assert deleted_count > KILLS
    assert beside_count > 0
