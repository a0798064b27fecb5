"""From an event to a result: what is recorded is found, by whoever may find it, however it is asked for."""

import pytest

from errata.embedding import build_embedder
from errata.v1.block_pb2 import BLOCK_KIND_CODE, Block, Doc
from errata.v1.example_pb2 import EXAMPLE_ORIGIN_TAUGHT, ExampleKey
from errata.v1.learner_pb2 import RECONCILE_OUTCOME_UNCHANGED, ListExamplesRequest, ReconcileRequest
from errata.v1.rag_pb2 import SearchRequest
from errata.v1.token_pb2 import StateToken
from tests.block_events import correction, document, prose, ran, taught
from tests.e2e.failures import FAILED_PRECONDITION, Failed, failure_of
from tests.e2e.services import Learner, Rag, rag_of

pytestmark = pytest.mark.slow


def test_a_search_with_the_token_of_a_record_sees_it(learner: Learner, rag: Rag) -> None:
    for number in range(20):
        block_id, asked = f"token-{number}", f"restart the web server number{number}"
        recorded = learner.record(*correction(block_id, asked, f"systemctl restart web{number}"))
        assert (recorded.changed_block_count, recorded.pending_block_count) == (1, 0)
        response = rag.search(asked, min_token=recorded.token)
        assert response.results[0].example.id == block_id
        assert response.results[0].example.embedding == b""
        assert response.results[0].score > 0.999
        assert not response.degraded
        # The answer's own token is at least as new, so that a chain of searches never goes back.
        assert block_id in rag.found(asked, min_token=response.token)


def test_recording_again_changes_nothing_and_gives_the_token_of_what_was_learned(
    learner: Learner, rag: Rag
) -> None:
    events = correction("again", "show the load average", "uptime")
    learner.learn(*events)
    head = learner.status().head_revision
    again = learner.record(*events)
    assert (again.changed_block_count, learner.status().head_revision) == (0, head)
    assert rag.answers("show the load average", min_token=again.token)[0] == "uptime"
    reconciled = learner.stub.Reconcile(ReconcileRequest(id="again"))
    assert reconciled.outcome == RECONCILE_OUTCOME_UNCHANGED
    assert learner.status().head_revision == head


def test_a_later_run_replaces_the_answer(learner: Learner, rag: Rag) -> None:
    learner.learn(*correction("replaced", "show open ports", "netstat -l", at_s=0))
    token = learner.learn(ran("replaced", "ss -ltn", at_s=50))
    assert rag.answers("show open ports", min_token=token, limit=1) == ["ss -ltn"]


def test_what_somebody_taught_is_found(learner: Learner, rag: Rag) -> None:
    token = learner.learn(taught("lesson", "rotate the signing keys", "make rotate"))
    (result,) = rag.search("rotate the signing keys", min_token=token, limit=1).results
    assert result.example.origin == EXAMPLE_ORIGIN_TAUGHT
    assert result.example.answer[0].contents == "make rotate"


def test_a_question_may_be_text_a_document_or_an_embedding(learner: Learner, rag: Rag) -> None:
    token = learner.learn(*correction("forms", "compress the logs folder", "tar czf logs.tgz logs"))
    asked = "compress the logs folder"
    embedding = build_embedder("hashing").queries([asked])[0].astype("<f4").tobytes()
    by_text = rag.search(asked, min_token=token, limit=1)
    by_document = rag.search(doc=document(asked), limit=1)
    by_embedding = rag.search(embedding=embedding, limit=1)
    assert by_text.query_text == by_document.query_text == asked
    assert by_embedding.query_text == ""
    for response in (by_text, by_document, by_embedding):
        assert [result.example.id for result in response.results] == ["forms"]
    assert by_text.results[0].score == by_document.results[0].score


