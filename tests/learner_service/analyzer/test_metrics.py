"""What Prometheus is told of the logs."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from learner_service.analyzer import LogDirectory
from learner_service.analyzer.line_times import newest_time_s
from learner_service.analyzer.metrics import AnalyzerMetrics
from learner_service.analyzer.reading import STEP_BYTES
from learner_service.store.store import Store
from tests.learner_service.analyzer.conftest import Following
from tests.learner_service.analyzer.lines import (
    append,
    executed,
    foyle,
    own,
    request,
    run_cell,
    runme_request,
)
from tests.learner_service.conftest import ManualClock

FILLER = b'{"message": "' + b"x" * 1000 + b'"}\n'


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def following(store: Store, clock: ManualClock, logs: Path, registry: CollectorRegistry) -> Following:
    metrics = AnalyzerMetrics(registry)
    following = Following(store, (LogDirectory("", logs),), clock, meter=metrics)
    metrics.show_lag(following.analyzer.lag)
    return following


def counted(registry: CollectorRegistry) -> dict[tuple[str, str], tuple[float, float]]:
    """Lines and bytes by dialect and outcome, those of which there are any."""
    counts: dict[tuple[str, str], dict[str, float]] = {}
    for family in registry.collect():
        for sample in family.samples:
            if sample.name in ("errata_log_lines_total", "errata_log_bytes_total"):
                kind = (sample.labels["dialect"], sample.labels["outcome"])
                counts.setdefault(kind, {})[sample.name] = sample.value
    return {
        kind: (each["errata_log_lines_total"], each["errata_log_bytes_total"])
        for kind, each in counts.items()
        if any(each.values())
    }


async def test_lines_and_bytes_are_counted_by_dialect_and_outcome(
    following: Following, logs: Path, registry: CollectorRegistry
) -> None:
    of_each = {
        ("own", "used"): own(executed("block-1")),
        ("own", "malformed"): b'{"blockId": "block-1"}\n',
        ("foyle", "used"): run_cell("block-2"),
        ("foyle", "ignored"): foyle("github.com/jlewi/foyle/app/pkg/agent.(*Agent).Generate", trace_id=""),
        ("foyle", "malformed"): request(trace_id="t" * 129),
        ("runme", "used"): runme_request("block-3", "ls"),
        ("runme", "ignored"): runme_request("", "ls"),
        ("runme", "malformed"): runme_request("block-3", "ls", ts="now"),
        ("other", "ignored"): FILLER,
        ("other", "malformed"): b"panic: oh no\n",
    }
    append(logs / "a.log", *of_each.values(), *of_each.values())
    await following.poll()
    assert counted(registry) == {kind: (2, 2 * len(line)) for kind, line in of_each.items()}


async def test_every_byte_that_was_read_is_counted_once(
    following: Following, logs: Path, registry: CollectorRegistry
) -> None:
    append(logs / "a.log", *[own(executed(f"block-{number}")) for number in range(3_000)])
    append(
        logs / "a.log", b"x" * 9_000_000, b"\n\n", bytes(10), FILLER, b"\r\n", own(executed("block-1"))[:-1]
    )
    await following.poll()
    await following.restarted().poll()
    assert sum(byte_count for _, byte_count in counted(registry).values()) == (logs / "a.log").stat().st_size


async def test_what_is_stored_in_several_transactions_is_counted_once(
    following: Following, logs: Path, registry: CollectorRegistry
) -> None:
    append(logs / "a.log", own(executed("block-1")))
    following.fault = RuntimeError("the process dies here")
    with pytest.raises(RuntimeError):
        await following.poll()
    assert counted(registry) == {}
    await following.poll()
    assert counted(registry)["own", "used"][0] == 1


async def test_the_lag_is_how_much_older_the_last_line_read_is_than_the_newest(
    following: Following, logs: Path, registry: CollectorRegistry
) -> None:
    def lag() -> tuple[float | None, float | None]:
        return (
            registry.get_sample_value("errata_log_lag_bytes"),
            registry.get_sample_value("errata_log_lag_seconds"),
        )

    assert lag() == (0, 0)
    filler = FILLER.replace(b"{", b'{"time": 1700000000, ')
    append(logs / "a.log", own(executed("block-1")), *[filler] * (2 * STEP_BYTES // len(filler)))
    append(logs / "a.log", foyle("elsewhere", time=1_700_000_060.5))
    size_bytes = (logs / "a.log").stat().st_size
    await following.poll()
    begin, then, *_ = following.lags
    assert begin.byte_count == size_bytes
    assert 0 < then.byte_count < size_bytes
    assert then.seconds == 60.5
    assert lag() == (0, 0)
    append(logs / "a.log", b'{"begun": ')
    await following.poll()
    assert lag() == (10, 0)


async def test_of_lines_that_do_not_say_when_they_were_written_the_lag_is_how_long_they_have_waited(
    following: Following, logs: Path
) -> None:
    append(logs / "a.log", *[FILLER] * (3 * STEP_BYTES // len(FILLER)))
    following.tick_us = 2_000_000
    await following.poll()
    assert [lag.seconds for lag in following.lags] == [2, 4, 6]
    assert following.analyzer.lag().seconds == 0


@pytest.mark.parametrize(
    ("lines", "time_s"),
    [
        (b'{"time": 1700000000.25}\n', 1_700_000_000.25),
        (b'{"ts":1700000000}\n{"ts":1700000001}\n', 1_700_000_001),
        (b'{"ts":1700000000}\n{"message":"no time"}\n', 1_700_000_000),
        (b'{"eventTime": "2023-11-14T22:13:20Z"}\n', 1_700_000_000),
        (b'{"event_time": "2023-11-14T22:13:20.5Z"}\n', 1_700_000_000),
        (b'{"time": "2023-02-30T22:13:20Z"}\n', None),
        (b'{"time": "soon"}\n', None),
        (b"", None),
    ],
)
def test_lines_say_when_they_were_written(lines: bytes, time_s: float | None) -> None:
    assert newest_time_s(lines) == time_s
