"""The log that Foyle really wrote, copied into a directory that is followed."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from errata.v1.block_pb2 import BLOCK_KIND_CODE, BLOCK_KIND_MARKUP, SUGGESTION_STATUS_ACCEPTED
from errata.v1.example_pb2 import EXAMPLE_ORIGIN_CORRECTION
from errata.v1.learner_pb2 import (
    NOT_LEARNED_REASON_NOT_EXECUTED,
    NOT_LEARNED_REASON_UNSPECIFIED,
    ListBlocksRequest,
)
from tests.e2e.services import Services, services_on, until

pytestmark = pytest.mark.slow

LOG = Path(__file__).resolve().parents[2] / "data" / "foyle" / "foyle.logs.2024-04-16T19-06-47.json"

CORRECTED = "23706965-8e3b-440d-ba1a-1e1cc035fbd4"
NOT_RUN = {"9557680b-e08c-4d1d-b098-6dcd03e0e108", "48d530be-254a-493f-8cf4-20627078f830"}
"""What the assistant wrote before and after the command: prose that nobody ran."""
ASKED_WHEN_IT_RAN = "Fetch the latest logs using curl"
ASKED_BEFORE = "Use git to find the merge point with origin/main"


@pytest.fixture(scope="module", params=["corrections", "executions"])
def services(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("foyle")
    logs = folder / "logs"
    logs.mkdir()
    with services_on(folder / "store", "--log-dir", str(logs), "--policy", request.param) as running:
        # While it is followed, as when a log is rotated in.
        shutil.copy(LOG, logs / LOG.name)
        learner = running.learner
        until(lambda: [file.offset_bytes for file in learner.status().log_files] == [LOG.stat().st_size], "")
        until(lambda: learner.status().queued_block_count == 0, "everything is learned from")
        assert learner.status().policy == request.param
        yield running


def test_the_log_is_read_as_a_whole_and_gives_one_example_of_three_blocks(services: Services) -> None:
    status = services.learner.status()
    (file,) = status.log_files
    assert Path(file.path).name == LOG.name
    assert (file.size_bytes, file.malformed_line_count) == (LOG.stat().st_size, 0)
    assert (status.block_count, status.example_count, status.failed_block_count) == (3, 1, 0)
    listed = services.learner.stub.ListBlocks(ListBlocksRequest())
    assert {block.key.id for block in listed.blocks} == {CORRECTED, *NOT_RUN}


def test_the_block_that_was_run_as_another_command_answers_what_was_asked_when_it_ran(
    services: Services,
) -> None:
    response = services.learner.block(CORRECTED)
    assert response.state.learned
    assert response.state.reason == NOT_LEARNED_REASON_UNSPECIFIED
    assert response.block.suggestion_status == SUGGESTION_STATUS_ACCEPTED
    assert response.block.generated_block.contents.strip() == "git merge-base HEAD origin/main"
    example = response.example
    assert example.id == CORRECTED
    assert [(block.kind, block.contents) for block in example.answer] == [(BLOCK_KIND_CODE, "curl")]
    assert [(block.kind, block.contents) for block in example.query.blocks] == [
        (BLOCK_KIND_MARKUP, ASKED_WHEN_IT_RAN)
    ]
    assert example.query_text == ASKED_WHEN_IT_RAN
    # It differs from the proposal, so it is a correction under either policy.
    assert example.origin == EXAMPLE_ORIGIN_CORRECTION


def test_the_other_blocks_say_that_nobody_ran_them(services: Services) -> None:
    for block_id in NOT_RUN:
        response = services.learner.block(block_id)
        assert response.state.reason == NOT_LEARNED_REASON_NOT_EXECUTED
        assert not response.state.learned
        assert not response.state.pending
        assert not response.HasField("example")
        assert not response.block.HasField("executed_block")
        assert [block.contents for block in response.block.doc.blocks] == [ASKED_BEFORE]


def test_a_search_finds_it(services: Services) -> None:
    until(lambda: services.rag.status().example_count == 1, "the example has arrived")
    found = services.rag.search(ASKED_WHEN_IT_RAN)
    (result,) = found.results
    assert (result.example.id, result.example.answer[0].contents) == (CORRECTED, "curl")
    assert result.score > 0.999
    (paraphrase,) = services.rag.search("get the newest logs with curl").results
    assert paraphrase.example.id == CORRECTED
    assert 0.1 < paraphrase.score < 0.99
