"""A TCP proxy on loopback that cuts, delays and black-holes the links that run through it."""

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

CHUNK_BYTES: Final = 64 * 1024


@dataclass(eq=False, slots=True)
class _Link:
    """One connection of a client, and the one to the server that goes with it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    flowing: asyncio.Event = field(default_factory=asyncio.Event)

    def reset(self) -> None:
        _reset(self.client)
        _reset(self.server)

    def close(self) -> None:
        self.client.close()
        self.server.close()


class Proxy:
    """Passes bytes on between clients and one server; made for an event loop, used in an `async with`."""

    def __init__(self, server_address: str) -> None:
        host, _, port = server_address.rpartition(":")
        self._server_address = (host, int(port))
        self._listener: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.delay_s = 0.0
        """How long each chunk is held back, in either direction."""
        self.refusing = False
        """Whether new connections are reset at once."""
        self.accepted_count = 0
        """Connections that clients have made, refused ones included."""
        self.accepted = asyncio.Event()
        """Set by each of them; for the test to clear."""

    @property
    def address(self) -> str:
        """Where clients connect to, as HOST:PORT."""
        if self._listener is None:
            raise RuntimeError("the proxy is not started: use it in an `async with` block")
        host, port = self._listener.sockets[0].getsockname()
        return f"{host}:{port}"

    @property
    def link_count(self) -> int:
        """Links that are open, black-holed ones included."""
        return len(self._links)

    def cut(self) -> None:
        """Resets every open link; new ones are made as ever."""
        for link in self._links:
            link.reset()

    def black_hole(self) -> None:
        """Passes nothing on over the links that are open, not even their end; they stay open."""
        for link in self._links:
            link.flowing.clear()

    def heal(self) -> None:
        """Passes on what was held back, and holds nothing back from now on."""
        self.delay_s = 0.0
        for link in self._links:
            link.flowing.set()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        error_class: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._listener is not None:
            self._listener.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted_count += 1
        self.accepted.set()
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        if self.refusing:
            _reset(client)
            return
        try:
            server_reader, server = await asyncio.open_connection(*self._server_address)
        except OSError:
            _reset(client)
            return
        link = _Link(client, server)
        link.flowing.set()
        self._links.add(link)
        pumps = [
            asyncio.create_task(self._pump(client_reader, server, link)),
            asyncio.create_task(self._pump(server_reader, client, link)),
        ]
        try:
            # When either side ends, so does the link.
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._links.discard(link)
            link.close()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: _Link) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                try:
                    chunk = await reader.read(CHUNK_BYTES)
                except ConnectionError:
                    chunk = b""
                # The end of a side is held back in a black hole, like everything else.
                await link.flowing.wait()
                if not chunk:
                    return
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                writer.write(chunk)
                await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Closes a connection with RST, as a machine that has forgotten it does; nothing more is sent."""
    with contextlib.suppress(OSError):
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
