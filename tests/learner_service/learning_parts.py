"""The parts that learn, on a real store, around an embedder that does what a test says."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from errata.store.v1.store_pb2 import PendingRecord
from errata.v1.block_pb2 import BlockEvent
from errata.v1.example_pb2 import Example
from learner_service.change_feed import EmbedderIdentity
from learner_service.clock import MonotonicClock
from learner_service.derive import Policy
from learner_service.keys import BlockKey
from learner_service.learning import WINDOW_KEYS, Learning
from learner_service.reconciler import Reconciler, Result, Settled
from learner_service.recorder import Recorder
from learner_service.store.store import Store
from learner_service.store.write_transaction import WriteTransaction
from learner_service.workqueue.backoff import ExponentialBackoff
from learner_service.workqueue.metrics import QueueMetrics
from learner_service.workqueue.queue import WorkQueue
from tests.learner_service.conftest import ManualClock

DIMENSION = 8
IDENTITY = EmbedderIdentity(spec="fake", fingerprint="fake/8", dimension=DIMENSION)


class FakeEmbedder:
    """Unit vectors out of a hash. Counts, and fails or waits where it is told to."""

    def __init__(self, documents_max: int = 16) -> None:
        self.documents_max = documents_max
        self.embedded: list[str] = []
        """Each text that was embedded, in order."""
        self.batch_sizes: list[int] = []
        """Of each call, how many texts were asked for."""
        self.attempts: list[str] = []
        """Each text that was asked for."""
        self.errors: dict[str, Exception] = {}
        """By text: raised for every batch that holds it."""
        self.held: set[str] = set()
        """Batches that hold one of these wait until it is taken out and `release` is called."""
        self.waiting = asyncio.Event()
        """Set once something waits."""
        self._released = asyncio.Event()
        self._asked = asyncio.Event()

    async def asked(self, text: str, times: int) -> None:
        """Returns once a text was asked for so often."""
        while self.attempts.count(text) < times:
            self._asked.clear()
            await self._asked.wait()

    def release(self) -> None:
        self.held.clear()
        self._released.set()

    async def documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.attempts += texts
        self.batch_sizes.append(len(texts))
        self._asked.set()
        while self.held.intersection(texts):
            self.waiting.set()
            await self._released.wait()
        for text in texts:
            if text in self.errors:
                raise self.errors[text]
        self.embedded += texts
        return np.array([vector(text) for text in texts], np.float32)


def vector(text: str) -> NDArray[np.float32]:
    seed = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
    drawn = np.random.default_rng(seed).standard_normal(DIMENSION)
    return (drawn / np.linalg.norm(drawn)).astype("<f4")


@dataclass
class Parts:
    """See the module. Keys are block IDs of the default namespace, unless they are keys."""

    store: Store
    clock: ManualClock
    policy: Policy = Policy.CORRECTIONS
    window_keys: int = WINDOW_KEYS
    embedder: FakeEmbedder = field(default_factory=FakeEmbedder)

    def __post_init__(self) -> None:
        self.reconciler = Reconciler(
            store=self.store, embedder=self.embedder, identity=IDENTITY, policy=self.policy
        )
        self.queue: WorkQueue[BlockKey] = WorkQueue(
            name="blocks",
            clock=MonotonicClock(),
            backoff=ExponentialBackoff(delay_s_min=0.001, delay_s_max=0.01),
            metrics=QueueMetrics(CollectorRegistry()),
        )
        self.learning = Learning(
            store=self.store,
            reconciler=self.reconciler,
            queue=self.queue,
            wall_us=self.clock,
            window_keys=self.window_keys,
        )
        self.recorder = Recorder(self.store, self.learning.notify)

    async def record(self, *events: BlockEvent) -> AbstractSet[BlockKey]:
        return await self.recorder.record(events)

    async def reconcile(self, *keys: str | BlockKey) -> Mapping[BlockKey, Result]:
        return await self.reconciler.reconcile([key_of(key) for key in keys])

    async def settle(self, key: str | BlockKey) -> Settled:
        """Reconciles one block that nothing hinders."""
        result = (await self.reconcile(key))[key_of(key)]
        assert isinstance(result, Settled)
        return result

    async def learned(self, *keys: str | BlockKey, seconds: float = 5) -> None:
        """Returns once the learning that runs is through with the blocks."""
        wanted = {key_of(key) for key in keys}
        await self.learning.wait_until_learned(wanted, seconds)
        still = {key for key in wanted if (row := self.pending(key)) is not None and not row.parked}
        assert not still, f"{len(still)} of {len(wanted)} blocks still wait"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Learns within the block."""
        task = asyncio.create_task(self.learning.run())
        try:
            yield
            assert not task.done(), "learning never ends by itself"
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @property
    def head(self) -> int:
        with self.store.read() as transaction:
            return transaction.head_revision

    def example(self, key: str | BlockKey) -> Example | None:
        with self.store.read() as transaction:
            stored = transaction.example(key_of(key))
        return None if stored is None else stored.example

    def answer(self, key: str | BlockKey) -> str | None:
        """What the example of a block answers; None when it has none."""
        example = self.example(key)
        return None if example is None else example.answer[0].contents

    def pending(self, key: str | BlockKey) -> PendingRecord | None:
        with self.store.read() as transaction:
            return transaction.pending(key_of(key))

    def modified_us(self, key: str | BlockKey) -> int:
        with self.store.read() as transaction:
            record = transaction.block(key_of(key))
        assert record is not None
        return record.modified_time.ToMicroseconds()


def key_of(key: str | BlockKey) -> BlockKey:
    return BlockKey("", key) if isinstance(key, str) else key


def park(key: str) -> Callable[[WriteTransaction], None]:
    """A mutation after which the block has failed for good."""
    parked = PendingRecord(parked=True, failed_attempt_count=5, last_error="no")
    return lambda transaction: transaction.put_pending(key_of(key), parked)
