"""What a start compares with the store before anything is served: embedder, redaction rules, policy.

A store holds the vectors of one embedder, and examples derived by one policy.
"""

from hashlib import blake2b
from typing import Final

from errata.serving.logs import get_logger
from errata.serving.process import StartError
from errata.v1.learner_pb2 import BackfillRequest
from learner_service.derive import Policy
from learner_service.errors import StoreFullError
from learner_service.redaction_rewrite import rewrite
from learner_service.store.store import Store
from learner_service.store.write_transaction import WriteTransaction

NO_REDACTION_HASH: Final = blake2b(b"off", digest_size=16).digest()
"""Stands for the rules of a store whose text is not redacted."""

log = get_logger()


async def adopt_embedder(store: Store, fingerprint: str, *, reembed: bool) -> bool:
    """Makes the embedder that of a new store, or checks that it is that of an old one.

    A change of embedders is noted first and ended by its last transaction; while it is under way, vectors of
    both are in the store.

    Args:
        store: nobody else writes to it.
        fingerprint: of the embedder.
        reembed: whether a change of embedders may begin or go on.

    Returns:
        True when every example must be embedded anew before any stream is served.

    Raises:
        StartError: the store holds vectors of another embedder, which no search may compare with these.
    """
    with store.read() as transaction:
        held, target = transaction.embedder_fingerprint, transaction.target_fingerprint
    if target:
        if not reembed or fingerprint not in (held, target):
            raise StartError(
                f"a change from the embedder {held} to {target} is under way, this start has {fingerprint}; "
                "start with --reembed and the --embedder of either, to finish it or to go back"
            )
    elif not held:
        await store.write(lambda transaction: transaction.set_embedder_fingerprint(fingerprint))
        return False
    elif held == fingerprint:
        return False
    elif reembed:
        await store.write(lambda transaction: transaction.set_target_fingerprint(fingerprint))
    else:
        raise StartError(
            f"the store holds vectors of the embedder {held}, not of {fingerprint}; start with the "
            "--embedder that it was filled with, with --reembed to embed every example anew, or with another "
            "--store-dir"
        )
    return True


async def adopt_redaction(store: Store, rules_hash: bytes | None) -> None:
    """Puts all stored text through the rules of this program, unless it has been; nothing is served before.

    Args:
        store: nobody else writes to it.
        rules_hash: of the rules; None when nothing is to be redacted. Then what was redacted stays so.

    Raises:
        StartError: there is no room to rewrite what is stored; the next start goes on with it.
    """
    with store.read() as transaction:
        held, is_new = transaction.redaction_hash, transaction.block_count == 0
        is_under_way = bool(transaction.redaction_cursor)
    if rules_hash is None:
        log.warning("redaction is off: secrets are stored, embedded and sent as they come")
    wanted = NO_REDACTION_HASH if rules_hash is None else rules_hash
    if held == wanted and not is_under_way:
        return
    if rules_hash is None or held == wanted or is_new:
        # Also gives up what an earlier start began towards other rules.
        await store.write(lambda transaction: transaction.set_redaction_hash(wanted))
        return
    log.info("the redaction rules have changed, all stored text goes through them", rules=wanted.hex())
    try:
        changed_count = await rewrite(store, wanted)
    except StoreFullError as error:
        raise StartError(f"stored text could not be redacted: {error}") from error
    log.info("all stored text has gone through the redaction rules", changed_count=changed_count)


async def adopt_policy(store: Store, policy: Policy) -> None:
    """Begins a backfill of everything when the store was filled under another policy.

    Both are one transaction: a start that is cut short has done all of it or nothing.
    """
    policy_hash = blake2b(policy.value.encode(), digest_size=8).digest()
    with store.read() as transaction:
        held = transaction.policy_hash
    if held == policy_hash:
        return
    backfill_id = f"policy-{policy_hash.hex()}"

    def adopt(transaction: WriteTransaction) -> None:
        if held:
            transaction.backfills.begin(backfill_id, BackfillRequest())
        transaction.set_policy_hash(policy_hash)

    await store.write(adopt)
    if held:
        log.info(
            "the policy has changed, every block is learned from again",
            policy=policy.value,
            backfill_id=backfill_id,
        )
