"""Builds a RAG service and runs it: `errata-rag`, or `python -m rag_service`.

Here alone are the parts made, started and closed; everywhere else they are handed in finished.
"""

from errata.serving.early_signals import exit_on_signals

# Before the imports that take a second: a signal that comes now must end the process cleanly too.
exit_on_signals()

# ruff: noqa: E402
import os

# numpy's products read memory as fast as it goes with one thread; with more, searches at once fight over the
# cores. numpy looks at this once, when it is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import asyncio
import gc
import importlib.metadata
import random
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final

import grpc

from errata.embedding import EmbedderSettings
from errata.serving.channel import channel_options
from errata.serving.logs import configure_logs, get_logger
from errata.serving.metrics import RpcMetrics, new_registry, start_metrics_server
from errata.serving.process import StartError, Stop, run, write_address_file
from errata.serving.server import GrpcServer, Service
from errata.v1 import rag_pb2
from errata.v1.learner_pb2_grpc import LearnerServiceStub
from rag_service.background import BackgroundThread
from rag_service.clock import Clock, SystemClock
from rag_service.config import RagConfig, parse
from rag_service.embedders import BuildEmbedder, Embedders
from rag_service.index import ExampleIndex
from rag_service.index_metrics import IndexMetrics
from rag_service.mirror import Mirror, Replica
from rag_service.progress import Progress
from rag_service.pruning.fastest import FastestRanking, Kernel
from rag_service.query_embedder import build_threaded
from rag_service.ranking import BuildRanking
from rag_service.reconnect import Reconnect
from rag_service.service import STATUSES, RagServicer
from rag_service.snapshot.directory import SnapshotDirectory
from rag_service.snapshot.errors import DirectoryInUseError
from rag_service.snapshot.keeper import SnapshotKeeper
from rag_service.snapshot.start import read_replica
from rag_service.subscriber import Subscriber

SEARCH_THREAD_COUNT: Final = 4
"""Searches of large indexes at once. They read memory as fast as it goes: more threads gain nothing."""
LAST_SNAPSHOT_S_MAX: Final = 8.0
"""From SIGTERM to the last snapshot, which is written while calls are drained. 10 s after it all is over."""
GARBAGE_THRESHOLDS: Final = (50_000, 20, 100)
"""An index is hundreds of thousands of objects that are no garbage: a full look through 100,000 rows takes
80 ms, in which no search is answered. With Python's own (700, 10, 10) a sync takes a fifth longer."""
SERVICE: Final = rag_pb2.DESCRIPTOR.services_by_name["RagService"]

log = get_logger()

BuildIndex = Callable[[int], ExampleIndex]


def main() -> None:
    """Runs the service until it is told to end, and exits with what `process` documents."""
    config = parse(sys.argv[1:], os.environ)
    configure_logs(config.log_level)
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    if config.snapshot_dir is not None:
        # Where the compiled kernel is kept: read when numba is imported, which is later if at all.
        os.environ.setdefault("NUMBA_CACHE_DIR", str(config.snapshot_dir / "kernel"))
    sys.exit(run(partial(serve, config)))


