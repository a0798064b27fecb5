"""Builds a Learner and runs it: `errata-learner`, or `python -m learner_service`.

Here alone are the parts made, started and closed; everywhere else they are handed in finished.
"""

import sys

from errata.serving.early_signals import exit_on_signals

# Before the imports that take a second: a signal that comes now must end the process cleanly too.
exit_on_signals()

# ruff: noqa: E402
import asyncio
import contextlib
import importlib.metadata
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from typing import TypeVar

from errata.embedding import (
    Embedder,
    EmbedderError,
    EmbedderSettings,
    EmbeddingThread,
    build_embedder,
    check_embedder,
)
from errata.serving import logs
from errata.serving.metrics import RpcMetrics, new_registry, start_metrics_server
from errata.serving.process import StartError, Stop, run, write_address_file
from errata.serving.server import GrpcServer, Service
from errata.text import REDACTION_RULES_HASH
from errata.v1 import learner_pb2
from learner_service.analyzer.analyzer import Analyzer
from learner_service.analyzer.directories import LogDirectory
from learner_service.analyzer.metrics import AnalyzerMetrics
from learner_service.backfill.calls import Backfills
from learner_service.backfill.feed import BackfillFeed
from learner_service.change_feed import ChangeFeed, EmbedderIdentity
from learner_service.clock import MonotonicClock
from learner_service.config import LearnerConfig, parse
from learner_service.derive import Policy
from learner_service.errors import StoreError
from learner_service.heaps import limit_heaps
from learner_service.inspection import Identity, Inspection
from learner_service.keys import BlockKey
from learner_service.learner_metrics import LearnerMetrics, ReconcileMetrics
from learner_service.learning import Learning
from learner_service.maintenance import DeletionLimits, Maintenance
from learner_service.reconciler import Reconciler
from learner_service.recorder import Recorder, record_events
from learner_service.reembed import Reembedding
from learner_service.service import STATUSES, LearnerServicer
from learner_service.start import adopt_embedder, adopt_policy, adopt_redaction
from learner_service.store.schema import SCHEMA, Schema
from learner_service.store.store import Store
from learner_service.workqueue.backoff import ExponentialBackoff
from learner_service.workqueue.metrics import QueueMetrics
from learner_service.workqueue.queue import WorkQueue

SWITCH_INTERVAL_S = 0.0005
"""LMDB's calls give up the interpreter lock, and getting it back from a thread that computes takes as long as
this. Python's 5 ms made such a commit take 6.4 ms instead of 2.1; see `bench/interpreter_lock.py`."""

SERVICE = learner_pb2.DESCRIPTOR.services_by_name["LearnerService"]

T = TypeVar("T")

log = logs.get_logger()


def main() -> None:
    """Runs the Learner until it is told to end, and exits with what `process` documents."""
    config = parse(sys.argv[1:], os.environ)
    logs.configure_logs(config.log_level)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    limit_heaps()
    sys.exit(run(partial(serve, config)))


