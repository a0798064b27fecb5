"""The service as a process of its own."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.request import urlopen

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # ships no types
from numpy.typing import NDArray

from errata.embedding import build_embedder
from errata.v1 import rag_pb2
from errata.v1.rag_pb2_grpc import RagServiceStub
from tests.rag_service.scripted_learner import ToyEmbedder, ToyStore, scripted_learner

SPEC = "hashing:64"
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class RealEmbedder(ToyEmbedder):
    """Embeds as the process does."""

    def __init__(self) -> None:
        self._embedder = build_embedder(SPEC)
        super().__init__(self._embedder.fingerprint, self._embedder.dimension)

    def embed(self, text: str) -> NDArray[np.float32]:
        (row,) = self._embedder.documents([text])
        return np.asarray(row)


@asynccontextmanager
async def process(*flags: str) -> AsyncIterator[asyncio.subprocess.Process]:
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rag_service", *flags, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


async def written(path: Path) -> str:
    async with asyncio.timeout(20):
        while not path.exists():  # noqa: ASYNC110, ASYNC240 - another process writes it
            await asyncio.sleep(0.01)
    return path.read_text().strip()  # noqa: ASYNC240 - a few bytes


async def test_a_service_serves_from_its_first_bookmark_and_ends_when_it_is_told_to(tmp_path: Path) -> None:
    store = ToyStore(embedder=RealEmbedder(), spec=SPEC)
    store.put("a", "how to list files")
    address_file = tmp_path / "rag.address"
    async with scripted_learner() as learner:
        flags = ["--listen=127.0.0.1:0", f"--address-file={address_file}", f"--learner={learner.address}"]
        async with process(*flags, "--metrics-listen=127.0.0.1:0") as started:
            address = await written(address_file)
            async with grpc.aio.insecure_channel(address) as channel, asyncio.timeout(20):
                health = health_pb2_grpc.HealthStub(channel)
                watched = health.Watch(health_pb2.HealthCheckRequest(service="errata.v1.RagService"))
                assert (await watched.read()).status == NOT_SERVING
                stream = await learner.next_stream()
                stream.send(store.hello(), store.everything())
                assert (await watched.read()).status == SERVING
                whole = await health.Check(health_pb2.HealthCheckRequest())
                assert whole.status == SERVING
                watched.cancel()

                request = rag_pb2.SearchRequest(text="how to list files")
                response = await RagServiceStub(channel).Search(request)
                assert [result.example.id for result in response.results] == ["a"]

                metrics_address = await _metrics_address(started)
                metrics = (
                    (await asyncio.to_thread(urlopen, f"http://{metrics_address}/metrics")).read().decode()
                )
                assert "errata_rag_examples 1.0" in metrics
                assert 'errata_rag_state{state="live"} 1.0' in metrics
                assert "errata_rag_quarantined_examples 0.0" in metrics
                assert "errata_rag_staleness_seconds" in metrics
                assert "errata_rag_resyncs_total 0.0" in metrics
                assert "errata_rag_reconnects_total 0.0" in metrics

            started.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                assert await started.wait() == 0
                await stream.gone.wait()


async def _metrics_address(started: asyncio.subprocess.Process) -> str:
    """The address that a log line tells."""
    assert started.stderr is not None
    async for line in started.stderr:
        if b"metrics are served" in line:
            return line.decode().split('"address":')[1].split('"')[1]
    raise AssertionError("the log does not say where metrics are")
