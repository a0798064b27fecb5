"""Counts of backfills, against an oracle that remembers everything, over random histories."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errata.store.v1.store_pb2 import BlockRecord
from errata.v1.learner_pb2 import BackfillRequest
from learner_service.backfill.rows import PASSED_ROWS_MAX, Range, Reconciled, has_ended
from learner_service.keys import BlockKey
from learner_service.store.integrity import problems
from learner_service.store.write_transaction import WriteTransaction
from tests.model.memory_tables import empty_tables

NAMESPACES = ("", "team-a", "team-b")


def new_transaction() -> WriteTransaction:
    transaction = WriteTransaction(empty_tables(), epoch_nonce=1, wall_us=lambda: 0)
    transaction.create(b"store")
    transaction.begin_epoch()
    return transaction


def change(transaction: WriteTransaction, key: BlockKey) -> int:
    """Changes a block; returns when."""
    record = transaction.block(key) or BlockRecord()
    transaction.put_block(key, record)
    return record.modified_time.ToMicroseconds()


def request(start_us: int | None = None, *namespaces: str) -> BackfillRequest:
    made = BackfillRequest(namespaces=namespaces)
    if start_us is not None:
        made.start_time.FromMicroseconds(start_us)
    return made


def settle(
    transaction: WriteTransaction, *keys: BlockKey, changed: bool = False, failed: bool = False
) -> None:
    """Stores a result for the blocks as they now are."""
    results = []
    for key in keys:
        record = transaction.block(key)
        assert record is not None
        results.append(Reconciled(key, record.modified_time.ToMicroseconds(), changed, failed))
    transaction.backfills.count(results)


def counts(transaction: WriteTransaction, backfill_id: str) -> tuple[int, int, int]:
    """Done, changed, failed."""
    record = transaction.backfills.get(backfill_id)
    assert record is not None
    progress = record.progress
    return progress.done_block_count, progress.changed_block_count, progress.failed_block_count


def keys(count: int, namespace: str = "") -> list[BlockKey]:
    return [BlockKey(namespace, f"b{number}") for number in range(count)]


@dataclass
class Expected:
    """What a backfill must say."""

    undone: dict[BlockKey, int]
    """Blocks to do, each with the time at which it had changed."""
    matched: int = field(init=False)
    done: int = 0
    changed: int = 0
    failed: int = 0

    def __post_init__(self) -> None:
        self.matched = len(self.undone)


class History:
    """Random events on few blocks, and what every backfill must count."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.transaction = new_transaction()
        self.times: dict[BlockKey, int] = {}
        self.expected: dict[str, Expected] = {}
        self.blocks = [key for namespace in NAMESPACES for key in keys(6, namespace)]

    def step(self) -> None:
        self.chance.choices(
            (self.change, self.begin, self.settle, self.advance, self.count), weights=(3, 1, 5, 1, 1)
        )[0]()

    def change(self) -> None:
        key = self.chance.choice(self.blocks)
        self.times[key] = change(self.transaction, key)
        for expected in self.expected.values():
            expected.done += expected.undone.pop(key, None) is not None

    def begin(self) -> None:
        start_us = self.chance.choice((None, 0, *self.times.values(), self.transaction.clock_us + 5))
        namespaces = self.chance.sample(NAMESPACES, self.chance.randrange(3))
        backfill_id = f"f{len(self.expected)}"
        self.transaction.backfills.begin(backfill_id, request(start_us, *namespaces))
        self.expected[backfill_id] = Expected(
            {
                key: modified_us
                for key, modified_us in self.times.items()
                if modified_us >= (start_us or 0) and (not namespaces or key.namespace in namespaces)
            }
        )

    def settle(self) -> None:
        known = [key for key in self.blocks if key in self.times]
        chosen = self.chance.sample(known, min(len(known), self.chance.randrange(5)))
        changed = self.chance.random() < 0.5
        failed = not changed and self.chance.random() < 0.5
        settle(self.transaction, *chosen, changed=changed, failed=failed)
        for expected in self.expected.values():
            for key in chosen:
                if expected.undone.pop(key, None) is not None:
                    expected.done += 1
                    expected.changed += changed
                    expected.failed += failed

    def advance(self) -> None:
        for backfill_id in self.transaction.backfills.running_ids():
            self.transaction.backfills.advance(backfill_id)

    def count(self) -> None:
        """Notes how many blocks match, as late as that may come."""
        for backfill_id in self.transaction.backfills.running_ids():
            left = self.transaction.backfills.left_count(backfill_id)
            done = counts(self.transaction, backfill_id)[0]
            self.transaction.backfills.set_matched(backfill_id, done + left)

    def differences(self) -> Iterator[str]:
        backfills = self.transaction.backfills
        for backfill_id, expected in self.expected.items():
            wanted = (expected.done, expected.changed, expected.failed)
            if counts(self.transaction, backfill_id) != wanted:
                yield f"{backfill_id}: {counts(self.transaction, backfill_id)}, not {wanted}"
            found = set(backfills.undone(backfill_id, 0, count_max=1_000, rows_max=1_000).keys)
            if found != expected.undone.keys():
                yield f"{backfill_id}: {found} are left, not {expected.undone.keys()}"
            record = backfills.get(backfill_id)
            assert record is not None
            if record.counted and record.progress.matched_block_count != expected.matched:
                yield f"{backfill_id}: {record.progress.matched_block_count} match, not {expected.matched}"
            if has_ended(record) and expected.undone:
                yield f"{backfill_id} has ended, but {expected.undone} are left"


