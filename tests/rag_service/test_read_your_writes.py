"""The rule by which an index tells whether it reflects a write."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errata.v1 import learner_pb2, token_pb2
from rag_service.errors import TokenMalformedError
from rag_service.read_your_writes import NO_EPOCHS, Epochs, Verdict, decide, decode, encode, token_for

STORE = b"store-a"

# Nonces of epochs, named for the tables below.
A, B, C, X = 0xA, 0xB, 0xC, 0xF0


def epochs(*pairs: tuple[int, int]) -> Epochs:
    return Epochs(learner_pb2.Epoch(nonce=nonce, start_revision=start) for nonce, start in pairs)


def token(epoch: int, revision: int, store_id: bytes = STORE) -> token_pb2.StateToken:
    return token_pb2.StateToken(store_id=store_id, epoch=epoch, revision=revision)


@dataclass(frozen=True)
class Case:
    name: str
    token: token_pb2.StateToken
    known: Epochs
    own: Epochs
    applied: int
    verdict: Verdict


ONE = epochs((A, 0))
TWO = epochs((A, 0), (B, 10))
THREE = epochs((A, 0), (B, 10), (C, 20))
EMPTY = epochs((A, 0), (B, 10), (C, 10))
"""B ended where it began: a process that wrote nothing."""
RESTORED = epochs((A, 0), (X, 10))
"""What TWO becomes when a backup of revision 10 is brought back: B is no more."""

CASES = [
    Case("a change the index holds", token(A, 5), ONE, ONE, 5, Verdict.REACHED),
    Case("a change it does not hold yet", token(A, 6), ONE, ONE, 5, Verdict.WAIT),
    Case("a token of another store", token(A, 5, b"store-b"), ONE, ONE, 9, Verdict.WAIT),
    Case("an old epoch's change, at its very end", token(A, 10), TWO, TWO, 12, Verdict.REACHED),
    Case("a change past the end of its epoch", token(A, 11), TWO, TWO, 12, Verdict.LOST),
    Case("the same, while the index still stands before it", token(A, 11), TWO, ONE, 9, Verdict.LOST),
    Case("the same, when the index once held it", token(A, 11), TWO, ONE, 12, Verdict.LOST),
    Case("an epoch that the index has not seen a bookmark of", token(B, 11), TWO, ONE, 10, Verdict.WAIT),
    Case("that epoch, after its first bookmark", token(B, 11), TWO, TWO, 11, Verdict.REACHED),
    Case("an epoch that nobody knows", token(X, 3), TWO, TWO, 50, Verdict.WAIT),
    Case("an epoch of the index that a restore removed", token(B, 11), RESTORED, TWO, 15, Verdict.LOST),
    Case("the epoch that came instead, before a bookmark", token(X, 11), RESTORED, TWO, 15, Verdict.WAIT),
    Case("the epoch that came instead, after one", token(X, 11), RESTORED, RESTORED, 11, Verdict.REACHED),
    Case("what both histories share", token(A, 7), RESTORED, TWO, 15, Verdict.REACHED),
    Case("what both share, past the end in known", token(A, 11), RESTORED, TWO, 15, Verdict.LOST),
    Case(
        "an epoch too old to be listed by the Learner",
        token(A, 7),
        epochs((B, 10), (C, 20)),
        THREE,
        25,
        Verdict.REACHED,
    ),
    Case(
        "an unlisted epoch, past its end in the index's own history",
        token(A, 11),
        epochs((B, 10), (C, 20)),
        THREE,
        25,
        Verdict.WAIT,
    ),
    Case(
        "an epoch that began where the oldest listed one begins, and is not listed",
        token(B, 11),
        epochs((X, 10), (C, 20)),
        TWO,
        25,
        Verdict.LOST,
    ),
    Case(
        "past the end in own, while known has no end for it yet",
        token(A, 11),
        ONE,
        TWO,
        12,
        Verdict.WAIT,
    ),
    Case("an index that holds nothing", token(A, 1), ONE, NO_EPOCHS, 0, Verdict.WAIT),
    Case("nothing known at all", token(A, 1), NO_EPOCHS, NO_EPOCHS, 0, Verdict.WAIT),
    Case("an epoch in which nothing was written", token(B, 10), EMPTY, NO_EPOCHS, 0, Verdict.WAIT),
    Case("a change that an empty epoch cannot hold", token(B, 11), EMPTY, NO_EPOCHS, 0, Verdict.LOST),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_first_rule_that_matches_decides(case: Case) -> None:
    verdict = decide(
        case.token, store_id=STORE, known=case.known, own=case.own, applied_revision=case.applied
    )
    assert verdict is case.verdict


histories = st.lists(st.integers(0, 8), min_size=1, max_size=4).map(
    lambda starts: epochs(*zip(range(1, len(starts) + 1), [0, *sorted(starts)[1:]], strict=True))
)


@given(history=histories, revision=st.integers(1, 12), applied=st.integers(0, 12))
def test_in_one_history_a_token_is_reached_exactly_when_its_revision_is_applied(
    history: Epochs, revision: int, applied: int
) -> None:
    given_out = decode(token_for(revision, history, STORE))
    verdict = decide(given_out, store_id=STORE, known=history, own=history, applied_revision=applied)
    assert verdict is (Verdict.REACHED if revision <= applied else Verdict.WAIT)


@given(history=histories, fork=st.integers(0, 10), revision=st.integers(1, 12), applied=st.integers(0, 12))
def test_after_a_restore_what_was_before_it_is_kept_and_what_was_after_it_is_lost(
    history: Epochs, fork: int, revision: int, applied: int
) -> None:
    """A backup taken at `fork` comes back: it has the epochs that had begun by then, and a new one."""
    kept = [(n, history.start(n)) for n in range(1, 5) if n in history and history.start(n) <= fork]
    restored = epochs(*kept, (99, fork))
    before = decode(token_for(revision, history, STORE))
    verdict = decide(before, store_id=STORE, known=restored, own=restored, applied_revision=applied)
    # An epoch that began at the very revision of the backup cannot be told from one that began before it.
    if revision > fork:
        assert verdict is not Verdict.REACHED
        if before.epoch in restored:
            assert verdict is Verdict.LOST
    else:
        assert verdict is (Verdict.REACHED if revision <= applied else Verdict.WAIT)


@given(history=histories, revision=st.integers(1, 12))
def test_the_token_of_a_change_names_the_last_epoch_that_starts_below_it(
    history: Epochs, revision: int
) -> None:
    given_out = decode(token_for(revision, history, STORE))
    assert history.start(given_out.epoch) < revision
    end = history.end(given_out.epoch)
    assert end is None or end >= revision
    assert (given_out.store_id, given_out.revision) == (STORE, revision)


@pytest.mark.parametrize(
    ("revision", "history"),
    [(0, ONE), (3, NO_EPOCHS), (10, epochs((B, 10)))],
    ids=["no change", "no epoch", "before the first epoch"],
)
def test_a_change_that_no_epoch_made_has_no_token(revision: int, history: Epochs) -> None:
    assert token_for(revision, history, STORE) == b""


@given(
    store_id=st.binary(min_size=1, max_size=20),
    epoch=st.integers(0, 2**64 - 1),
    revision=st.integers(1, 2**63 - 1),
)
def test_a_token_is_read_back_as_it_was_written(store_id: bytes, epoch: int, revision: int) -> None:
    written = token(epoch, revision, store_id)
    assert decode(encode(written)) == written


@pytest.mark.parametrize(
    "encoded",
    [
        b"abc",
        b"\xff" * 16,
        encode(token(A, 5))[:-1],
        encode(token(A, 5))[:4],
        encode(token(A, 0)),
        encode(token(A, -1)),
        encode(token(A, 5, b"")),
    ],
    ids=["text", "noise", "cut", "cut in the store", "no revision", "revision below 0", "no store"],
)
def test_what_is_no_token_is_refused_by_the_name_of_its_field(encoded: bytes) -> None:
    with pytest.raises(TokenMalformedError, match="min_token") as refused:
        decode(encoded)
    assert refused.value.field == "min_token"


@given(st.binary(min_size=1, max_size=64))
def test_any_bytes_are_read_or_refused(encoded: bytes) -> None:
    try:
        read = decode(encoded)
    except TokenMalformedError:
        return
    assert read.store_id
    assert read.revision >= 1


def test_histories_with_the_same_epochs_are_equal() -> None:
    assert epochs((A, 0), (B, 10)) == TWO
    assert hash(epochs((A, 0), (B, 10))) == hash(TWO)
    assert TWO != RESTORED
    assert TWO != "TWO"
    assert all(earlier != later for earlier, later in pairwise([NO_EPOCHS, ONE, TWO, THREE]))
    assert "10" in repr(TWO)
