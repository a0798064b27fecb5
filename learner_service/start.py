"""What a start compares with the store before anything is served: embedder, redaction rules, policy.

A store holds the vectors of one embedder, and examples derived by one policy.
"""

from functools import partial
from hashlib import blake2b
from itertools import islice
from typing import Final

from errata.serving.logs import get_logger
from errata.serving.process import StartError
from errata.store.v1.store_pb2 import PendingRecord
from learner_service.derive import Policy
from learner_service.keys import BlockKey
from learner_service.store import Store
from learner_service.transactions import WriteTransaction

QUEUED_BLOCKS_MAX: Final = 1_000
"""Blocks queued in one transaction when all of them must be learned from again."""

log = get_logger()


async def adopt_embedder(store: Store, fingerprint: str) -> None:
    """Makes the embedder that of a new store, or checks that it is that of an old one.

    Raises:
        StartError: the store holds vectors of another embedder, which no search may compare with these.
    """
    with store.read() as transaction:
        held = transaction.embedder_fingerprint
    if not held:
        await store.write(lambda transaction: transaction.set_embedder_fingerprint(fingerprint))
    elif held != fingerprint:
        raise StartError(
            f"the store holds vectors of the embedder {held}, not of {fingerprint}; start with the "
            "--embedder that it was filled with, or give an empty --store-dir and record the logs anew"
        )


async def adopt_redaction(store: Store, rules_hash: bytes) -> None:
    """Notes the redaction rules that a new store is filled under; warns when an old one had others."""
    with store.read() as transaction:
        held = transaction.redaction_hash
    if not held:
        await store.write(lambda transaction: transaction.set_redaction_hash(rules_hash))
    elif held != rules_hash:
        log.warning(
            "the redaction rules have changed: what was stored before went through the older ones",
            stored_rules=held.hex(),
            rules=rules_hash.hex(),
        )


async def adopt_policy(store: Store, policy: Policy) -> None:
    """Queues every block when the store was filled under another policy.

    The new policy is noted last, so that a start that is cut short does it again.
    """
    policy_hash = blake2b(policy.value.encode(), digest_size=8).digest()
    with store.read() as transaction:
        held = transaction.policy_hash
        until_us = transaction.clock_us + 1
    if held == policy_hash:
        return
    if held:
        log.info("the policy has changed, every block is learned from again", policy=policy.value)
        before_us: int | None = until_us
        while before_us is not None:
            before_us = await store.write(partial(_queue_blocks, before_us=before_us))
    await store.write(lambda transaction: transaction.set_policy_hash(policy_hash))


def _queue_blocks(transaction: WriteTransaction, before_us: int) -> int | None:
    """Queues blocks that last changed before a time; returns where to go on, None at the end."""
    blocks = list(islice(transaction.blocks_before(before_us), QUEUED_BLOCKS_MAX))
    for _, key in blocks:
        _queue(transaction, key)
    return blocks[-1][0] if blocks else None


def _queue(transaction: WriteTransaction, key: BlockKey) -> None:
    record, waiting = transaction.block(key), transaction.pending(key)
    if record is None or record.forgotten or (waiting is not None and not waiting.parked):
        return
    row = PendingRecord()
    row.enqueued_time.FromMicroseconds(transaction.clock_us)
    transaction.put_pending(key, row)