@given(st.integers(0, 10**9))
@settings(max_examples=60, deadline=None)
def test_counts_are_those_of_an_oracle_whatever_happens_in_whatever_order(seed: int) -> None:
    history = History(seed)
    for _ in range(60):
        history.step()
        assert list(history.differences()) == []
    assert list(problems(history.transaction)) == []
    history.advance()
    for backfill_id, expected in history.expected.items():
        record = history.transaction.backfills.get(backfill_id)
        assert record is not None
        # However it came to it: when nothing is left it ends, and then every number is there.
        assert has_ended(record) == (not expected.undone)
        assert not has_ended(record) or record.progress.matched_block_count == expected.matched


def test_the_range_begins_with_the_start_time_and_ends_before_what_changes_later() -> None:
    transaction = new_transaction()
    first, second, third = keys(3)
    change(transaction, first)
    second_us = change(transaction, second)
    transaction.backfills.begin("b", request(second_us))
    change(transaction, third)
    assert transaction.backfills.undone("b", 0, count_max=9, rows_max=9).keys == [second]


@pytest.mark.parametrize(("nanos", "matches"), [(0, True), (1, False), (999, False), (1_000, False)])
def test_a_start_time_between_two_microseconds_begins_with_the_later(nanos: int, *, matches: bool) -> None:
    asked = request(5_000_000)
    asked.start_time.nanos += nanos
    assert Range.of(asked, 10_000_000).holds(5_000_000, BlockKey("", "b").encode()) == matches
    assert Range.of(asked, 10_000_000).holds(5_000_001, BlockKey("", "b").encode())


def test_a_backfill_of_nothing_has_ended_when_it_begins() -> None:
    transaction = new_transaction()
    change(transaction, BlockKey("", "b"))
    for asked in (request(None, "elsewhere"), request(transaction.clock_us + 1), request(1 << 55)):
        transaction.backfills.begin("b", asked)
        record = transaction.backfills.get("b")
        assert record is not None
        assert has_ended(record)
        assert record.progress.matched_block_count == 0
    assert transaction.backfills.running_ids() == []
    assert list(problems(transaction)) == []


def test_blocks_done_out_of_order_are_remembered_until_the_cursor_has_passed_them() -> None:
    transaction = new_transaction()
    blocks = keys(5)
    times = [change(transaction, key) for key in blocks]
    transaction.backfills.begin("b", request())
    settle(transaction, blocks[4], blocks[2])
    assert list(transaction.backfills.done_times("b")) == [times[2], times[4]]
    # What is done counts once, also where a later policy changes the example again.
    settle(transaction, blocks[2], changed=True)
    assert counts(transaction, "b") == (2, 0, 0)
    settle(transaction, blocks[1], blocks[0])
    assert list(transaction.backfills.done_times("b")) == [times[4]]
    settle(transaction, blocks[3])
    assert list(transaction.backfills.done_times("b")) == []
    assert counts(transaction, "b") == (5, 0, 0)
    assert transaction.backfills.running_ids() == []


def test_the_cursor_passes_many_blocks_of_others_in_several_transactions() -> None:
    transaction = new_transaction()
    for key in keys(2 * PASSED_ROWS_MAX + 10, "elsewhere"):
        change(transaction, key)
    change(transaction, BlockKey("", "last"))
    transaction.backfills.begin("b", request(None, ""))
    settle(transaction, BlockKey("", "last"), changed=True)
    advance_count = 0
    while transaction.backfills.running_ids():
        transaction.backfills.advance("b")
        advance_count += 1
    assert advance_count == 1
    assert counts(transaction, "b") == (1, 1, 0)
    assert list(problems(transaction)) == []


def test_a_backfill_that_is_dropped_leaves_nothing_behind() -> None:
    transaction = new_transaction()
    for key in keys(3):
        change(transaction, key)
    for backfill_id in ("a", "b", "b1"):
        transaction.backfills.begin(backfill_id, request())
    settle(transaction, *keys(3)[1:])
    assert [backfill_id for backfill_id, _ in transaction.backfills.all()] == ["a", "b", "b1"]
    transaction.backfills.drop("b")
    assert [backfill_id for backfill_id, _ in transaction.backfills.all()] == ["a", "b1"]
    assert list(transaction.backfills.done_times("b")) == []
    assert len(list(transaction.backfills.done_times("b1"))) == 2
    assert transaction.backfills.running_ids() == ["a", "b1"]


def test_the_check_finds_a_count_that_is_wrong_and_a_row_of_nobody() -> None:
    transaction = new_transaction()
    blocks = keys(3)
    for key in blocks:
        change(transaction, key)
    transaction.backfills.begin("b", request())
    transaction.backfills.set_matched("b", 4)
    assert [each for each in problems(transaction) if "matched 4 blocks" in each]
    transaction._tables["backfills"].put(b"b\0" + bytes(8), b"")
    assert [each for each in problems(transaction) if "where none is left" in each]
    transaction._tables["meta"].put(b"backfills_running", b"nobody")
    found = " ".join(problems(transaction))
    assert "nobody is said to run, and is unknown" in found
    assert "b is said to run, and to have ended, or neither" in found