def test_of_a_document_the_block_at_the_cursor_and_the_prose_before_it_are_asked(
    learner: Learner, rag: Rag
) -> None:
    learner.learn(*correction("first", "count the words of a book", "wc -w book"))
    token = learner.learn(*correction("second", "sort lines by their length", "awk '...' | sort -n"))
    doc = Doc(
        blocks=[
            prose("count the words of a book"),
            Block(kind=BLOCK_KIND_CODE, contents="wc -w book"),
            prose("sort lines by their length"),
        ]
    )
    assert rag.found(doc=doc, limit=1, min_token=token) == ["second"]
    assert rag.found(doc=doc, limit=1, selected_index=2) == ["second"]
    assert rag.found(doc=doc, limit=1, selected_index=0) == ["first"]
    assert rag.search(doc=doc, selected_index=0).query_text == "count the words of a book"


def test_a_blank_question_finds_nothing_and_is_no_error(rag: Rag) -> None:
    for request in (
        SearchRequest(text=" \n"),
        SearchRequest(doc=Doc()),
        SearchRequest(doc=document("", " ")),
    ):
        response = rag.stub.Search(request)
        assert (len(response.results), response.query_text) == (0, "")


def test_of_one_question_only_the_latest_answers_are_found(learner: Learner, rag: Rag) -> None:
    asked = "free some disk space"
    token = learner.learn(
        *(
            event
            for number in range(4)
            for event in correction(f"disk-{number}", asked, f"rm -r /tmp/{number}", at_s=10 * number)
        )
    )
    every = rag.found(asked, min_token=token, limit=100, per_question_limit=100)
    assert every[:4] == [f"disk-{number}" for number in range(4)]
    latest = [each for each in rag.found(asked, limit=100) if each.startswith("disk-")]
    assert latest == ["disk-3"]
    two = rag.found(asked.upper(), limit=100, per_question_limit=2)
    assert [each for each in two if each.startswith("disk-")] == ["disk-2", "disk-3"]


def test_what_is_excluded_or_scores_too_little_is_left_out(learner: Learner, rag: Rag) -> None:
    token = learner.learn(
        *correction("near", "mount the backup volume", "mount /backup"),
        *correction("nearer", "mount the backup volume now", "mount -a"),
    )
    asked = "mount the backup volume now"
    assert rag.found(asked, min_token=token, limit=2) == ["nearer", "near"]
    assert rag.found(asked, limit=1, exclude=[ExampleKey(id="nearer")]) == ["near"]
    # Of another namespace: not the same example.
    assert rag.found(asked, limit=1, exclude=[ExampleKey(id="nearer", namespace="x")]) == ["nearer"]
    response = rag.search(asked, limit=2, min_score=0.99)
    assert [result.example.id for result in response.results] == ["nearer"]
    assert response.below_min_score_count == 1
    assert len(rag.found(asked, limit=1)) == 1


def test_labels_choose_what_is_found(learner: Learner, rag: Rag) -> None:
    asked = "page the person on call"
    token = learner.learn(
        *correction("infra", asked, "page infra", labels={"team": "infra", "tier": "1"}),
        *correction("data", asked, "page data", labels={"team": "data"}),
    )
    for team in ("infra", "data"):
        assert rag.answers(asked, min_token=token, labels={"team": team}) == [f"page {team}"]
    assert rag.answers(asked, labels={"team": "data", "tier": "1"}) == []
    listed = learner.stub.ListExamples(ListExamplesRequest(labels={"tier": "1"}))
    assert [example.id for example in listed.examples] == ["infra"]


def test_a_block_of_the_same_id_in_another_namespace_is_another_block(learner: Learner, rag: Rag) -> None:
    asked = "roll back the release"
    learner.learn(*correction("shared", asked, "rollback default"))
    learner.learn(*correction("shared", asked, "rollback a", namespace="team-a"))
    token = learner.learn(*correction("shared", asked, "rollback b", namespace="team-b"))
    assert rag.answers(asked, min_token=token, limit=1) == ["rollback default"]
    assert rag.answers(asked, namespaces=["team-a"]) == ["rollback a"]
    assert rag.answers(asked, namespaces=["team-b"]) == ["rollback b"]
    both = rag.answers(asked, namespaces=["team-a", "team-b"], per_question_limit=2)
    assert both == ["rollback a", "rollback b"]
    assert rag.answers(asked, namespaces=["team-c"]) == []
    assert learner.block("shared", "team-a").block.executed_block.contents == "rollback a"
    forgotten = learner.forget("shared", "team-a").token
    assert rag.answers(asked, namespaces=["team-a"], min_token=forgotten) == []
    assert rag.answers(asked, namespaces=["team-b"]) == ["rollback b"]


