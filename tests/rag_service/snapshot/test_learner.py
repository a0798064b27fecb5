"""Snapshots between a real Learner and a real RAG service."""

from pathlib import Path

import grpc
import pytest

from errata.v1 import rag_pb2
from tests.block_events import correction
from tests.e2e.services import free_address, learner_on, metrics_of, rag_of, until
from tests.errata.embedding.embeddings_server import EmbeddingsServer
from tests.rag_service.snapshot.keeping import saved_revision

pytestmark = pytest.mark.slow

FORGOTTEN, KEPT, LATER = "delete the old logs", "show the free memory", "list the open ports"


def test_what_was_forgotten_stays_so_over_a_kill_and_all_else_is_resumed(tmp_path: Path) -> None:
    address, snapshots = free_address(), tmp_path / "snapshots"
    flags = ("--snapshot-dir", str(snapshots), "--metrics-listen", "127.0.0.1:0")
    with learner_on(tmp_path / "store", "--listen", address) as learner:
        learner.learn(*correction("a", FORGOTTEN, "rm /var/log/*.1"), *correction("b", KEPT, "free -h"))
        with rag_of(address, *flags) as rag:
            assert rag.answers(FORGOTTEN, min_score=0.9) == ["rm /var/log/*.1"]
            until(lambda: saved_revision(snapshots) is not None, "a snapshot is there")
            revision = saved_revision(snapshots)
            gone = learner.forget("a").token
            assert rag.answers(FORGOTTEN, min_score=0.9, min_token=gone) == []
            rag.process.kill()
    assert saved_revision(snapshots) == revision

    with rag_of(address, *flags) as rag:
        assert rag.status().state == rag_pb2.INDEX_STATE_STALE
        assert rag.answers(FORGOTTEN, min_score=0.9) == []
        assert rag.answers(KEPT, min_score=0.9) == ["free -h"]
        assert rag.search(KEPT).degraded

    with learner_on(tmp_path / "store", "--listen", address) as learner:
        later = learner.learn(*correction("c", LATER, "ss -ltn"))
        with rag_of(address, *flags) as rag:
            assert rag.answers(LATER, min_token=later, min_score=0.9) == ["ss -ltn"]
            assert rag.answers(FORGOTTEN, min_token=gone, min_score=0.9) == []
            assert not rag.search(KEPT).degraded
            assert rag.status().state == rag_pb2.INDEX_STATE_LIVE
            assert rag.status().example_count == 2
            assert metrics_of(rag.process)["errata_rag_resyncs_total"] == 0


@pytest.mark.parametrize("flags", [(), ("--embedder", "openai:toy")])
def test_a_snapshot_is_served_while_the_server_that_embeds_is_away(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    snapshots = tmp_path / "snapshots"
    with EmbeddingsServer() as server:
        # Nobody says how long its vectors are: it is asked.
        openai = ("--openai-base-url", server.base_url)
        rag_flags = (*openai, *flags, "--snapshot-dir", str(snapshots))
        with learner_on(tmp_path / "store", *openai, embedder="openai:toy") as learner:
            learner.learn(*correction("a", KEPT, "free -h"))
            with rag_of(learner.process.address, *rag_flags) as rag:
                assert rag.answers(KEPT, min_score=0.9) == ["free -h"]
                until(lambda: saved_revision(snapshots) is not None, "a snapshot is there")
        vector = server.vectors([KEPT]).tobytes()

    with rag_of(free_address(), *rag_flags) as rag:
        assert rag.status().state == rag_pb2.INDEX_STATE_STALE
        assert rag.answers(embedding=vector, min_score=0.9) == ["free -h"]
        with pytest.raises(grpc.RpcError) as raised:
            rag.search(KEPT)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
