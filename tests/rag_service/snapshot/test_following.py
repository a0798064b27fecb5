"""What the subscriber does at a bookmark where snapshots are kept, against a scripted Learner."""

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from structlog.testing import capture_logs

from errata.v1.learner_pb2 import WATCH_RESET_REASON_STORE_CHANGED as STORE_CHANGED
from errata.v1.learner_pb2_grpc import LearnerServiceStub
from rag_service.embedders import Embedders
from rag_service.reconnect import Reconnect
from rag_service.snapshot.directory import SnapshotDirectory
from rag_service.subscriber import Subscriber
from tests.rag_service.following import Builder
from tests.rag_service.manual_clock import until
from tests.rag_service.scripted_learner import ScriptedLearner, Stream, ToyStore, low, reset, scripted_learner
from tests.rag_service.snapshot.keeping import Keeping, keeping, saved_revision


@pytest.fixture
def store() -> ToyStore:
    store = ToyStore()
    store.put("a", "how to list files")
    store.put("b", "how to count lines")
    return store


@asynccontextmanager
async def following(
    learner: ScriptedLearner,
    path: Path,
    store: ToyStore,
    directory_type: type[SnapshotDirectory] = SnapshotDirectory,
) -> AsyncIterator[tuple[Keeping, Stream]]:
    """A service that follows, and its first stream."""
    async with (
        keeping(path, store, directory_type=directory_type) as it,
        grpc.aio.insecure_channel(learner.address) as channel,
    ):
        subscriber = Subscriber(
            learner=LearnerServiceStub(channel),
            mirror=it.mirror,
            embedders=Embedders(build=Builder()),
            progress=it.progress,
            reconnect=Reconnect(uniform=low),
            clock=it.clock,
            watcher="test",
            snapshots=it.keeper,
        )
        if it.restored is not None:
            subscriber.resume_from(it.restored)
            assert subscriber.synced.is_set()
        task = asyncio.create_task(subscriber.run())
        try:
            yield it, await learner.next_stream()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class SlowDirectory(SnapshotDirectory):
    """Records nothing before it is let."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked = threading.Event()
        self.let = threading.Event()

    def record(self, deletions: Mapping[bytes, int]) -> None:
        if deletions:
            self.asked.set()
            assert self.let.wait(10)
        super().record(deletions)


async def test_a_deletion_is_acknowledged_only_when_it_is_recorded(store: ToyStore, tmp_path: Path) -> None:
    async with (
        scripted_learner() as learner,
        following(learner, tmp_path, store, SlowDirectory) as (it, stream),
    ):
        directory = it.directory
        assert isinstance(directory, SlowDirectory)
        stream.send(store.hello(), store.everything())
        await it.saved(2)
        gone = store.delete("a")
        stream.send(store.batch(gone))
        await until(directory.asked.is_set)
        # Searches go on meanwhile, and no token of the deletion counts as reached.
        assert it.ids == {"b"}
        assert it.progress.applied_revision == 2
        directory.let.set()
        await until(lambda: it.progress.applied_revision == 3)


async def test_a_start_resumes_and_receives_only_what_it_missed(store: ToyStore, tmp_path: Path) -> None:
    async with scripted_learner() as learner:
        async with following(learner, tmp_path, store) as (it, stream):
            stream.send(store.hello(), store.everything())
            await it.saved(2)
        missed = [store.put("c", "how to sort"), store.delete("b")]
        async with following(learner, tmp_path, store) as (it, stream):
            assert stream.request.resume_token == b"store-1@2"
            stream.send(store.hello(), store.batch(*missed))
            await until(lambda: it.progress.applied_revision == 4)
            assert it.ids == {"a", "c"}
            assert it.mirror.live is it.restored
            assert it.mirror.resync_count == 0


async def test_a_state_that_a_restored_backup_contradicts_is_received_anew(
    store: ToyStore, tmp_path: Path
) -> None:
    backup = dict(store.rows)
    async with scripted_learner() as learner:
        async with following(learner, tmp_path, store) as (it, stream):
            stream.send(store.hello(), store.everything())
            await it.saved(2)
            stream.send(store.batch(store.delete("a")))
            await until(lambda: it.progress.applied_revision == 3)
        store.rows, store.head = backup, 2
        store.begin_epoch(102)
        with capture_logs() as logged:
            async with following(learner, tmp_path, store) as (it, stream):
                assert it.ids == {"b"}
                stream.send(store.hello(), store.bookmark())
                await until(lambda: it.mirror.rebuilding)
                it.clock.advance(1)
                again = await learner.next_stream()
                assert again.request.resume_token == b""
                again.send(store.hello(), store.everything())
                await until(lambda: not it.mirror.rebuilding)
                assert it.ids == {"a", "b"}
        assert [entry["event"] for entry in logged if entry["log_level"] == "error"] == [
            "the state received is wrong, starting from nothing"
        ]


async def test_a_state_of_another_store_is_served_until_the_new_one_is_there(
    store: ToyStore, tmp_path: Path
) -> None:
    other = ToyStore(store_id=b"store-2")
    other.put("x", "how to list pods")
    async with scripted_learner() as learner:
        async with following(learner, tmp_path, store) as (it, stream):
            stream.send(store.hello(), store.everything())
            await it.saved(2)
        async with following(learner, tmp_path, other) as (it, stream):
            stream.send(other.hello(), reset(STORE_CHANGED), other.everything(bookmark=False))
            await until(lambda: it.mirror.resume_token == other.resume_token)
            assert it.ids == {"a", "b"}
            stream.send(other.bookmark())
            await until(lambda: it.progress.applied_revision == 1)
            assert it.ids == {"x"}
            # Nothing of the old store comes back, not even before the new state is written.
            assert saved_revision(tmp_path) == 2
            async with keeping(it.copied(tmp_path.with_name("killed"))) as after:
                assert after.ids == set()
