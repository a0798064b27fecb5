"""Checks a whole store against its invariants; see `write_transaction.py` for their list.

Reads every row, so that every checksum is checked too. For operators, tests, and the hour after a crash.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from errata.v1.learner_pb2 import ExampleUpdate
from learner_service.backfill.rows import cursor_us, has_ended
from learner_service.keys import BlockKey
from learner_service.store.read_transaction import ReadTransaction
from learner_service.store.rows import Tally


def problems(transaction: ReadTransaction) -> Iterator[str]:
    """Says what is wrong, a sentence each. None means that every invariant holds.

    Raises:
        StoreCorruptError: a value is damaged; nothing after it was looked at.
    """
    yield from _log_problems(transaction)
    yield from _block_problems(transaction)
    yield from _queue_problems(transaction)
    yield from _backfill_problems(transaction)
    for _ in transaction.log_files():
        pass  # reading is checking


def _log_problems(transaction: ReadTransaction) -> Iterator[str]:
    tallies: dict[str, Tally] = defaultdict(lambda: Tally(0, 0))
    total = Tally(0, 0)
    seen: set[BlockKey] = set()
    for revision, row in transaction.log_after(0):
        key = BlockKey.decode(row.key)
        if revision > transaction.head_revision:
            yield f"log: revision {revision} is above the head, {transaction.head_revision}"
        if key in seen:
            yield f"log: {key} has more than one row"
        seen.add(key)
        if transaction.example_revision(key) != revision:
            yield f"examples: {key} is at {transaction.example_revision(key)}, its row at {revision}"
        if transaction.is_learned(key) != row.live:
            yield f"tombstones: {key} at {revision} is {'live' if row.live else 'deleted'} in the log only"
        yield from _row_problems(revision, key, row.live, row.update)
        if row.live:
            tallies[key.namespace] = tallies[key.namespace].with_row(row.key, revision)
            total = total.with_row(row.key, revision)
    if transaction.example_count_known != len(seen):
        yield f"examples: {transaction.example_count_known} keys, the log has {len(seen)}"
    yield from _tally_problems(transaction, tallies, total)


def _tally_problems(
    transaction: ReadTransaction, tallies: Mapping[str, Tally], total: Tally
) -> Iterator[str]:
    if transaction.tally() != total:
        yield f"meta: the tally is {transaction.tally()}, the rows give {total}"
    for namespace in transaction.namespaces() | tallies.keys():
        counted = tallies.get(namespace, Tally(0, 0))
        if transaction.tally((namespace,)) != counted:
            yield f"namespaces: {namespace!r} has {transaction.tally((namespace,))}, its rows give {counted}"


def _row_problems(revision: int, key: BlockKey, live: bool, encoded: bytes) -> Iterator[str]:  # noqa: FBT001 - one caller
    update = ExampleUpdate.FromString(encoded)
    inside = update.put if live else update.deleted
    if (update.revision, inside.namespace, inside.id) != (revision, *key):
        yield f"log: the row of {key} at {revision} holds {inside.id!r} at {update.revision}"


def _block_problems(transaction: ReadTransaction) -> Iterator[str]:
    count = 0
    for modified_us, key in transaction.blocks_before():
        count += 1
        record = transaction.block(key)
        if record is None or record.modified_time.ToMicroseconds() != modified_us:
            yield f"blocks_by_time: {key} at {modified_us} is not a block that changed then"
        if modified_us > transaction.clock_us:
            yield f"blocks_by_time: {key} changed at {modified_us}, after the clock, {transaction.clock_us}"
    if count != transaction.block_count:
        yield f"blocks: {transaction.block_count} blocks, {count} of them by time"


def _queue_problems(transaction: ReadTransaction) -> Iterator[str]:
    parked = 0
    for key, record in transaction.pending_after(None):
        parked += record.parked
        block = transaction.block(key)
        if block is None or block.forgotten:
            yield f"pending: {key} waits, but is {'forgotten' if block else 'not a block'}"
    if parked != transaction.queue_summary().parked_block_count:
        yield f"meta: {transaction.queue_summary().parked_block_count} parked blocks, the rows give {parked}"


def _backfill_problems(transaction: ReadTransaction) -> Iterator[str]:
    backfills = transaction.backfills
    running = set(backfills.running_ids())
    changed_us = {modified_us for modified_us, _ in transaction.blocks_before()}
    for backfill_id, record in backfills.all():
        progress = record.progress
        if has_ended(record) == (backfill_id in running):
            yield f"backfills: {backfill_id} is said to run, and to have ended, or neither"
        running.discard(backfill_id)
        left = backfills.left_count(backfill_id)
        if record.counted and progress.matched_block_count != progress.done_block_count + left:
            yield (
                f"backfills: {backfill_id} matched {progress.matched_block_count} blocks, of which "
                f"{progress.done_block_count} are done and {left} are not"
            )
        if max(progress.changed_block_count, progress.failed_block_count) > progress.done_block_count:
            yield f"backfills: {backfill_id} counts more blocks as changed or failed than as done"
        for modified_us in backfills.done_times(backfill_id):
            if modified_us < cursor_us(record) or modified_us not in changed_us:
                yield f"backfills: {backfill_id} has done a block of {modified_us}, where none is left"
    for backfill_id in running:
        yield f"backfills: {backfill_id} is said to run, and is unknown"
