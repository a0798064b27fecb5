"""What Prometheus is told of the store and the streams; the queue and the calls have metrics of their own.

Computed when somebody asks, from counts that the store keeps.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from learner_service.change_feed import ChangeFeed
from learner_service.store import Store


class LearnerMetrics:
    """A collector; registers itself."""

    def __init__(self, registry: CollectorRegistry, *, store: Store, feed: ChangeFeed) -> None:
        self._store = store
        self._feed = feed
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """One gauge each."""
        with self._store.read() as transaction:
            waiting = transaction.queue_summary()
            values = {
                "errata_blocks": ("Blocks known.", transaction.block_count),
                "errata_examples": ("Examples learned.", transaction.tally().count),
                "errata_head_revision": ("Newest revision.", transaction.head_revision),
                "errata_pending_blocks": ("Blocks that wait for their turn.", waiting.queued_block_count),
                "errata_parked_blocks": ("Blocks that failed for good.", waiting.parked_block_count),
            }
        values["errata_store_bytes"] = ("Bytes of the store in use.", self._store.size_bytes)
        values["errata_watchers"] = ("Open streams of updates.", self._feed.watcher_count)
        for name, (documentation, value) in values.items():
            yield GaugeMetricFamily(name, documentation, value=value)
