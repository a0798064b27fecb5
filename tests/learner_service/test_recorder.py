from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from errata.store.v1.store_pb2 import BlockRecord
from errata.v1.block_pb2 import SUGGESTION_STATUS_REJECTED, BlockEvent
from learner_service.errors import StoreFullError
from learner_service.forgetting import forget
from learner_service.keys import BlockKey
from learner_service.recorder import INLINE_BYTES_MAX, Recorder, record_events
from learner_service.store.store import Store
from tests.block_events import code, correction, document, event, proposed, prose, ran, taught
from tests.learner_service.conftest import ManualClock

KEY = BlockKey("", "b")
MARK = "[REDACTED]"

GITHUB_TOKEN = "ghp_" + "0123456789abcdefghijABCDEFGHIJ012345"
SECRETS = (
    GITHUB_TOKEN,
    "sk-" + "proj-4fT7dQ2mZ9xW1cV8bN3kL6jH5gP0sA",
    "AKIA" + "IOSFODNN7EXAMPLE",
    "hunter2-but-longer",
)
LEAKY = "export TOKEN={}; curl -H 'x-key: {}' {} https://me:{}@host/".format(*SECRETS)


@dataclass
class Recording:
    """A recorder, and what it told of."""

    store: Store
    notified: list[AbstractSet[BlockKey]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.recorder = Recorder(self.store, self._notify)

    def _notify(self, changed: AbstractSet[BlockKey]) -> None:
        # What is told of is durable by then.
        assert all(self.block(key) is not None for key in changed)
        self.notified.append(changed)

    async def record(self, *events: BlockEvent) -> AbstractSet[BlockKey]:
        return await self.recorder.record(events)

    def block(self, key: BlockKey = KEY) -> BlockRecord | None:
        with self.store.read() as transaction:
            return transaction.block(key)

    def state(self) -> tuple[int, int, list[tuple[int, BlockKey]], list[object]]:
        """All that recording may write."""
        with self.store.read() as transaction:
            return (
                transaction.clock_us,
                transaction.head_revision,
                list(transaction.blocks_before()),
                [(key, row.SerializeToString()) for key, row in transaction.pending_after(None)],
            )


@pytest.fixture
def recording(store: Store) -> Recording:
    return Recording(store)


async def test_what_is_recorded_is_stored_queued_and_told_of(recording: Recording) -> None:
    assert await recording.record(*correction("b", "list files", "ls")) == {KEY}
    record = recording.block()
    assert record is not None
    assert record.executed.executed.block.contents == "ls"
    assert record.generated.generated.doc == document("list files")
    with recording.store.read() as transaction:
        assert transaction.pending(KEY) is not None
    assert recording.notified == [{KEY}]


async def test_events_that_are_known_write_nothing_and_tell_nobody(
    recording: Recording, clock: ManualClock
) -> None:
    events = [*correction("b", "list files", "ls"), *correction("c", "show date", "date")]
    await recording.record(*events)
    before = recording.state()
    for again in (events, events[::-1], events[:1], [*events, *events], []):
        clock.now_us += 1_000_000
        assert await recording.record(*copies(again)) == set()
    assert recording.state() == before
    assert len(recording.notified) == 1


def copies(events: Iterable[BlockEvent]) -> list[BlockEvent]:
    """As a sender that retries sends them: the recorder redacts in place."""
    return [BlockEvent.FromString(each.SerializeToString()) for each in events]


async def test_an_event_with_a_secret_is_known_when_it_comes_again(recording: Recording) -> None:
    await recording.record(ran("b", LEAKY))
    before = recording.state()
    assert await recording.record(ran("b", LEAKY)) == set()
    assert recording.state() == before


async def test_only_the_blocks_that_changed_are_written(recording: Recording) -> None:
    await recording.record(ran("b", "ls"), ran("c", "date"))
    unchanged = recording.block()
    assert await recording.record(ran("b", "ls"), ran("c", "date -u", at_s=2)) == {BlockKey("", "c")}
    assert recording.block() == unchanged


async def test_many_events_of_one_block_are_one_change_of_it(recording: Recording) -> None:
    events = [ran("b", f"echo {number}", at_s=number) for number in range(50)]
    assert await recording.record(*events[::-1]) == {KEY}
    record = recording.block()
    assert record is not None
    assert record.executed.executed.block.contents == "echo 49"
    assert recording.store.check() == []


async def test_the_blocks_of_one_request_change_in_the_order_of_their_events(recording: Recording) -> None:
    ids = [f"b{number}" for number in range(20)]
    await recording.record(*(ran(each, "ls") for each in ids), ran(ids[0], "ls -l", at_s=2))
    with recording.store.read() as transaction:
        assert [key.id for _, key in transaction.blocks_before()] == ids[::-1]


async def test_namespaces_keep_blocks_of_one_id_apart(recording: Recording) -> None:
    other = BlockKey("team-a", "b")
    assert await recording.record(ran("b", "ls"), ran("b", "dir", namespace="team-a")) == {KEY, other}
    ours, theirs = recording.block(), recording.block(other)
    assert ours is not None
    assert theirs is not None
    assert ours.executed.executed.block.contents == "ls"
    assert theirs.executed.executed.block.contents == "dir"


async def test_events_of_a_forgotten_block_are_dropped(recording: Recording) -> None:
    await recording.record(ran("b", "ls"))
    await recording.store.write(lambda transaction: forget(transaction, KEY))
    before = recording.state()
    assert await recording.record(ran("b", "ls -l", at_s=2)) == set()
    assert recording.state() == before


async def test_events_without_room_are_not_recorded_and_nobody_is_told(
    store_dir: Path, clock: ManualClock
) -> None:
    with Store.open(store_dir, clock_us=clock, bytes_max=1 << 20) as small:
        recording = Recording(small)
        with pytest.raises(StoreFullError):
            await recording.record(ran("a", "ls"), ran("b", "x" * 900_000), ran("c", "y" * 900_000))
        assert recording.notified == []
        with small.read() as transaction:
            assert transaction.block_count == 0
        assert await recording.record(ran("a", "ls")) == {BlockKey("", "a")}
        assert small.check() == []


async def test_a_transaction_of_somebody_else_takes_events_along(recording: Recording) -> None:
    """As the Analyzer does, which stores its offset with them."""
    changed = await recording.store.write(
        lambda transaction: record_events(transaction, [ran("b", "ls"), ran("b", "ls")])
    )
    assert changed == {KEY}
    assert recording.notified == []


def everywhere(text: str) -> list[BlockEvent]:
    """Events that hold a text in each field that takes one."""
    run = ran("run", text, output=text, asked=text, labels={"note": text})
    run.executed.block.metadata["note"] = text
    run.executed.doc.blocks.append(code(text, output=text))
    proposal = proposed("proposal", text, text, output=text)
    proposal.generated.doc.blocks[0].metadata["note"] = text
    lesson = taught("lesson", text, text, output=text)
    lesson.taught.query.blocks.append(prose(text))
    verdict = event("verdict", 0, labels={"note": text})
    verdict.suggestion = SUGGESTION_STATUS_REJECTED
    return [run, proposal, lesson, verdict]


def files_of(directory: Path) -> bytes:
    return b"".join(file.read_bytes() for file in directory.iterdir())


@pytest.mark.parametrize("padding", ["", "#" * INLINE_BYTES_MAX], ids=["a few bytes", "many bytes"])
async def test_no_secret_reaches_the_files_of_the_store(
    recording: Recording, store_dir: Path, padding: str
) -> None:
    events = everywhere(LEAKY)
    events[0].executed.doc.blocks.append(prose(padding))
    await recording.record(*events)
    on_disk = files_of(store_dir)
    # What stands beside the secrets is there, so the files are the right ones and hold it in plain text.
    assert on_disk.count(f"export TOKEN={MARK}".encode()) >= 15
    for secret in SECRETS:
        assert secret.encode() not in on_disk


async def test_ids_are_never_redacted(recording: Recording) -> None:
    await recording.record(ran(GITHUB_TOKEN, "ls"))
    assert recording.block(BlockKey("", GITHUB_TOKEN)) is not None
