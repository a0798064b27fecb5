"""What Prometheus is told of the store, the streams and of learning; queue and calls have their own metrics.

    errata_reconcile_total{outcome,reason}     results that were stored; `reason` says why there is no example

The gauges are computed when somebody asks, from counts that the store keeps.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from errata.v1.learner_pb2 import NOT_LEARNED_REASON_UNSPECIFIED, NotLearnedReason, ReconcileOutcome
from learner_service.change_feed import ChangeFeed
from learner_service.keys import BlockKey
from learner_service.reconciler import Settled, Superseded
from learner_service.store.store import Store


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
                "errata_backfills_running": (
                    "Backfills that have not ended.",
                    len(transaction.backfills.running_ids()),
                ),
            }
        values["errata_store_bytes"] = ("Bytes of the store in use.", self._store.size_bytes)
        values["errata_watchers"] = ("Open streams of updates.", self._feed.watcher_count)
        for name, (documentation, value) in values.items():
            yield GaugeMetricFamily(name, documentation, value=value)


class ReconcileMetrics:
    """A `Listener` of learning that counts what reconciling did, and why blocks gave no example."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers the metric; once a registry."""
        self._results = Counter(
            "errata_reconcile",
            "Results of reconciling that were stored.",
            ["outcome", "reason"],
            registry=registry,
        )

    def settled(self, key: BlockKey, result: Settled | Superseded | None) -> None:
        """Counts a result."""
        del key
        if isinstance(result, Settled):
            self._results.labels(_outcome(result), _reason(result)).inc()

    def put_off(self, key: BlockKey) -> None:
        """Counts nothing: another turn follows."""


def _outcome(result: Settled) -> str:
    """Such as `created`."""
    return ReconcileOutcome.Name(result.outcome).removeprefix("RECONCILE_OUTCOME_").lower()


def _reason(result: Settled) -> str:
    """Such as `not_executed`; empty where there is an example."""
    if result.reason == NOT_LEARNED_REASON_UNSPECIFIED:
        return ""
    return NotLearnedReason.Name(result.reason).removeprefix("NOT_LEARNED_REASON_").lower()
