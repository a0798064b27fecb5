"""Forgets a block for good: its contents, its example, and what waits or is still being put together."""

from errata.store.v1.store_pb2 import TraceRecord
from learner_service.keys import BlockKey
from learner_service.store.write_transaction import WriteTransaction


def forget(transaction: WriteTransaction, key: BlockKey) -> int | None:
    """Erases a block within one transaction, whether or not an event names it yet.

    Later events of the block find the mark and are dropped. Forgetting again changes nothing.

    Returns:
        Revision of the newest change of its example; None when there never was one, or its deletion is
        no longer remembered.
    """
    record = transaction.block(key)
    if record is None or not record.forgotten:
        transaction.put_forgotten_block(key)
        transaction.delete_example(key)
        _erase_from_traces(transaction, key)
    return transaction.example_revision(key)


def _erase_from_traces(transaction: WriteTransaction, key: BlockKey) -> None:
    """Erases what lines that are not joined yet said of the block; the rest of their trace goes on."""
    for trace_id, trace in list(transaction.traces(key.namespace)):
        before = TraceRecord()
        before.CopyFrom(trace)
        for block in trace.response:
            if block.id == key.id:
                block.ClearField("contents")
                block.ClearField("outputs")
        if trace.run.block_id == key.id:
            trace.ClearField("run")
        if trace != before:
            transaction.put_trace(key.namespace, trace_id, trace)
