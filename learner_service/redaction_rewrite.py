"""Puts what is stored through the redaction rules of this program, as if it had been recorded under them.

In small transactions, each of which notes how far it came, so a rewrite that is cut short is taken up where
it was. The rules count as adopted with the last of them. A block that changes has changed by an event: it is
learned from again.

What was redacted under older rules stays so. One thing cannot be rewritten: of a text that failed, a record
keeps a hash. Where the text itself is kept, too, its hash follows it; else the failure counts for the old
form alone.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from errata.serving.logs import get_logger
from errata.store.v1.store_pb2 import BlockRecord, FailedText, TraceRecord
from errata.text import redact, redact_block, redact_doc, redact_event, redact_label
from errata.v1.block_pb2 import BlockEvent
from learner_service.fold import fold, instant, text_hash
from learner_service.keys import BlockKey
from learner_service.store.store import Store
from learner_service.store.write_transaction import WriteTransaction

Row = TypeVar("Row")

ROWS_MAX: Final = 500
"""Records of one transaction."""

BYTES_MAX: Final = 4 * 1024 * 1024
"""The same in bytes, and some tenths of a second."""

_BLOCKS: Final = b"b"
_TRACES: Final = b"t"

log = get_logger()


@dataclass(frozen=True, slots=True)
class _Step:
    """What one transaction did."""

    looked_at_count: int
    changed_count: int
    ended: bool


async def rewrite(store: Store, rules_hash: bytes) -> int:
    """Rewrites every block and trace, then notes that the rules are those of the store.

    Args:
        store: nobody else writes to it.
        rules_hash: names the rules, of this program.

    Returns:
        How many blocks and traces changed, since the last start that was cut short if there was one.

    Raises:
        StoreFullError: there is no room; the next call goes on where this one ended.
    """
    looked_at_count, changed_count = 0, 0
    while True:
        step = await store.write(lambda transaction: _rewrite_some(transaction, rules_hash))
        looked_at_count += step.looked_at_count
        changed_count += step.changed_count
        if step.ended:
            return changed_count
        log.info("stored text is being redacted", record_count=looked_at_count, changed_count=changed_count)


def redacted_record(record: BlockRecord) -> BlockRecord | None:
    """A block as its events would give it had they been redacted; None when that is as it is.

    `record` is left as it is. `modified_time` is left to the store.
    """
    events = [_redacted_event(event) for event in _events(record)]
    labels = {key: redact_label(label.value) for key, label in record.labels.items()}
    if events == _events(record) and all(record.labels[key].value == value for key, value in labels.items()):
        return None
    redacted = BlockRecord(eval_mode=record.eval_mode)
    for key, value in labels.items():
        redacted.labels[key].CopyFrom(record.labels[key])
        redacted.labels[key].value = value
    redacted.failed_texts.extend(_renamed_failures(record))
    # Events that differed in a secret alone may now be one, and others stand in another order.
    for event in events:
        redacted = fold(redacted, event) or redacted
    return redacted


def redacted_trace(record: TraceRecord) -> TraceRecord | None:
    """A trace as its lines would give it had they been redacted; None when that is as it is.

    `record` is left as it is. So is the time of its last line.
    """
    redacted = TraceRecord()
    redacted.CopyFrom(record)
    if redacted.HasField("request"):
        redact_doc(redacted.request)
    for block in redacted.response:
        redact_block(block)
    if redacted.HasField("run"):
        redact_event(redacted.run)
    return None if redacted == record else redacted


def _rewrite_some(transaction: WriteTransaction, rules_hash: bytes) -> _Step:
    cursor = transaction.redaction_cursor
    if not cursor.startswith(rules_hash):
        # Nothing is under way, or it was towards other rules.
        cursor = rules_hash + _BLOCKS
    table, key = cursor[len(rules_hash) : len(rules_hash) + 1], cursor[len(rules_hash) + 1 :]
    if table == _BLOCKS:
        return _rewrite_blocks(transaction, rules_hash, key)
    return _rewrite_traces(transaction, rules_hash, key)


def _rewrite_blocks(transaction: WriteTransaction, rules_hash: bytes, after: bytes) -> _Step:
    after_key = BlockKey.decode(after) if after else None
    blocks = _some(transaction.blocks_after(after_key), lambda row: row[1].ByteSize())
    changed_count = 0
    for key, record in blocks:
        if (redacted := redacted_record(record)) is not None:
            transaction.put_block(key, redacted)
            changed_count += 1
    place = _BLOCKS + blocks[-1][0].encode() if blocks else _TRACES
    transaction.set_redaction_cursor(rules_hash + place)
    return _Step(len(blocks), changed_count, ended=False)


def _rewrite_traces(transaction: WriteTransaction, rules_hash: bytes, after: bytes) -> _Step:
    after_namespace, _, after_id = after.decode().partition("\0")
    traces = _some(transaction.traces_after(after_namespace, after_id), lambda row: row[2].ByteSize())
    changed_count = 0
    for namespace, trace_id, record in traces:
        if (redacted := redacted_trace(record)) is not None:
            transaction.put_trace(namespace, trace_id, redacted)
            changed_count += 1
    if traces:
        place = "\0".join(traces[-1][:2])
        transaction.set_redaction_cursor(rules_hash + _TRACES + place.encode())
    else:
        transaction.set_redaction_hash(rules_hash)
    return _Step(len(traces), changed_count, ended=not traces)


def _some(rows: Iterable[Row], size_bytes: Callable[[Row], int]) -> list[Row]:
    """The first rows, as many as one transaction looks at."""
    taken: list[Row] = []
    taken_bytes = 0
    for row in rows:
        if len(taken) == ROWS_MAX or taken_bytes > BYTES_MAX:
            break
        taken.append(row)
        taken_bytes += size_bytes(row)
    return taken


def _events(record: BlockRecord) -> list[BlockEvent]:
    """The events that a record keeps."""
    kept = (
        ("generated", record.generated),
        ("first_generated", record.first_generated),
        ("executed", record.executed),
        ("succeeded", record.succeeded),
        ("suggestion", record.suggestion),
        ("taught", record.taught),
    )
    return [event for name, event in kept if record.HasField(name)]  # type: ignore[arg-type]  # a literal is wanted


def _redacted_event(event: BlockEvent) -> BlockEvent:
    redacted = BlockEvent()
    redacted.CopyFrom(event)
    redact_event(redacted)
    return redacted


def _renamed_failures(record: BlockRecord) -> list[FailedText]:
    """The texts that failed, those among them that are kept under the hash that they have now."""
    kept = [event.executed.block.contents for event in _events(record) if event.HasField("executed")]
    new_hashes = {text_hash(text): text_hash(redact(text)) for text in kept}
    last_failures: dict[int, tuple[int, int]] = {}
    for failed in record.failed_texts:
        new_hash = new_hashes.get(failed.text_hash, failed.text_hash)
        failed_at = instant(failed.event_time)
        last_failures[new_hash] = max(failed_at, last_failures.get(new_hash, failed_at))
    latest_first = sorted(((at, each) for each, at in last_failures.items()), reverse=True)
    return [
        FailedText(text_hash=each, event_time=Timestamp(seconds=seconds, nanos=nanos))
        for (seconds, nanos), each in latest_first
    ]
