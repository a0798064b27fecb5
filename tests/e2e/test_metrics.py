"""What Prometheus reads of both services."""

from collections.abc import Iterator

import pytest

from tests.block_events import correction, proposed
from tests.e2e.failures import failure_of
from tests.e2e.services import Services, metrics_of, services_on

pytestmark = pytest.mark.slow

METRICS = ("--metrics-listen", "127.0.0.1:0")


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    store_dir = tmp_path_factory.mktemp("metrics") / "store"
    with services_on(store_dir, *METRICS, rag_flags=METRICS) as running:
        learner = running.learner
        token = learner.learn(*correction("a", "list files", "ls"), *correction("b", "show date", "date"))
        learner.record(proposed("c", "list files", "ls"))
        running.rag.search("list files", min_token=token)
        failure_of(lambda: running.rag.search("list files", limit=-1))
        yield running


def test_the_learner_tells_of_its_store_and_its_streams(services: Services) -> None:
    metrics = metrics_of(services.learner.process)
    status = services.learner.status()
    for name, value in {
        "errata_blocks": 3,
        "errata_examples": 2,
        "errata_head_revision": 2,
        "errata_pending_blocks": 0,
        "errata_parked_blocks": 0,
        "errata_watchers": 1,
        "errata_store_bytes": status.store_bytes,
    }.items():
        assert metrics[name] == value, name


def test_the_learner_tells_of_its_queue_under_the_names_of_client_go(services: Services) -> None:
    metrics = metrics_of(services.learner.process)
    queue = '{name="blocks"}'
    assert metrics[f"workqueue_adds_total{queue}"] == 3
    for name in ("workqueue_queue_duration_seconds_count", "workqueue_work_duration_seconds_count"):
        assert metrics[f"{name}{queue}"] == 3, name
    for name in (
        *("workqueue_depth", "workqueue_retries_total", "workqueue_unfinished_work_seconds"),
        "workqueue_longest_running_processor_seconds",
    ):
        assert metrics[f"{name}{queue}"] == 0, name


def test_the_rag_service_tells_of_its_index(services: Services) -> None:
    metrics = metrics_of(services.rag.process)
    assert metrics["errata_rag_examples"] == 2
    assert metrics['errata_rag_state{state="live"}'] == 1
    assert metrics["errata_rag_quarantined_examples"] == 0
    assert 0 <= metrics["errata_rag_staleness_seconds"] < 15


def test_both_tell_of_their_calls_by_method_and_code(services: Services) -> None:
    learner, rag = metrics_of(services.learner.process), metrics_of(services.rag.process)
    record, search = "errata.v1.LearnerService/RecordEvents", "errata.v1.RagService/Search"
    assert learner[f'errata_rpc_total{{code="OK",method="{record}"}}'] == 2
    assert learner[f'errata_rpc_duration_seconds_count{{method="{record}"}}'] == 2
    watch = "errata.v1.LearnerService/WatchUpdates"
    assert learner[f'errata_rpc_open_streams{{method="{watch}"}}'] == 1
    assert rag[f'errata_rpc_total{{code="OK",method="{search}"}}'] == 1
    assert rag[f'errata_rpc_total{{code="INVALID_ARGUMENT",method="{search}"}}'] == 1
    for metrics in (learner, rag):
        assert metrics["process_open_fds"] > 0
