"""Which token stands for all that a client wrote."""

import threading

import pytest

from errata.client.own_writes import EPOCHS_MAX, OwnWrites
from errata.v1.token_pb2 import StateToken


def token(revision: int, *, epoch: int = 1, store: bytes = b"store") -> bytes:
    return StateToken(store_id=store, epoch=epoch, revision=revision).SerializeToString(deterministic=True)


def remembering(*tokens: bytes) -> OwnWrites:
    writes = OwnWrites()
    for each in tokens:
        writes.remember(each)
    return writes


def test_nothing_written_is_an_empty_token() -> None:
    assert OwnWrites().newest() == b""
    assert remembering(b"").newest() == b""


def test_the_greatest_revision_stands_for_all_in_whichever_order_they_came() -> None:
    assert remembering(token(3), token(9), token(5), b"").newest() == token(9)


def test_a_token_of_another_store_replaces_all() -> None:
    assert remembering(token(9), token(2, store=b"new")).newest() == token(2, store=b"new")


def test_of_two_epochs_the_greater_revision_is_sent_and_the_other_comes_after_it_is_lost() -> None:
    writes = remembering(token(100, epoch=1), token(50, epoch=2))
    assert writes.newest() == token(100, epoch=1)
    writes.forget(token(100, epoch=1))
    assert writes.newest() == token(50, epoch=2)
    writes.forget(token(50, epoch=2))
    assert writes.newest() == b""


def test_a_lost_token_takes_nothing_with_it_that_is_newer_or_of_another_store() -> None:
    writes = remembering(token(7))
    writes.forget(token(6))
    writes.forget(token(9, store=b"old"))
    assert writes.newest() == token(7)


def test_epochs_are_bounded_and_the_greatest_revision_stays() -> None:
    writes = remembering(*(token(revision, epoch=revision) for revision in range(1, 3 * EPOCHS_MAX)))
    seen = []
    while newest := writes.newest():
        seen.append(StateToken.FromString(newest).revision)
        writes.forget(newest)
    assert seen == list(range(3 * EPOCHS_MAX - 1, 2 * EPOCHS_MAX - 1, -1))


@pytest.mark.parametrize("broken", [b"\xff", b"x", StateToken(store_id=b"s").SerializeToString()])
def test_what_is_no_token_is_refused(broken: bytes) -> None:
    with pytest.raises(ValueError, match="not a token"):
        OwnWrites().remember(broken)


def test_threads_that_remember_at_once_lose_nothing() -> None:
    writes = OwnWrites()

    def remember_some(first: int) -> None:
        for revision in range(first, 4_000, 4):
            writes.remember(token(revision))

    threads = [threading.Thread(target=remember_some, args=(first,)) for first in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert writes.newest() == token(3_999)
