import pytest
from prometheus_client import CollectorRegistry, generate_latest

from learner_service.workqueue.backoff import ExponentialBackoff
from learner_service.workqueue.metrics import QueueMetrics
from learner_service.workqueue.queue import WorkQueue
from tests.learner_service.manual_clock import ManualClock


class Scene:
    """A queue, its clock, and what Prometheus would read."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.registry = CollectorRegistry()
        self.metrics = QueueMetrics(self.registry)
        self.queue = self.new_queue("learn")

    def new_queue(self, name: str) -> WorkQueue[str]:
        return WorkQueue(name=name, clock=self.clock, backoff=ExponentialBackoff(), metrics=self.metrics)

    def read(self, metric: str, name: str = "learn") -> float | None:
        return self.registry.get_sample_value(f"workqueue_{metric}", {"name": name})


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_fresh_queue_reports_every_metric_as_zero(scene: Scene) -> None:
    names = ["depth", "adds_total", "retries_total", "unfinished_work_seconds"]
    names += [
        "longest_running_processor_seconds",
        "queue_duration_seconds_count",
        "work_duration_seconds_count",
    ]
    assert {name: scene.read(name) for name in names} == dict.fromkeys(names, 0.0)


def test_a_key_counts_once_however_often_it_is_added_before_it_is_taken(scene: Scene) -> None:
    scene.queue.add("a")
    scene.queue.add("a")
    scene.queue.add("b")
    assert (scene.read("adds_total"), scene.read("depth")) == (2, 2)


async def test_the_time_in_the_queue_and_with_the_worker_is_observed(scene: Scene) -> None:
    scene.queue.add("a")
    await scene.clock.advance(3)
    scene.queue.add("a")
    await scene.clock.advance(4)
    key = await scene.queue.get()
    assert scene.read("depth") == 0
    assert scene.read("queue_duration_seconds_sum") == 7
    await scene.clock.advance(5)
    scene.queue.done(key)
    assert scene.read("work_duration_seconds_sum") == 5
    assert scene.read("queue_duration_seconds_count") == scene.read("work_duration_seconds_count") == 1


async def test_a_key_added_while_it_is_processed_waits_from_then_on(scene: Scene) -> None:
    scene.queue.add("a")
    await scene.queue.get()
    scene.queue.add("a")
    assert (scene.read("depth"), len(scene.queue)) == (1, 0)
    await scene.clock.advance(2)
    scene.queue.done("a")
    await scene.clock.advance(1)
    await scene.queue.get()
    assert scene.read("queue_duration_seconds_sum") == 3
    assert scene.read("adds_total") == 2


async def test_unfinished_work_grows_while_workers_have_keys(scene: Scene) -> None:
    scene.queue.add("a")
    await scene.queue.get()
    await scene.clock.advance(10)
    scene.queue.add("b")
    await scene.queue.get()
    await scene.clock.advance(1)
    assert scene.read("unfinished_work_seconds") == 12
    assert scene.read("longest_running_processor_seconds") == 11
    scene.queue.done("a")
    assert scene.read("unfinished_work_seconds") == 1
    assert scene.read("longest_running_processor_seconds") == 1
    scene.queue.done("b")
    assert scene.read("unfinished_work_seconds") == 0
    assert scene.read("longest_running_processor_seconds") == 0


async def test_every_delayed_add_counts_as_a_retry(scene: Scene) -> None:
    scene.queue.add_after("a", 5)
    scene.queue.add_after("a", 4)
    scene.queue.add_rate_limited("b")
    scene.queue.add_after("c", 0)
    assert scene.read("retries_total") == 4
    assert scene.read("adds_total") == 1
    scene.queue.shut_down()
    scene.queue.add_after("d", 1)
    assert scene.read("retries_total") == 4


async def test_a_claim_is_measured_like_a_worker(scene: Scene) -> None:
    scene.queue.add("a")
    await scene.clock.advance(1)
    async with scene.queue.claim("a"):
        assert (scene.read("depth"), scene.read("queue_duration_seconds_sum")) == (0, 1)
        await scene.clock.advance(2)
        assert scene.read("unfinished_work_seconds") == 2
    assert scene.read("work_duration_seconds_sum") == 2
    async with scene.queue.claim("never added"):
        pass
    assert scene.read("queue_duration_seconds_count") == 1
    assert scene.read("work_duration_seconds_count") == 2


def test_queues_of_one_registry_are_told_apart_by_name(scene: Scene) -> None:
    other = scene.new_queue("other")
    scene.queue.add("a")
    other.add("a")
    other.add("b")
    assert (scene.read("depth"), scene.read("depth", "other")) == (1, 2)
    assert (scene.read("adds_total"), scene.read("adds_total", "other")) == (1, 2)


def test_two_queues_of_one_name_are_refused(scene: Scene) -> None:
    with pytest.raises(ValueError, match="'learn'"):
        scene.new_queue("learn")


def test_what_is_computed_at_a_scrape_has_its_names_reserved(scene: Scene) -> None:
    text = generate_latest(scene.registry.restricted_registry(["workqueue_depth"])).decode()
    assert 'workqueue_depth{name="learn"} 0.0' in text
