"""A change of embedders with real processes, which a replica follows, also when the Learner is killed."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from errata.v1 import learner_pb2, rag_pb2
from scripts.processes import start
from tests.block_events import correction, taught
from tests.e2e.failures import Failed, failure_of
from tests.e2e.services import Learner, Rag, free_address, learner_on, rag_of, until
from tests.errata.embedding.embeddings_server import EmbeddingsServer, Held, behave

RECONNECT_S_MAX = 90.0
"""A replica that has found its Learner away for a while calls less and less often, at least every 30 s."""

pytestmark = pytest.mark.slow


@pytest.fixture
def address() -> str:
    """Where every Learner of a test answers, so that the replica finds each of them."""
    return free_address()


@pytest.fixture
def server() -> Iterator[EmbeddingsServer]:
    with EmbeddingsServer() as server:
        yield server


def follows(rag: Rag, fingerprint: str) -> None:
    """Returns once the replica answers from vectors of an embedder."""

    def live() -> bool:
        status = rag.status()
        return (status.embedder_fingerprint, status.state) == (fingerprint, rag_pb2.INDEX_STATE_LIVE)

    until(live, f"the replica follows with {fingerprint}", RECONNECT_S_MAX)


def refused(store_dir: Path, *flags: str) -> str:
    """What a Learner says that may not start."""
    with start("learner_service", "--store-dir", str(store_dir), *flags, until="running") as process:
        assert process.wait(30) == 1
        return process.stderr


def test_a_change_to_another_embedder_and_back_is_followed_and_tokens_stay_good(
    tmp_path: Path, address: str
) -> None:
    store_dir = tmp_path / "store"
    with learner_on(store_dir, "--listen", address) as learner, rag_of(address) as rag:
        token = learner.learn(
            *correction("a", "list files", "ls"),
            *correction("b", "show the date", "date"),
        )
        assert rag.found("list files", min_token=token) == ["a", "b"]
        learner.process.terminate()
        said = refused(store_dir, "--embedder", "hashing:256")
        for part in ("hashing/h1/384/q1", "hashing/h1/256/q1", "--reembed"):
            assert part in said
        assert rag.found("list files") == ["a", "b"]

        for dimension, spec in ((256, "hashing:256"), (384, "hashing")):
            flags = ("--listen", address, "--reembed")
            with learner_on(store_dir, *flags, embedder=spec) as changed:
                follows(rag, f"hashing/h1/{dimension}/q1")
                assert rag.status().dimension == dimension
                assert rag.found("list files", min_token=token, limit=2) == ["a", "b"]
                assert not rag.search("list files").degraded
                assert changed.status().embedder_fingerprint == f"hashing/h1/{dimension}/q1"
                new = f"new{dimension}"
                learned = changed.learn(*correction(new, f"delete branch {new}", "git branch -d"))
                assert rag.found(f"delete branch {new}", min_token=learned)[0] == new
        assert rag.process.stderr.count("WATCH_RESET_REASON_EMBEDDER_CHANGED") == 2
        # Finished: what was needed for the change is needed no more.
        with learner_on(store_dir, "--listen", address) as unchanged:
            assert unchanged.status().example_count == 4


def test_a_learner_killed_in_the_middle_of_a_change_takes_it_up_and_replicas_answer_all_the_while(
    tmp_path: Path, address: str, server: EmbeddingsServer
) -> None:
    store_dir = tmp_path / "store"
    count, old, new = 600, "hashing/h1/384/q1", "openai/m/32/q1"
    openai = ("--openai-base-url", server.base_url)
    to_openai = (*openai, "--listen", address, "--reembed")
    with learner_on(store_dir, "--listen", address) as learner, rag_of(address, *openai) as rag:
        token = learner.learn(
            *(taught(f"b{number}", f"question {number}", f"do {number}") for number in range(count))
        )
        assert rag.answers("question 7", min_token=token)[0] == "do 7"
        learner.process.terminate()

        held = Held()
        server.script(behave, held)
        with learner_on(store_dir, *to_openai, embedder="openai:m:32") as changing:
            assert held.waiting.wait(30)
            done = len(server.received[0].texts)
            assert 0 < done < count
            progress = {"done": str(done), "total": str(count)}
            assert failure_of(lambda: watch(changing)) == Failed(
                grpc.StatusCode.UNAVAILABLE, "REEMBEDDING", progress
            )
            response = changing.record(*correction("late", "a late question", "do late"), wait_s=0)
            assert (response.changed_block_count, response.pending_block_count) == (1, 1)
            assert changing.status().embedder_fingerprint == old
            assert rag.answers("question 7", min_token=token)[0] == "do 7"
            changing.process.kill()
        held.release()

        for flags in (
            ("--embedder", "hashing"),
            ("--embedder", "openai:m:32", *openai),
            ("--embedder", "hashing:128", "--reembed"),
        ):
            said = refused(store_dir, *flags)
            assert all(part in said for part in (old, new, "--reembed"))
        assert rag.answers("question 7")[0] == "do 7"
        assert rag.status().embedder_fingerprint == old

        server.begin_anew()
        held = Held()
        server.script(held)
        with learner_on(store_dir, *to_openai, embedder="openai:m:32") as asked_to_end:
            assert held.waiting.wait(30)
            # Though the server has not answered.
            assert asked_to_end.process.terminate() == 0
        held.release()

        server.begin_anew()
        with learner_on(store_dir, *to_openai, embedder="openai:m:32") as changed:
            follows(rag, new)
            assert rag.answers("question 7", min_token=token)[0] == "do 7"
            until(lambda: rag.found("a late question")[:1] == ["late"], "what had waited is learned")
            assert changed.status().example_count == count + 1
            asked = [text for request in server.received if len(request.texts) > 1 for text in request.texts]
            assert len(asked) == len(set(asked)) == count - done
        assert "EMBEDDER_CHANGED" in rag.process.stderr


def test_a_replica_with_another_embedder_than_the_learner_is_refused_and_goes_on_serving(
    tmp_path: Path, address: str
) -> None:
    store_dir = tmp_path / "store"
    flags = ("--embedder", "hashing")
    with learner_on(store_dir, "--listen", address) as learner, rag_of(address, *flags) as rag:
        token = learner.learn(*correction("a", "list files", "ls"))
        assert rag.found("list files", min_token=token) == ["a"]
        learner.process.terminate()
        with learner_on(store_dir, "--listen", address, "--reembed", embedder="hashing:256"):
            rag.process.wait_for_stderr("the Learner refuses the call", RECONNECT_S_MAX)
            assert rag.found("list files") == ["a"]
            assert rag.status().embedder_fingerprint == "hashing/h1/384/q1"


def watch(learner: Learner) -> learner_pb2.WatchUpdatesResponse:
    with learner.watch() as stream:
        return next(stream)