async def serve(config: RagConfig, stop: Stop) -> None:
    """Starts every part, serves until asked to stop, and ends them in the opposite order."""
    version = importlib.metadata.version("errata")
    clock = SystemClock()
    progress = Progress(clock=clock)
    background = BackgroundThread()
    kernel = Kernel(background)
    build_index = partial(_build_index, partial(FastestRanking, kernel=kernel, background=background))
    mirror = Mirror(build_index=build_index, progress=progress, clock=clock)
    registry = new_registry()
    async with AsyncExitStack() as closing:
        background.start()
        closing.push_async_callback(asyncio.to_thread, background.close)
        embedders = Embedders(build=_build_embedder(config), fixed_spec=config.embedder)
        closing.push_async_callback(embedders.close)
        workers = closing.enter_context(ThreadPoolExecutor(SEARCH_THREAD_COUNT, thread_name_prefix="search"))
        channel = grpc.aio.insecure_channel(config.learner, options=channel_options())
        await closing.enter_async_context(channel)
        snapshots = _snapshots(config, build_index, mirror, embedders, clock, closing)
        subscriber = Subscriber(
            learner=LearnerServiceStub(channel),
            mirror=mirror,
            progress=progress,
            embedders=embedders,
            # Spreads reconnects; nothing secret hangs on it.
            reconnect=Reconnect(uniform=random.uniform),
            clock=clock,
            watcher=f"rag/{socket.gethostname()}/{os.getpid()}",
            namespaces=config.namespaces,
            snapshots=snapshots.keeper if snapshots is not None else None,
        )
        registry.register(IndexMetrics(mirror=mirror, progress=progress, subscriber=subscriber))
        servicer = RagServicer(
            mirror=mirror,
            progress=progress,
            workers=workers,
            namespaces=config.namespaces,
            version=version,
            redaction=config.redaction == "on",
        )
        server = GrpcServer(
            services=[Service(SERVICE, servicer)], statuses=STATUSES, metrics=RpcMetrics(registry)
        )
        if config.metrics_listen is not None:
            metrics_address, close_metrics = start_metrics_server(config.metrics_listen, registry)
            closing.callback(close_metrics)
            log.info("metrics are served", address=metrics_address)

        address = await server.start(config.listen)
        write_address_file(config.address_file, address)
        log.info("the RAG service is up", address=address, learner=config.learner, version=version)
        async with asyncio.TaskGroup() as parts:
            following = parts.create_task(_follow(subscriber, snapshots))
            announcing = parts.create_task(_announce(subscriber, kernel, server))
            await stop.wait()
            # Still following: a search that waits for a token may reach it yet.
            ending = [server.drain()]
            if snapshots is not None:
                ending.append(snapshots.keeper.finish(within_s=LAST_SNAPSHOT_S_MAX))
            await asyncio.gather(*ending)
            announcing.cancel()
            following.cancel()
        log.info("the RAG service has ended")


@dataclass(frozen=True, slots=True)
class _Snapshots:
    """What keeps snapshots, and what reads the one that an earlier process left."""

    keeper: SnapshotKeeper
    read: Callable[[], Awaitable[Replica | None]]


def _snapshots(
    config: RagConfig,
    build_index: BuildIndex,
    mirror: Mirror,
    embedders: Embedders,
    clock: Clock,
    closing: AsyncExitStack,
) -> _Snapshots | None:
    if config.snapshot_dir is None:
        return None
    directory = SnapshotDirectory(config.snapshot_dir)
    closing.callback(directory.close)
    try:
        directory.acquire()
    except DirectoryInUseError as error:
        raise StartError(str(error)) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise StartError(f"--snapshot-dir {config.snapshot_dir} is no directory; name another one") from error
    except OSError as error:
        # It may become writable later; what is there cannot be kept true to deletions until then.
        log.warning("cannot use the directory of snapshots, serving without", problem=str(error))
    keeper = SnapshotKeeper(
        directory=directory,
        mirror=mirror,
        namespaces=config.namespaces,
        clock=clock,
        wall_us=_wall_us,
        writer=closing.enter_context(ThreadPoolExecutor(1, thread_name_prefix="snapshot-writer")),
        files=closing.enter_context(ThreadPoolExecutor(1, thread_name_prefix="snapshot-files")),
    )
    return _Snapshots(
        keeper,
        partial(
            read_replica,
            directory=directory,
            embedders=embedders,
            build_index=build_index,
            namespaces=config.namespaces,
            clock=clock,
            wall_us=_wall_us,
        ),
    )


async def _follow(subscriber: Subscriber, snapshots: _Snapshots | None) -> None:
    """Goes on from where an earlier process was, for ever."""
    if snapshots is None:
        await subscriber.run()
        return
    replica = await snapshots.read()
    if replica is not None:
        snapshots.keeper.restored(replica)
        subscriber.resume_from(replica)
    async with asyncio.TaskGroup() as parts:
        parts.create_task(snapshots.keeper.run())
        parts.create_task(subscriber.run())


async def _announce(subscriber: Subscriber, kernel: Kernel, server: GrpcServer) -> None:
    """Says that the service serves, once there is something to answer from, and nothing is being compiled for
    a large index.
    """
    await subscriber.synced.wait()
    await kernel.settled()
    await server.set_serving(SERVICE.full_name, True)


def _build_embedder(config: RagConfig) -> BuildEmbedder:
    settings = EmbedderSettings(
        openai_base_url=config.openai_base_url,
        openai_api_key=config.openai_api_key,
        openai_api_key_file=config.openai_api_key_file,
    )
    return partial(build_threaded, settings=settings)


def _wall_us() -> int:
    return time.time_ns() // 1_000


def _build_index(build_ranking: BuildRanking, dimension: int) -> ExampleIndex:
    return ExampleIndex(dimension=dimension, build_ranking=build_ranking)


if __name__ == "__main__":
    main()
