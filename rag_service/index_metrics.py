"""What Prometheus sees of the index, read when it asks.

errata_rag_examples                 examples held
errata_rag_quarantined_examples     of those, the ones that cannot be found because they came malformed
errata_rag_staleness_seconds        since the index was last known to be up to date; absent before that
errata_rag_state{state}             1 for the state it is in, 0 for the others
errata_rag_waiting_calls            searches that wait for a token
errata_rag_resyncs_total            times that the whole state had to be replaced
errata_rag_reconnects_total         calls to the Learner after the first
"""

from collections.abc import Iterator
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from errata.v1 import rag_pb2
from rag_service.mirror import Mirror
from rag_service.progress import Progress
from rag_service.subscriber import Subscriber

_STATES: Final = {
    rag_pb2.INDEX_STATE_SYNCING: "syncing",
    rag_pb2.INDEX_STATE_LIVE: "live",
    rag_pb2.INDEX_STATE_STALE: "stale",
    rag_pb2.INDEX_STATE_RESYNCING: "resyncing",
}


class IndexMetrics(Collector):
    """Reads the index when metrics are scraped; may do so from any thread."""

    def __init__(self, *, mirror: Mirror, progress: Progress, subscriber: Subscriber) -> None:
        """Reads nothing yet."""
        self._mirror = mirror
        self._progress = progress
        self._subscriber = subscriber

    def collect(self) -> Iterator[Metric]:
        """The metrics, as they are now."""
        live = self._mirror.live
        yield _gauge("examples", "Examples held.", live.index.count if live is not None else 0)
        yield _gauge(
            "quarantined_examples",
            "Examples that cannot be found because their last update was malformed.",
            live.index.quarantined_count if live is not None else 0,
        )
        if live is not None:
            yield _gauge(
                "staleness_seconds",
                "Time since the index was last known to be up to date.",
                self._mirror.staleness_s(live),
            )
        state = self._mirror.state
        states = GaugeMetricFamily("errata_rag_state", "What the index is doing.", labels=["state"])
        for each, name in _STATES.items():
            states.add_metric([name], float(each == state))
        yield states
        yield _gauge("waiting_calls", "Searches that wait for a token.", self._progress.waiter_count)
        yield _counter("resyncs", "Times that the whole state had to be replaced.", self._mirror.resync_count)
        yield _counter(
            "reconnects", "Calls to the Learner after the first.", self._subscriber.reconnect_count
        )


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"errata_rag_{name}", about, value=value)


def _counter(name: str, about: str, value: float) -> Metric:
    return CounterMetricFamily(f"errata_rag_{name}", about, value=value)
