"""A mirror whose snapshots are kept, fed by the test as the subscriber feeds it."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from errata.snapshot.v1 import snapshot_pb2
from errata.v1 import learner_pb2
from rag_service.embedders import Embedders
from rag_service.mirror import Mirror, Replica, Source
from rag_service.progress import Progress
from rag_service.read_your_writes import Epochs
from rag_service.snapshot.directory import SnapshotDirectory
from rag_service.snapshot.file import SnapshotFile
from rag_service.snapshot.keeper import SnapshotKeeper
from rag_service.snapshot.start import read_replica
from tests.rag_service.following import Builder, build_index, found_ids
from tests.rag_service.manual_clock import ManualClock, until
from tests.rag_service.scripted_learner import ToyEmbedder, ToyStore

WALL_US = 1_700_000_000_000_000
Result = TypeVar("Result")


class Writer(ThreadPoolExecutor):
    """One thread; a job takes so long by the clock of the test, and waits for `gate` to be let in."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(1)
        self.takes_s = 0.0
        self.submitted_count = 0
        self.gate: Future[None] | None = None
        self._clock = clock

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        self.submitted_count += 1
        self._clock.advance(self.takes_s)
        gate = self.gate

        def gated() -> Result:
            if gate is not None:
                gate.result(timeout=30)
            return fn(*args, **kwargs)

        return super().submit(gated)


@dataclass
class Keeping:
    """The parts, and what the Learner would have sent."""

    path: Path
    clock: ManualClock
    mirror: Mirror
    progress: Progress
    directory: SnapshotDirectory
    keeper: SnapshotKeeper
    writer: Writer
    files: ThreadPoolExecutor
    store: ToyStore
    restored: Replica | None
    namespaces: tuple[str, ...]
    embedder: ToyEmbedder = field(default_factory=ToyEmbedder)

    @property
    def ids(self) -> set[str]:
        """The examples that a search can find."""
        assert self.mirror.live is not None
        return found_ids(self.mirror.live.index)

    def open(self) -> None:
        """A stream begins."""
        self.mirror.open(
            Source(
                store_id=self.store.store_id,
                epochs=Epochs(self.store.hello().hello.epochs),
                embedder=self.embedder,
                embedder_spec=self.store.spec,
            )
        )

    async def bookmark(self, *updates: learner_pb2.ExampleUpdate) -> None:
        """Changes come, and a bookmark after them."""
        self.mirror.receive(updates)
        bookmark = self.store.bookmark().bookmark
        assert self.mirror.agrees_with(bookmark)
        await self.keeper.record_deletions()
        assert self.mirror.bookmark(bookmark)
        self.keeper.bookmarked()

    async def learn(self, example_id: str, text: str = "") -> None:
        await self.bookmark(self.store.put(example_id, text or f"question {example_id}"))

    async def forget(self, example_id: str) -> None:
        await self.bookmark(self.store.delete(example_id))

    async def resync(self) -> None:
        """A Reset, and then everything anew."""
        self.mirror.reset()
        await self.bookmark(
            *[update for _, update in sorted(self.store.rows.values(), key=lambda row: row[0])]
        )

    async def saved(self, revision: int) -> None:
        """Returns when the snapshot is of this bookmark."""
        await until(lambda: saved_revision(self.path) == revision and not self.keeper._saving.locked())

    async def settle(self) -> None:
        """Lets everything happen that is to happen now, on the event loop and on the threads."""
        for _ in range(3):
            await asyncio.wrap_future(self.files.submit(lambda: None))
            if self.writer.gate is None:
                await asyncio.wrap_future(ThreadPoolExecutor.submit(self.writer, lambda: None))
            for _ in range(10):
                await asyncio.sleep(0)

    def copied(self, to: Path) -> Path:
        """The directory as a process that is killed now leaves it."""
        return Path(shutil.copytree(self.path, to))


def saved_header(path: Path) -> snapshot_pb2.SnapshotHeader | None:
    """Header of the snapshot in a directory; None when there is none."""
    try:
        with SnapshotFile.open(path / "snapshot") as file:
            return file.header
    except FileNotFoundError:
        return None


def saved_revision(path: Path) -> int | None:
    """Revision of the bookmark of the snapshot in a directory; None when there is none."""
    header = saved_header(path)
    return header.bookmark.revision if header is not None else None


@asynccontextmanager
async def keeping(
    path: Path,
    store: ToyStore | None = None,
    *,
    namespaces: tuple[str, ...] = (),
    builder: Builder | None = None,
    fixed_spec: str | None = None,
    directory_type: type[SnapshotDirectory] = SnapshotDirectory,
    wall_us: Callable[[], int] = lambda: WALL_US,
) -> AsyncIterator[Keeping]:
    """A service as it starts, without a stream; `keeper.run` runs until the end."""
    clock = ManualClock()
    progress = Progress(clock=clock)
    mirror = Mirror(build_index=build_index, progress=progress, clock=clock)
    directory = directory_type(path)
    directory.acquire()
    with Writer(clock) as writer, ThreadPoolExecutor(1) as files:
        keeper = SnapshotKeeper(
            directory=directory,
            mirror=mirror,
            namespaces=namespaces,
            clock=clock,
            wall_us=wall_us,
            writer=writer,
            files=files,
        )
        replica = await read_replica(
            directory=directory,
            embedders=Embedders(build=builder or Builder(), fixed_spec=fixed_spec),
            build_index=build_index,
            namespaces=namespaces,
            clock=clock,
            wall_us=wall_us,
        )
        if replica is not None:
            keeper.restored(replica)
            mirror.restore(replica)
        running = asyncio.create_task(keeper.run())
        try:
            yield Keeping(
                path,
                clock,
                mirror,
                progress,
                directory,
                keeper,
                writer,
                files,
                store or ToyStore(),
                replica,
                namespaces,
            )
            assert not running.done() or running.exception() is None
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    directory.close()
