"""Builds a RAG service and runs it: `errata-rag`, or `python -m rag_service`.

Here alone are the parts made, started and closed; everywhere else they are handed in finished.
"""

from errata.serving.process import exit_on_signals

# Before the imports that take a second: a signal that comes now must end the process cleanly too.
exit_on_signals()

# ruff: noqa: E402
import os

# numpy's products read memory as fast as it goes with one thread; with more, searches at once fight over the
# cores. numpy looks at this once, when it is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import asyncio
import importlib.metadata
import random
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

import grpc

from errata.serving.channel import channel_options
from errata.serving.logs import configure_logs, get_logger
from errata.serving.metrics import RpcMetrics, new_registry, start_metrics_server
from errata.serving.process import Stop, run, write_address_file
from errata.serving.server import GrpcServer, Service
from errata.v1 import rag_pb2
from errata.v1.learner_pb2_grpc import LearnerServiceStub
from rag_service.clock import SystemClock
from rag_service.config import RagConfig, parse
from rag_service.embedders import Embedders
from rag_service.index import ExampleIndex
from rag_service.index_metrics import IndexMetrics
from rag_service.mirror import Mirror
from rag_service.progress import Progress
from rag_service.query_embedder import build_threaded
from rag_service.reconnect import Reconnect
from rag_service.service import STATUSES, RagServicer
from rag_service.subscriber import Subscriber

SEARCH_THREAD_COUNT: Final = 4
"""Searches of large indexes at once. They read memory as fast as it goes: more threads gain nothing."""
SERVICE: Final = rag_pb2.DESCRIPTOR.services_by_name["RagService"]

log = get_logger()


def main() -> None:
    """Runs the service until it is told to end, and exits with what `process` documents."""
    config = parse(sys.argv[1:], os.environ)
    configure_logs(config.log_level)
    sys.exit(run(partial(serve, config)))


async def serve(config: RagConfig, stop: Stop) -> None:
    """Starts every part, serves until asked to stop, and ends them in the opposite order."""
    version = importlib.metadata.version("errata")
    clock = SystemClock()
    progress = Progress(clock=clock)
    mirror = Mirror(build_index=_build_index, progress=progress, clock=clock)
    registry = new_registry()
    async with AsyncExitStack() as closing:
        embedders = Embedders(build=build_threaded, fixed_spec=config.embedder)
        closing.push_async_callback(embedders.close)
        workers = closing.enter_context(ThreadPoolExecutor(SEARCH_THREAD_COUNT, thread_name_prefix="search"))
        channel = grpc.aio.insecure_channel(config.learner, options=channel_options())
        await closing.enter_async_context(channel)
        subscriber = Subscriber(
            learner=LearnerServiceStub(channel),
            mirror=mirror,
            embedders=embedders,
            # Spreads reconnects; nothing secret hangs on it.
            reconnect=Reconnect(uniform=random.uniform),
            clock=clock,
            watcher=f"rag/{socket.gethostname()}/{os.getpid()}",
            namespaces=config.namespaces,
        )
        registry.register(IndexMetrics(mirror=mirror, progress=progress, subscriber=subscriber))
        servicer = RagServicer(
            mirror=mirror, progress=progress, workers=workers, namespaces=config.namespaces, version=version
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
            following = parts.create_task(subscriber.run())
            announcing = parts.create_task(_announce(subscriber, server))
            await stop.wait()
            # Still following: a search that waits for a token may reach it yet.
            await server.drain()
            announcing.cancel()
            following.cancel()
        log.info("the RAG service has ended")


async def _announce(subscriber: Subscriber, server: GrpcServer) -> None:
    """Says that the service serves, once there is something to answer from."""
    await subscriber.synced.wait()
    await server.set_serving(SERVICE.full_name, True)


def _build_index(dimension: int) -> ExampleIndex:
    return ExampleIndex(dimension=dimension)


if __name__ == "__main__":
    main()