async def serve(config: LearnerConfig, stop: Stop, *, schema: Schema = SCHEMA) -> None:
    """Starts every part, serves until asked to stop, and ends them in the opposite order.

    Args:
        config: what the Learner is told.
        stop: ends it.
        schema: the layout of the store, for tests of what a start does with a store of another version.
    """
    started_us = _wall_us()
    policy = Policy(config.policy)
    redaction = config.redaction == "on"
    async with contextlib.AsyncExitStack() as closing:
        # Before a store is made that a slip of the pen would leave behind.
        await _off_the_loop(partial(check_embedder, config.embedder), config)
        store = closing.enter_context(_store(config, schema))
        embedder = await _embedder(config, store)
        closing.callback(embedder.close)
        identity = EmbedderIdentity(
            spec=embedder.spec, fingerprint=embedder.fingerprint, dimension=embedder.dimension
        )
        reembed = await adopt_embedder(store, identity.fingerprint, reembed=config.reembed)
        await adopt_redaction(store, REDACTION_RULES_HASH if redaction else None)
        await adopt_policy(store, policy)

        registry = new_registry()
        embedding = closing.enter_context(EmbeddingThread(embedder))
        queue: WorkQueue[BlockKey] = WorkQueue(
            name="blocks",
            clock=MonotonicClock(),
            backoff=ExponentialBackoff(),
            metrics=QueueMetrics(registry),
        )
        reconciler = Reconciler(store=store, embedder=embedding, identity=identity, policy=policy)
        learning = Learning(store=store, reconciler=reconciler, queue=queue, wall_us=_wall_us)
        backfill_feed = BackfillFeed(store, learning.learn_again, MonotonicClock())
        learning.listen(backfill_feed)
        learning.listen(ReconcileMetrics(registry))
        reembedding = Reembedding(store, embedder=embedding, identity=identity, registry=registry)
        if reembed:
            reembedding.begin()
        feed = ChangeFeed(store, identity, check_ready=reembedding.check)
        feed.follow_commits(asyncio.get_running_loop())
        analyzer_metrics = AnalyzerMetrics(registry)
        analyzer = Analyzer(
            store=store,
            record_events=record_events,
            # Absolute, as the system tells of changes.
            directories=[LogDirectory(namespace, path.absolute()) for namespace, path in config.log_dirs],
            notify=learning.notify,
            clock_us=_wall_us,
            redaction=redaction,
            meter=analyzer_metrics,
        )
        analyzer_metrics.show_lag(analyzer.lag)
        inspection = Inspection(
            store=store,
            feed=feed,
            logs=analyzer,
            identity=Identity(
                version=importlib.metadata.version("errata"),
                policy=policy,
                embedder=identity,
                started_us=started_us,
            ),
            wall_us=_wall_us,
        )
        server = GrpcServer(
            services=[
                Service(
                    SERVICE,
                    LearnerServicer(
                        store=store,
                        recorder=Recorder(store, learning.notify, redaction=redaction),
                        learning=learning,
                        backfills=Backfills(store, backfill_feed.wake),
                        feed=feed,
                        inspection=inspection,
                        wall_us=_wall_us,
                    ),
                )
            ],
            statuses=STATUSES,
            metrics=RpcMetrics(registry),
        )
        maintenance = Maintenance(
            store,
            wall_us=_wall_us,
            limits=DeletionLimits(
                age_s_max=config.deletions_kept_s,
                count_min=config.deletions_kept_min,
                count_max=config.deletions_kept_max,
            ),
        )
        LearnerMetrics(registry, store=store, feed=feed)
        if config.metrics_listen is not None:
            metrics_address, close_metrics = start_metrics_server(config.metrics_listen, registry)
            closing.callback(close_metrics)
            log.info("metrics are served", address=metrics_address)

        address = await server.start(config.listen)
        write_address_file(config.address_file, address)
        await server.set_serving(SERVICE.full_name, True)
        log.info(
            "the Learner is up",
            address=address,
            store_dir=str(config.store_dir),
            policy=policy.value,
            embedder=identity.fingerprint,
        )
        async with _running(
            [_learn(reembedding, learning), backfill_feed.run(), analyzer.run(), maintenance.run()], stop
        ):
            await stop.wait()
        await server.drain(feed.drain)
        log.info("the Learner has ended")


async def _embedder(config: LearnerConfig, store: Store) -> Embedder:
    settings = EmbedderSettings(
        openai_base_url=config.openai_base_url,
        openai_api_key=config.openai_api_key,
        openai_api_key_file=config.openai_api_key_file,
    )
    with store.read() as transaction:
        held = (transaction.embedder_fingerprint, transaction.target_fingerprint)
    build = partial(build_embedder, config.embedder, settings, held=() if config.reembed else held)
    return await _off_the_loop(build, config)


async def _off_the_loop(call: Callable[[], T], config: LearnerConfig) -> T:
    """What a call about the embedder returns: it may take a second, in which a signal must still be heard."""
    try:
        return await asyncio.to_thread(call)
    except EmbedderError as error:
        raise StartError(f"--embedder {config.embedder}: {error}") from error


def _store(config: LearnerConfig, schema: Schema) -> Store:
    try:
        return Store.open(
            config.store_dir, clock_us=_wall_us, bytes_max=config.store_bytes_max, schema=schema
        )
    except StoreError as error:
        raise StartError(str(error)) from error


async def _learn(reembedding: Reembedding, learning: Learning) -> None:
    """Learns for ever, once every vector is of the embedder."""
    await reembedding.run()
    await learning.run()


@contextlib.asynccontextmanager
async def _running(parts: Sequence[Coroutine[object, object, None]], stop: Stop) -> AsyncIterator[None]:
    """Runs parts beside the block and cancels them at its end. One that fails ends the process."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    for task in tasks:
        task.add_done_callback(lambda _: stop.set())
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


def _wall_us() -> int:
    return time.time_ns() // 1_000


if __name__ == "__main__":
    main()
