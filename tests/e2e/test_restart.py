"""A Learner that ends and starts again on its store, while its RAG service stays."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

import pytest

from errata.v1.learner_pb2 import (
    NOT_LEARNED_REASON_NOT_GENERATED,
    NOT_LEARNED_REASON_UNSPECIFIED,
    WatchUpdatesResponse,
)
from errata.v1.token_pb2 import StateToken
from tests.block_events import correction, ran
from tests.e2e.failures import FAILED_PRECONDITION, failure_of
from tests.e2e.services import Learner, Rag, free_address, learner_on, rag_of, until

pytestmark = pytest.mark.slow

StartLearner = Callable[..., AbstractContextManager[Learner]]

ASKED = "show the free memory"


@pytest.fixture
def start_learner(tmp_path: Path) -> StartLearner:
    """Starts a Learner, always on the same store and at the same address."""
    return partial(learner_on, tmp_path / "store", "--listen", free_address())


def test_a_restart_keeps_the_name_the_revisions_the_blocks_and_the_tokens(
    start_learner: StartLearner,
) -> None:
    with ExitStack() as running:
        with start_learner() as learner:
            address = learner.process.address
            rag = running.enter_context(rag_of(address))
            token = learner.learn(*correction("b", ASKED, "free -h"))
            learner.record(ran("never proposed", "ls"))
            before, block = learner.status(), learner.block("b")
        # Away: what there is is served, also to those who hold a token of it.
        check_sees(rag, token, "free -h")
        with start_learner() as learner:
            check_sees(rag, token, "free -h")
            after = learner.status()
            for kept in (
                *("store_id", "head_revision", "digest", "block_count", "example_count"),
                *("compact_revision", "embedder_fingerprint", "policy", "queued_block_count"),
            ):
                assert getattr(after, kept) == getattr(before, kept), kept
            assert after.start_time.ToMicroseconds() > before.start_time.ToMicroseconds()
            assert learner.block("b") == block
            # Not even an event that is known moves anything.
            again = learner.record(*correction("b", ASKED, "free -h"))
            assert (again.changed_block_count, again.token) == (0, token)
            assert rag.status().store_id == before.store_id
        with start_learner() as learner:
            newer = learner.learn(ran("b", "free -g", at_s=50))
            assert StateToken.FromString(newer).revision == before.head_revision + 1
            check_sees(rag, newer, "free -g")
            check_sees(rag, token, "free -g")
            with rag_of(address) as other:
                check_sees(other, newer, "free -g")
                check_sees(other, token, "free -g")


def check_sees(rag: Rag, token: bytes, answer: str) -> None:
    assert rag.answers(ASKED, min_token=token) == [answer]


def test_a_token_of_a_history_that_was_lost_is_told_apart(start_learner: StartLearner) -> None:
    """As after a restored backup: the epoch ended before the revision that the token names."""
    with start_learner() as learner:
        token = learner.learn(*correction("b", ASKED, "free -h"))
        address = learner.process.address
    lost = StateToken.FromString(token)
    lost.revision += 5
    with start_learner() as learner:
        learner.learn(ran("b", "free -g", at_s=50))
        with rag_of(address) as rag:
            failed = failure_of(lambda: rag.search(ASKED, min_token=lost.SerializeToString()))
    assert (failed.code, failed.reason) == (FAILED_PRECONDITION, "TOKEN_LOST")
    assert failed.metadata == {"want": str(lost.revision), "applied": "2"}


def test_a_stream_resumes_over_a_restart_with_what_was_missed_and_nothing_else(
    start_learner: StartLearner,
) -> None:
    with start_learner() as learner:
        learner.learn(*correction("a", ASKED, "free"), *correction("b", ASKED, "free -h"))
        with learner.watch() as stream:
            resume_token = [next(stream) for _ in range(2)][1].batch.token
        learner.learn(ran("a", "free -g", at_s=50))
    with start_learner() as learner:
        learner.learn(ran("b", "free -m", at_s=50))
        with learner.watch(resume_token) as stream:
            hello, missed = next(stream), next(stream)
    assert hello.hello.head_revision == 4
    assert changed(missed) == {"a": "free -g", "b": "free -m"}
    assert missed.batch.bookmark.example_count == 2


def changed(message: WatchUpdatesResponse) -> dict[str, str]:
    return {update.put.id: update.put.answer[0].contents for update in message.batch.updates}


def test_another_policy_at_a_start_learns_everything_again(start_learner: StartLearner) -> None:
    with start_learner() as learner:
        learner.learn(*correction("corrected", "show the date", "date -u"))
        learner.record(ran("run", "free -h", asked=ASKED))
        assert learner.block("run").state.reason == NOT_LEARNED_REASON_NOT_GENERATED
    with start_learner("--policy", "executions") as learner:
        until(lambda: learner.block("run").state.learned, "all is learned from again")
        assert learner.block("run").state.reason == NOT_LEARNED_REASON_UNSPECIFIED
        # What was learned before is as it was, at its own revision.
        assert learner.status().head_revision == 2
        with rag_of(learner.process.address) as rag:
            assert sorted(rag.found(ASKED, limit=10)) == ["corrected", "run"]
    with start_learner("--policy", "corrections") as learner:
        until(lambda: not learner.block("run").state.learned, "all is learned from again")
        assert learner.block("run").state.reason == NOT_LEARNED_REASON_NOT_GENERATED
        with rag_of(learner.process.address) as rag:
            assert rag.found(ASKED, limit=10) == ["corrected"]
