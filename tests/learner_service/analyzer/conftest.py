"""An Analyzer on a real store, and a directory of logs to write into."""

import asyncio
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from errata.store.v1.store_pb2 import BlockRecord, LogFileRecord, TraceRecord
from errata.v1.block_pb2 import BlockEvent
from learner_service.analyzer import Analyzer, FileStatus, LogDirectory
from learner_service.analyzer.analyzer import Lag, LineMeter
from learner_service.keys import BlockKey
from learner_service.recorder import record_events
from learner_service.store.read_transaction import ReadTransaction
from learner_service.store.store import Store
from learner_service.store.write_transaction import WriteTransaction
from tests.learner_service.conftest import ManualClock

T = TypeVar("T")

NOW_US = 1_800_000_000_000_000
"""After every line of the real logs."""


@dataclass
class Following:
    """An Analyzer, what it recorded, and what it told of."""

    store: Store
    directories: tuple[LogDirectory, ...]
    clock: ManualClock
    recorded: list[BlockEvent] = field(default_factory=list)
    notified: list[AbstractSet[BlockKey]] = field(default_factory=list)
    look_interval_s: float = 60.0
    full_store_wait_s: float = 0.001
    files_remembered_max: int = 1_000
    meter: LineMeter | None = None
    fault: Exception | None = None
    """Raised by a transaction, at its end."""
    fault_after: int = 0
    """How many transactions go well before that."""
    tick_us: int = 0
    """How far the clock goes on with each transaction."""
    lags: list[Lag] = field(default_factory=list)
    """Before each transaction."""

    def __post_init__(self) -> None:
        self.told = asyncio.Event()
        self.write_begun = asyncio.Event()
        self.analyzer = Analyzer(
            store=self,
            record_events=self._record,
            directories=self.directories,
            notify=self._notify,
            clock_us=self.clock,
            meter=self.meter,
            look_interval_s=self.look_interval_s,
            full_store_wait_s=self.full_store_wait_s,
            files_remembered_max=self.files_remembered_max,
        )

    def _record(self, transaction: WriteTransaction, events: Iterable[BlockEvent]) -> set[BlockKey]:
        events = list(events)
        changed = record_events(transaction, events)
        if self.fault is not None and self.fault_after == 0:
            fault, self.fault = self.fault, None
            raise fault
        self.fault_after -= self.fault is not None
        self.recorded += events
        return changed

    def _notify(self, changed: AbstractSet[BlockKey]) -> None:
        self.notified.append(changed)
        self.told.set()

    def read(self) -> AbstractContextManager[ReadTransaction]:
        """As the store does."""
        return self.store.read()

    async def write(self, mutation: Callable[[WriteTransaction], T]) -> T:
        """As the store does, and tells of it."""
        self.write_begun.set()
        self.clock.now_us += self.tick_us
        self.lags.append(self.analyzer.lag())
        return await self.store.write(mutation)

    def restarted(self, *directories: LogDirectory) -> "Following":
        """Another Analyzer on the same store."""
        return Following(self.store, directories or self.directories, self.clock)

    async def poll(self) -> None:
        await self.analyzer.poll()

    @property
    def recorded_ids(self) -> list[str]:
        return [event.block_id for event in self.recorded]

    def block(self, block_id: str, namespace: str = "") -> BlockRecord:
        with self.store.read() as transaction:
            record = transaction.block(BlockKey(namespace, block_id))
        assert record is not None
        return record

    def block_keys(self) -> set[BlockKey]:
        with self.store.read() as transaction:
            return {key for _, key in transaction.blocks_before()}

    def trace(self, trace_id: str, namespace: str = "") -> TraceRecord | None:
        with self.store.read() as transaction:
            return transaction.trace(namespace, trace_id)

    def log_files(self) -> dict[str, LogFileRecord]:
        """What the store holds, by the name of the file."""
        with self.store.read() as transaction:
            records = [record for _, record in transaction.log_files()]
        by_name = {Path(record.path).name: record for record in records}
        assert len(by_name) == len(records)
        return by_name

    def status(self) -> dict[str, FileStatus]:
        """Of each file, by its name."""
        return {Path(each.path).name: each for each in self.analyzer.status()}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW_US)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    directory = tmp_path / "logs"
    directory.mkdir()
    return directory


@pytest.fixture
def following(store: Store, clock: ManualClock, logs: Path) -> Following:
    return Following(store, (LogDirectory("", logs),), clock)
