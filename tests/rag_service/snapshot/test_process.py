"""Snapshots of the service as a process of its own: ended, killed, and started while the Learner is away."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from errata.v1 import rag_pb2
from errata.v1.rag_pb2_grpc import RagServiceStub
from rag_service.snapshot.errors import SnapshotDamagedError
from scripts.processes import Process, start
from tests.rag_service.scripted_learner import ScriptedLearner, Stream, ToyStore, scripted_learner
from tests.rag_service.snapshot.keeping import saved_revision
from tests.rag_service.test_main import SPEC, RealEmbedder

NOBODY = "127.0.0.1:9"
"""Where no Learner answers."""
QUESTIONS = {"a": "how to list files", "b": "how to count lines", "c": "how to sort a table"}


@pytest.fixture
def store() -> ToyStore:
    store = ToyStore(embedder=RealEmbedder(), spec=SPEC)
    for name in "abc":
        store.put(name, QUESTIONS[name])
    return store


@dataclass
class Running:
    process: Process
    rag: Any

    async def found(self, name: str) -> list[str]:
        """What a search for the question of an example finds."""
        response = await self.rag.Search(rag_pb2.SearchRequest(text=QUESTIONS[name], min_score=0.9))
        return [result.example.id for result in response.results]

    async def status(self) -> Any:
        return await self.rag.GetIndexStatus(rag_pb2.GetIndexStatusRequest())

    async def reached(self, revision: int) -> None:
        async with asyncio.timeout(10):
            while (await self.status()).applied_revision != revision:  # noqa: ASYNC110 - told by nothing else
                await asyncio.sleep(0.005)

    def logged(self, level: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.process.stderr.splitlines()]
        return [line for line in lines if line["level"] == level]


@asynccontextmanager
async def running(path: Path, learner: str = NOBODY) -> AsyncIterator[Running]:
    flags = ("--snapshot-dir", str(path), "--learner", learner)
    async with start("rag_service", *flags, until="listening") as process, process.channel() as channel:
        yield Running(process, RagServiceStub(channel))


async def synced(learner: ScriptedLearner, store: ToyStore, it: Running) -> Stream:
    """The stream, after everything has been sent over it."""
    stream = await learner.next_stream()
    assert stream.request.resume_token == b""
    stream.send(store.hello(), store.everything())
    await it.reached(store.head)
    return stream


async def saved(path: Path, revision: int) -> None:
    async with asyncio.timeout(10):
        while revision_of(path) != revision:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.005)


def revision_of(path: Path) -> int | None:
    with contextlib.suppress(SnapshotDamagedError):
        return saved_revision(path)
    return None


@pytest.mark.slow
async def test_a_killed_service_comes_back_without_the_learner_and_without_what_was_deleted(
    store: ToyStore, tmp_path: Path
) -> None:
    path = tmp_path / "kept"
    async with scripted_learner() as learner:
        async with running(path, learner.address) as it:
            stream = await synced(learner, store, it)
            await saved(path, 3)
            gone, late = store.delete("a"), store.put("c", QUESTIONS["c"], labels={"team": "infra"})
            stream.send(store.batch(gone, late))
            await it.reached(5)
            it.process.kill()
        assert saved_revision(path) == 3

        async with running(path) as it:
            await it.process.wait_until_serving_async("errata.v1.RagService")
            status = await it.status()
            assert status.state == rag_pb2.INDEX_STATE_STALE
            assert (status.applied_revision, status.store_id) == (3, store.store_id)
            assert [await it.found(name) for name in "abc"] == [[], ["b"], ["c"]]
            response = await it.rag.Search(rag_pb2.SearchRequest(text=QUESTIONS["b"]))
            assert response.degraded
            assert await it.process.terminate_async() == 0
            assert it.logged("warning") == []

        async with running(path, learner.address) as it:
            resumed = await learner.next_stream()
            assert resumed.request.resume_token == b"store-1@3"
            # No more than was missed.
            resumed.send(store.hello(), store.batch(gone, late))
            await it.reached(5)
            assert [await it.found(name) for name in "abc"] == [[], ["b"], ["c"]]
            response = await it.rag.Search(rag_pb2.SearchRequest(text=QUESTIONS["b"]))
            assert not response.degraded
            assert (await it.status()).state == rag_pb2.INDEX_STATE_LIVE


@pytest.mark.slow
async def test_a_service_that_is_told_to_end_saves_what_is_new(store: ToyStore, tmp_path: Path) -> None:
    path = tmp_path / "kept"
    async with scripted_learner() as learner, running(path, learner.address) as it:
        stream = await synced(learner, store, it)
        await saved(path, 3)
        stream.send(store.batch(store.delete("b")))
        await it.reached(4)
        assert await it.process.terminate_async() == 0
        assert saved_revision(path) == 4
    async with running(path) as it:
        await it.process.wait_until_serving_async()
        assert [await it.found(name) for name in "abc"] == [["a"], [], ["c"]]

        with start("rag_service", "--snapshot-dir", str(path), until="running") as second:
            assert await second.wait_async() == 1
            assert f"--snapshot-dir {path} is used by another RAG service" in second.stderr
            assert "Traceback" not in second.stderr


@pytest.mark.slow
async def test_a_damaged_snapshot_is_told_of_and_everything_is_received_anew(
    store: ToyStore, tmp_path: Path
) -> None:
    path = tmp_path / "kept"
    path.mkdir()
    (path / "snapshot").write_bytes(b"ERRATA, but no snapshot")
    async with scripted_learner() as learner, running(path, learner.address) as it:
        await synced(learner, store, it)
        assert await it.found("a") == ["a"]
        await saved(path, 3)
        (told,) = it.logged("warning")
        assert told["event"] == "the snapshot cannot be used, starting from nothing"


@pytest.mark.slow
def test_a_file_is_no_directory_of_snapshots(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with start("rag_service", "--snapshot-dir", str(path), until="running") as process:
        assert process.wait() == 1
        (line,) = process.stderr.splitlines()
        assert line.startswith("error: --snapshot-dir")
        assert str(path) in line


@pytest.mark.slow
async def test_a_service_that_cannot_use_the_directory_serves_without(
    store: ToyStore, tmp_path: Path
) -> None:
    path = tmp_path / ("too long a name" * 20)
    async with scripted_learner() as learner, running(path, learner.address) as it:
        stream = await synced(learner, store, it)
        stream.send(store.batch(store.delete("a")))
        await it.reached(4)
        assert [await it.found(name) for name in "abc"] == [[], ["b"], ["c"]]
        assert "serving without" in it.logged("warning")[0]["event"]
        assert await it.process.terminate_async() == 0
