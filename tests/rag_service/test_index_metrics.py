"""What Prometheus is told."""

from prometheus_client import CollectorRegistry

from rag_service.index_metrics import IndexMetrics
from tests.rag_service.following import Following, following
from tests.rag_service.manual_clock import until
from tests.rag_service.scripted_learner import ToyStore


def registry_of(it: Following) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(IndexMetrics(mirror=it.mirror, progress=it.progress, subscriber=it.subscriber))
    return registry


async def test_before_the_first_sync_there_is_no_staleness() -> None:
    async with following() as it:
        value = registry_of(it).get_sample_value
        assert value("errata_rag_examples") == 0
        assert value("errata_rag_quarantined_examples") == 0
        assert value("errata_rag_staleness_seconds") is None
        assert value("errata_rag_state", {"state": "syncing"}) == 1
        assert value("errata_rag_state", {"state": "live"}) == 0


async def test_metrics_follow_the_index() -> None:
    store = ToyStore()
    store.put("a", "how to list files")
    store.put("b", "how to count lines", embedding=b"broken")
    async with following() as it:
        value = registry_of(it).get_sample_value
        stream = await it.synced(store)
        assert value("errata_rag_examples") == 2
        assert value("errata_rag_quarantined_examples") == 1
        assert value("errata_rag_state", {"state": "live"}) == 1
        assert value("errata_rag_resyncs_total") == 0
        it.clock.advance(3.5)
        assert value("errata_rag_staleness_seconds") == 3.5
        stream.send(store.bookmark(digest=b"wrong"))
        await it.stream()
        await until(lambda: value("errata_rag_reconnects_total") == 1)
        assert value("errata_rag_resyncs_total") == 1
        assert value("errata_rag_state", {"state": "resyncing"}) == 1
