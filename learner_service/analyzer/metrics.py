"""What Prometheus is told of the logs that are followed.

    errata_log_lines_total{dialect,outcome}    lines read and stored
    errata_log_bytes_total{dialect,outcome}    the same in bytes
    errata_log_lag_bytes                       not read yet
    errata_log_lag_seconds                     how much older the last line read is than the newest one

An outcome is `used` when a line said something, `ignored` when it had nothing for us, and `malformed`. The
dialect is `other` where a line was decided on before it mattered which one it is of. The lags are computed
when somebody asks; that in seconds is 0 when nothing is left to be read.
"""

from collections.abc import Callable, Iterator
from typing import Final, get_args

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from learner_service.analyzer.analyzer import Lag
from learner_service.analyzer.dialects import DialectName, Outcome

_LABELS: Final = ("dialect", "outcome")


class AnalyzerMetrics:
    """Counts what is read. Make one for each registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers the metrics.

        Raises:
            ValueError: the registry has them already.
        """
        self._registry = registry
        self._lines = Counter("errata_log_lines", "Log lines read.", _LABELS, registry=registry)
        self._bytes = Counter("errata_log_bytes", "Bytes of log lines read.", _LABELS, registry=registry)
        for dialect in get_args(DialectName):
            for outcome in get_args(Outcome):
                # Shown with zeros before the first line, so that rates have a beginning.
                self._lines.labels(dialect, outcome)
                self._bytes.labels(dialect, outcome)

    def lines_read(self, dialect: DialectName, outcome: Outcome, line_count: int, byte_count: int) -> None:
        """Counts lines that were read, and stored if they said something."""
        self._lines.labels(dialect, outcome).inc(line_count)
        self._bytes.labels(dialect, outcome).inc(byte_count)

    def show_lag(self, lag: Callable[[], Lag]) -> None:
        """Shows how far the reader is behind; once.

        Args:
            lag: called by scrapes, on their threads.
        """
        self._registry.register(_LagCollector(lag))


class _LagCollector:
    def __init__(self, lag: Callable[[], Lag]) -> None:
        self._lag = lag

    def collect(self) -> Iterator[Metric]:
        lag = self._lag()
        yield GaugeMetricFamily("errata_log_lag_bytes", "Bytes of logs not read yet.", value=lag.byte_count)
        yield GaugeMetricFamily(
            "errata_log_lag_seconds",
            "How much older the last log line read is than the newest one; 0 when all are read.",
            value=lag.seconds,
        )