def test_a_service_for_one_namespace_holds_no_other_and_says_so(learner: Learner) -> None:
    asked = "renew the certificate"
    learner.learn(*correction("certificate", asked, "renew default"))
    token = learner.learn(*correction("certificate", asked, "renew c", namespace="team-c"))
    with rag_of(learner.process.address, "--namespace", "team-c") as only_c:
        assert only_c.answers(asked, namespaces=["team-c"], min_token=token) == ["renew c"]
        status = only_c.status()
        assert (status.example_count, list(status.namespaces)) == (1, ["team-c"])
        assert failure_of(lambda: only_c.search(asked)) == not_followed("")
        both = ["team-c", "team-a"]
        assert failure_of(lambda: only_c.search(asked, namespaces=both)) == not_followed("team-a")
        # That others change is seen, and waited for, all the same.
        elsewhere = learner.learn(*correction("elsewhere", asked, "renew d", namespace="team-d"))
        assert only_c.answers(asked, namespaces=["team-c"], min_token=elsewhere) == ["renew c"]


def not_followed(namespace: str) -> Failed:
    return Failed(FAILED_PRECONDITION, "NAMESPACE_NOT_FOLLOWED", {"namespace": namespace})


def test_what_is_forgotten_is_not_found_and_never_comes_back(learner: Learner, rag: Rag) -> None:
    asked = "print the secret plan"
    events = correction("forgotten", asked, "cat plan.txt")
    token = learner.learn(*events)
    assert rag.found(asked, min_token=token, limit=1) == ["forgotten"]
    forgotten = learner.forget("forgotten")
    assert "forgotten" not in rag.found(asked, min_token=forgotten.token, limit=100)
    assert learner.forget("forgotten").token == forgotten.token
    assert learner.record(*events).changed_block_count == 0
    assert learner.record(ran("forgotten", "cat plan2.txt", at_s=99)).changed_block_count == 0
    shown = learner.block("forgotten")
    assert shown.block.forgotten
    assert not shown.block.HasField("executed_block")
    assert "forgotten" not in rag.found(asked, limit=100)


def test_a_token_that_is_not_reached_in_time_says_how_far_the_index_is(learner: Learner, rag: Rag) -> None:
    token = learner.learn(*correction("token", "show the kernel version", "uname -r"))
    rag.search("show the kernel version", min_token=token)
    ahead = StateToken.FromString(token)
    ahead.revision += 1_000
    failed = failure_of(lambda: rag.search("x", min_token=ahead.SerializeToString(), wait_s=0.05))
    wanted = {"want": str(ahead.revision), "applied": str(rag.status().applied_revision)}
    assert failed == Failed(FAILED_PRECONDITION, "TOKEN_NOT_REACHED", wanted)


def test_the_diversity_of_answers_can_be_asked_for(learner: Learner, rag: Rag) -> None:
    token = learner.learn(
        *correction("d-1", "tail the log of the api server", "tail api.log"),
        *correction("d-2", "tail the log of the api server please", "tail -n 10 api.log"),
        *correction("d-3", "tail the journal of the api unit", "journalctl -u api"),
    )
    asked = "tail the log of the api server"
    assert rag.found(asked, min_token=token, limit=2) == ["d-1", "d-2"]
    assert rag.found(asked, limit=2, diversity=1.0)[0] == "d-1"
    assert rag.found(asked, limit=2, diversity=1.0)[1] != "d-2"
