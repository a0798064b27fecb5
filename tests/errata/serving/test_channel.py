"""Channel arguments: that gRPC knows their names, and that those that matter have their effect."""

import asyncio
import contextlib
import importlib.util
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from prometheus_client import CollectorRegistry

from errata.serving.channel import (
    PING_INTERVAL_S,
    PING_INTERVAL_S_MIN,
    PING_TIMEOUT_S,
    channel_options,
    server_options,
)
from errata.serving.metrics import RpcMetrics
from errata.serving.server import GrpcServer, Service
from errata.v1 import learner_pb2 as pb
from errata.v1 import learner_pb2_grpc
from tests.errata.serving.sample_service import SERVICE, STATUSES, SampleServicer


def test_grpc_knows_the_name_of_every_argument() -> None:
    # It ignores the others without a word. The names stand in its library as C strings.
    found = importlib.util.find_spec("grpc._cython.cygrpc")
    assert found is not None
    library = Path(str(found.origin)).read_bytes()
    names = {name for name, _ in channel_options() + server_options()}
    assert not [name for name in sorted(names) if f"{name}\0".encode() not in library]
    assert b"grpc.keepalive_time\0" not in library


def test_no_argument_is_given_twice() -> None:
    for options in (channel_options(), server_options()):
        names = [name for name, _ in options]
        assert len(names) == len(set(names))


def test_a_dead_link_is_noticed_in_35_s_and_no_peer_of_ours_is_sent_away() -> None:
    assert PING_INTERVAL_S + PING_TIMEOUT_S < 35
    assert PING_INTERVAL_S_MIN < PING_INTERVAL_S


BATCH_BYTES_MAX = 256 * 1024
"""Of a batch of WatchUpdates."""


class Link:
    """A link of TCP connections that can be made to swallow everything."""

    def __init__(self, target: str) -> None:
        self._host, _, self._port = target.rpartition(":")
        self._swallows = False
        self.carried_bytes = 0
        """In both directions."""
        self._tasks: set[asyncio.Task[None]] = set()

    def swallow(self) -> None:
        self._swallows = True

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._host, int(self._port))
        self._tasks |= {
            asyncio.ensure_future(self._pass_on(reader, far_writer)),
            asyncio.ensure_future(self._pass_on(far_reader, writer)),
        }

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.carried_bytes += len(data)
                if not self._swallows:
                    writer.write(data)
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def linked() -> AsyncIterator[tuple[Link, str]]:
    """A server, and the address of a link to it."""
    server = GrpcServer(
        services=[Service(SERVICE, SampleServicer())],
        statuses=STATUSES,
        metrics=RpcMetrics(CollectorRegistry()),
    )
    link = Link(await server.start("127.0.0.1:0"))
    near = await asyncio.start_server(link.carry, "127.0.0.1", 0)
    try:
        yield link, f"127.0.0.1:{near.sockets[0].getsockname()[1]}"
    finally:
        near.close()
        await link.close()
        await server.drain(grace_s=0)


def hurried(divisor: int) -> list[tuple[str, int]]:
    """The arguments of a channel with its probes made faster."""
    probes = {"grpc.keepalive_time_ms", "grpc.keepalive_timeout_ms", "grpc.http2.ping_timeout_ms"}
    return [(name, value // divisor if name in probes else value) for name, value in channel_options()]


async def test_a_link_that_swallows_everything_is_noticed() -> None:
    divisor = 20
    async with linked() as (link, address), grpc.aio.insecure_channel(address, hurried(divisor)) as channel:
        stub: learner_pb2_grpc.LearnerServiceAsyncStub = learner_pb2_grpc.LearnerServiceStub(channel)
        stream = stub.WatchUpdates(pb.WatchUpdatesRequest(watcher="deaf"))
        await stream.read()
        link.swallow()
        begin_s = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(stream.read(), 10)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        # Twice the bound, as the machine may be busy; without the ping timeout it would take a minute.
        assert time.monotonic() - begin_s < 2 * 35 / divisor


async def unread_bytes(options: list[tuple[str, int]]) -> int:
    """What a client is sent, once it has read much and reads no more, of a server that has no end of it."""
    async with linked() as (link, address), grpc.aio.insecure_channel(address, options) as channel:
        stub: learner_pb2_grpc.LearnerServiceAsyncStub = learner_pb2_grpc.LearnerServiceStub(channel)
        stream = stub.WatchUpdates(pb.WatchUpdatesRequest(watcher="flood"))
        read_bytes = 0
        for _ in range(200):
            message = await stream.read()
            assert isinstance(message, pb.WatchUpdatesResponse)
            read_bytes += message.ByteSize()
        carried_bytes = -1
        while carried_bytes < link.carried_bytes:
            carried_bytes = link.carried_bytes
            await asyncio.sleep(0.3)
        stream.cancel()
    return carried_bytes - read_bytes


async def test_a_client_that_reads_slowly_is_sent_one_batch_ahead_and_not_much_more() -> None:
    assert BATCH_BYTES_MAX < await unread_bytes(channel_options()) < 4 * BATCH_BYTES_MAX


async def test_a_client_that_leaves_the_window_to_grpc_is_sent_far_more() -> None:
    ours = {"grpc.http2.bdp_probe", "grpc.http2.lookahead_bytes"}
    options = [(name, value) for name, value in channel_options() if name not in ours]
    assert await unread_bytes(options) > 4 * BATCH_BYTES_MAX
