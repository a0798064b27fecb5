"""An embeddings API on loopback that behaves, or misbehaves, as a test says.

with EmbeddingsServer() as server:
    server.script(error(500), truncated)        # the next requests, one each; then it behaves
"""

import gzip
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from errata.embedding import build_embedder

DIMENSION = 32
LENGTH = 3.0
"""Of the vectors that it answers with: to bring them to length 1 is for the client."""


@dataclass(frozen=True)
class Received:
    """One request."""

    path: str
    headers: Message
    body: dict[str, Any]

    @property
    def texts(self) -> list[str]:
        return list(self.body["input"])


Answer: TypeAlias = Callable[["Handler", Received], None]
"""Answers one request, or does not."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    # Head and body are two small writes, of which the second would wait for 40 ms.
    disable_nagle_algorithm = True
    owner: ClassVar["EmbeddingsServer"]

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        received = Received(self.path, self.headers, json.loads(self.rfile.read(length)))
        self.owner.answer(received)(self, received)

    def send(self, status: int, body: bytes, headers: Sequence[tuple[str, str]] = ()) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - it is named so
        del format, args


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is what some tests are about."""


@dataclass
class EmbeddingsServer:
    """See the module."""

    received: list[Received] = field(default_factory=list)
    texts_max: int = 2_048
    """A request of more is refused."""
    refused: set[str] = field(default_factory=set)
    """Requests that hold one of these are refused."""
    dimension: int = DIMENSION
    _script: deque[Answer] = field(default_factory=deque)

    def __enter__(self) -> Self:
        handler = type("BoundHandler", (Handler,), {"owner": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def begin_anew(self) -> None:
        """Forgets what it was told and what it received."""
        self.received.clear()
        self.texts_max, self.refused, self.dimension = 2_048, set(), DIMENSION
        self._script.clear()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def texts(self) -> list[str]:
        """Every text of every request."""
        return [text for request in self.received for text in request.texts]

    def script(self, *answers: Answer) -> None:
        """Says what the next requests get."""
        self._script.extend(answers)

    def answer(self, received: Received) -> Answer:
        self.received.append(received)
        return self._script.popleft() if self._script else behave

    def vectors(self, texts: Sequence[str], dimension: int | None = None) -> NDArray[np.float32]:
        """The unit vectors that its answers mean."""
        return build_embedder(f"hashing:{dimension or self.dimension}").documents(texts)

    def data(self, received: Received, dimension: int | None = None) -> list[dict[str, Any]]:
        vectors = LENGTH * self.vectors(received.texts, dimension or received.body.get("dimensions"))
        return [
            {"object": "embedding", "index": index, "embedding": vector.tolist()}
            for index, vector in enumerate(vectors)
        ]


def behave(handler: Handler, received: Received) -> None:
    owner = handler.owner
    if len(received.texts) > owner.texts_max:
        error(400, type="invalid_request_error", code="too_many_inputs")(handler, received)
    elif owner.refused.intersection(received.texts):
        error(400, type="invalid_request_error", code="context_length_exceeded", message=str(received.texts))(
            handler, received
        )
    else:
        handler.send(200, json.dumps({"data": owner.data(received)}).encode())


def error(status: int, /, *, headers: Sequence[tuple[str, str]] = (), **details: Any) -> Answer:
    """An error as the API words it."""
    return raw(status, json.dumps({"error": details}).encode(), headers)


def raw(status: int, body: bytes, headers: Sequence[tuple[str, str]] = ()) -> Answer:
    return lambda handler, _: handler.send(status, body, headers)


def data(change: Callable[[list[dict[str, Any]]], object]) -> Answer:
    """A good answer whose list of embeddings was changed."""

    def answer(handler: Handler, received: Received) -> None:
        entries = handler.owner.data(received)
        change(entries)
        handler.send(200, json.dumps({"data": entries}).encode())

    return answer


def of_dimension(dimension: int) -> Answer:
    def answer(handler: Handler, received: Received) -> None:
        handler.send(200, json.dumps({"data": handler.owner.data(received, dimension)}).encode())

    return answer


def zipped(handler: Handler, received: Received) -> None:
    body = gzip.compress(json.dumps({"data": handler.owner.data(received)}).encode())
    handler.send(200, body, [("Content-Encoding", "gzip")])


def endless(handler: Handler, _: Received) -> None:
    """A body that never ends, for as long as somebody reads it."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(1 << 40))
    handler.end_headers()
    while True:
        handler.wfile.write(b" " * (1 << 16))


def truncated(handler: Handler, received: Received) -> None:
    """Half of the body, and the end of the connection."""
    body = json.dumps({"data": handler.owner.data(received)}).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.close_connection = True


def reset(handler: Handler, _: Received) -> None:
    """The connection is reset before any answer."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    # The streams hold the connection open as long as they are.
    handler.rfile.close()
    handler.wfile.close()
    handler.connection.close()


class Held:
    """Answers only once it is released."""

    def __init__(self) -> None:
        self.waiting = threading.Event()
        self._released = threading.Event()

    def release(self) -> None:
        self._released.set()

    def __call__(self, handler: Handler, received: Received) -> None:
        self.waiting.set()
        assert self._released.wait(60)
        behave(handler, received)


def dripping(released: threading.Event) -> Answer:
    """A header line now and then, which no time-out of a single read notices."""

    def answer(handler: Handler, _: Received) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not released.wait(0.02):
            handler.wfile.write(b"X-Still-There: yes\r\n")

    return answer
