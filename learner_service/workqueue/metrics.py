"""What Prometheus is told about work queues, under the names that client-go's queues made known.

The label `name` tells the queues of a process apart. With D the keys to be worked on and P those with a
worker:

- `workqueue_depth`: |D|, so a key that was added again while a worker has it counts
- `workqueue_adds_total`: keys that entered D
- `workqueue_queue_duration_seconds`: time in D
- `workqueue_work_duration_seconds`: time in P
- `workqueue_unfinished_work_seconds`: Σ of (now - start) over P; grows without end when a worker hangs
- `workqueue_longest_running_processor_seconds`: max of (now - start) over P
- `workqueue_retries_total`: keys that were to come back after a while

Depth and the ages are computed when somebody asks. All others are counted as things happen.
"""

from collections.abc import Callable, Hashable, Iterator
from threading import Lock
from typing import Final, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

K = TypeVar("K", bound=Hashable)

DURATION_BUCKETS_S: Final = (
    *(0.001, 0.003, 0.01, 0.03, 0.1, 0.3),
    *(1.0, 3.0, 10.0, 30.0, 100.0, 300.0),
    *(1000.0, 3000.0, 10_000.0),
)
"""From one block, embedded locally, to the last block of a long backfill."""

_LABELS: Final = ("name",)


class QueueMetrics:
    """The metrics of all queues that report to one registry. Make one for each registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.adds = Counter(
            "workqueue_adds_total", "Keys that were queued.", labelnames=_LABELS, registry=registry
        )
        self.retries = Counter(
            "workqueue_retries_total",
            "Keys that were to be queued again after a while.",
            labelnames=_LABELS,
            registry=registry,
        )
        self.queue_duration = Histogram(
            "workqueue_queue_duration_seconds",
            "How long keys waited for a worker.",
            labelnames=_LABELS,
            buckets=DURATION_BUCKETS_S,
            registry=registry,
        )
        self.work_duration = Histogram(
            "workqueue_work_duration_seconds",
            "How long workers had a key.",
            labelnames=_LABELS,
            buckets=DURATION_BUCKETS_S,
            registry=registry,
        )
        # Guards the list alone; see OneQueueMetrics for what it holds.
        self._lock = Lock()
        self._gauges: dict[str, Callable[[], tuple[int, list[float]]]] = {}
        registry.register(self)

    def add_queue(self, name: str, gauges: Callable[[], tuple[int, list[float]]]) -> None:
        """Makes a queue known.

        Args:
            name: value of the label `name`, not used before.
            gauges: returns the depth, and for how many seconds each key has been worked on; called by
                scrapes, on their threads.

        Raises:
            ValueError: a queue of that name is known already.
        """
        with self._lock:
            if name in self._gauges:
                raise ValueError(f"two queues with the name {name!r} report to one registry")
            self._gauges[name] = gauges

    def collect(self) -> Iterator[Metric]:
        """What is computed at a scrape."""
        with self._lock:
            gauges = list(self._gauges.items())
        depth, unfinished, longest = families = _gauge_families()
        for name, read in gauges:
            key_count, ages_s = read()
            depth.add_metric([name], key_count)
            unfinished.add_metric([name], sum(ages_s))
            longest.add_metric([name], max(ages_s, default=0.0))
        yield from families

    def describe(self) -> Iterator[Metric]:
        """The names that `collect` uses, so that the registry finds them taken."""
        yield from _gauge_families()


class OneQueueMetrics(Generic[K]):
    """The metrics of one queue: told what happens to its keys, it keeps the times.

    Called on the event loop by the queue, and by scrapes on other threads.
    """

    def __init__(self, metrics: QueueMetrics, *, name: str, now: Callable[[], float]) -> None:
        self._now = now
        self._adds = metrics.adds.labels(name)
        self._retries = metrics.retries.labels(name)
        self._queue_duration = metrics.queue_duration.labels(name)
        self._work_duration = metrics.work_duration.labels(name)
        self._added_s: dict[K, float] = {}
        # Guards `started_s`, which a scrape goes through while the event loop changes it.
        self._lock = Lock()
        self._started_s: dict[K, float] = {}
        metrics.add_queue(name, self._read_gauges)

    def added(self, key: K) -> None:
        """The key, which was clean, is to be worked on."""
        self._adds.inc()
        self._added_s[key] = self._now()

    def removed(self, key: K) -> None:
        """The key no longer waits for somebody to work on it: that is happening now."""
        self._queue_duration.observe(self._now() - self._added_s.pop(key))

    def started(self, key: K) -> None:
        """Somebody works on the key."""
        with self._lock:
            self._started_s[key] = self._now()

    def finished(self, key: K) -> None:
        """Nobody works on the key any more."""
        with self._lock:
            started_s = self._started_s.pop(key)
        self._work_duration.observe(self._now() - started_s)

    def retried(self) -> None:
        """A key is to come back after a while."""
        self._retries.inc()

    def _read_gauges(self) -> tuple[int, list[float]]:
        with self._lock:
            started_s = list(self._started_s.values())
        now_s = self._now()
        return len(self._added_s), [now_s - each_s for each_s in started_s]


def _gauge_families() -> tuple[GaugeMetricFamily, GaugeMetricFamily, GaugeMetricFamily]:
    return (
        GaugeMetricFamily("workqueue_depth", "Keys that wait for a worker.", labels=_LABELS),
        GaugeMetricFamily(
            "workqueue_unfinished_work_seconds",
            "Sum of the times for which the keys now with workers have been there.",
            labels=_LABELS,
        ),
        GaugeMetricFamily(
            "workqueue_longest_running_processor_seconds",
            "The longest time for which a key now with a worker has been there.",
            labels=_LABELS,
        ),
    )
