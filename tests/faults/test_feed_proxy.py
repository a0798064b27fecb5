"""The proxy breaks links in the way it is told to, and in no other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.faults.proxy import Proxy

SECONDS_MAX = 5.0


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """Before a server that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(1024):
                writer.write(chunk)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with Proxy(f"{host}:{port}") as proxy:
        yield proxy
    server.close()
    await server.wait_closed()


@asynccontextmanager
async def connected(proxy: Proxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*proxy.address.split(":"))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def echoed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: bytes) -> bytes:
    writer.write(text)
    async with asyncio.timeout(SECONDS_MAX):
        return await reader.readexactly(len(text))


async def test_bytes_pass_in_both_directions(proxy: Proxy) -> None:
    text = bytes(range(256)) * 4096
    async with connected(proxy) as (reader, writer):
        assert await echoed(reader, writer, text) == text


async def test_a_cut_resets_open_links_and_lets_new_ones_in(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, writer):
        await echoed(reader, writer, b"before")
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            await reader.read()
    async with connected(proxy) as (reader, writer):
        assert await echoed(reader, writer, b"after") == b"after"
    assert proxy.accepted_count == 2


async def test_a_proxy_that_refuses_resets_new_connections_and_leaves_open_ones(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, writer):
        await echoed(reader, writer, b"before")
        proxy.refusing = True
        async with connected(proxy) as (refused_reader, _):
            with pytest.raises(ConnectionResetError):
                await refused_reader.read()
        assert await echoed(reader, writer, b"still") == b"still"


async def test_a_black_hole_keeps_its_links_open_and_silent_until_it_heals(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, writer):
        await echoed(reader, writer, b"before")
        proxy.black_hole()
        writer.write(b"held")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(1)
        async with connected(proxy) as (other_reader, other_writer):
            assert await echoed(other_reader, other_writer, b"new link") == b"new link"
        proxy.heal()
        async with asyncio.timeout(SECONDS_MAX):
            assert await reader.readexactly(4) == b"held"


async def test_a_delay_holds_each_chunk_back(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, writer):
        await echoed(reader, writer, b"warm")
        proxy.delay_s = 0.05
        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        assert await echoed(reader, writer, b"slow") == b"slow"
        # Once on the way there, once on the way back.
        assert loop.time() - begin_s >= 0.1


async def test_a_server_that_is_gone_ends_the_link() -> None:
    async with Proxy("127.0.0.1:1") as proxy, connected(proxy) as (reader, _):
        with pytest.raises(ConnectionResetError):
            await reader.read()
        assert proxy.link_count == 0
