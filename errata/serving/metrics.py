"""Metrics for Prometheus: a registry a process, and a port of its own to read it.

    errata_rpc_total{method,code}              calls that ended
    errata_rpc_duration_seconds{method}        how long unary calls took
    errata_rpc_open_streams{method}            streams that are open

A service registers its own metrics in the same registry, with names that begin with `errata_`. A label takes
only values of a small, fixed set: never the name of a namespace or a block.
"""

import socket
import socketserver
import threading
from collections.abc import Callable
from typing import Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    make_wsgi_app,
)

from errata.serving.addresses import parse_address, resolve_for_listening
from errata.serving.process import StartError

DURATION_BUCKETS_S: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""Fine where a search lives, up to the longest wait that a call may ask for."""

READ_S_MAX: Final = 10.0
"""A scraper that says nothing for so long loses its connection."""


def new_registry() -> CollectorRegistry:
    """A registry that already tells of the process: memory, CPU, open files, garbage collection."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class RpcMetrics:
    """Counts calls; safe to use from any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers the metrics; once a registry.

        Raises:
            ValueError: the registry has them already.
        """
        self._calls = Counter("errata_rpc", "Calls that ended.", ["method", "code"], registry=registry)
        self._durations = Histogram(
            "errata_rpc_duration_seconds",
            "How long unary calls took.",
            ["method"],
            buckets=DURATION_BUCKETS_S,
            registry=registry,
        )
        self._open_streams = Gauge(
            "errata_rpc_open_streams", "Streams that are open.", ["method"], registry=registry
        )
        # By method and code: looking them up by their labels takes longer than counting.
        self._unary: dict[tuple[str, str], tuple[Counter, Histogram]] = {}

    def expect_unary(self, method: str) -> None:
        """Shows a method with zeros before its first call, so that rates have a beginning."""
        self._durations.labels(method)

    def unary_ended(self, method: str, code: str, duration_s: float) -> None:
        """Counts a unary call."""
        counted = self._unary.get((method, code))
        if counted is None:
            counted = self._calls.labels(method, code), self._durations.labels(method)
            self._unary[method, code] = counted
        calls, durations = counted
        calls.inc()
        durations.observe(duration_s)

    def expect_stream(self, method: str) -> None:
        """Shows a method with zeros before its first stream."""
        self._open_streams.labels(method)

    def stream_opened(self, method: str) -> None:
        """Counts a stream as open."""
        self._open_streams.labels(method).inc()

    def stream_ended(self, method: str, code: str) -> None:
        """Counts a stream as ended; how long it was open is no latency, and goes nowhere."""
        self._open_streams.labels(method).dec()
        self._calls.labels(method, code).inc()


def start_metrics_server(listen: str, registry: CollectorRegistry) -> tuple[str, Callable[[], None]]:
    """Serves the registry over HTTP at /metrics, on a thread of its own.

    Args:
        listen: HOST:PORT; port 0 lets the system choose.
        registry: what to serve.

    Returns:
        The address that was bound, and a function that ends the server and frees the port.

    Raises:
        StartError: the address cannot be listened at.
    """
    address = parse_address(listen)
    try:
        bound = resolve_for_listening(address)
        server_class = _ServerV6 if ":" in bound.host else _Server
        server = make_server(
            bound.host, bound.port, make_wsgi_app(registry), server_class, handler_class=_Handler
        )
    except OSError as error:
        raise StartError(
            f"cannot serve metrics at {listen}: {(error.strerror or str(error)).lower()}; "
            "choose another address with --metrics-listen, or leave it out for none"
        ) from None
    # Polls for its end, so the interval is how long `close` takes.
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="metrics", daemon=True
    )
    thread.start()

    def close() -> None:
        server.shutdown()
        thread.join()
        server.server_close()

    return str(bound._replace(port=server.server_port)), close


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    # A scraper that hangs must not keep the process from ending.
    daemon_threads = True
    # On in some versions of Python: two processes would share the port without a word.
    allow_reuse_port = False

    def server_bind(self) -> None:
        # HTTPServer's asks the name service for the name of the host, which may take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name = str(self.server_address[0])
        self.server_port = int(self.server_address[1])
        self.setup_environ()


class _ServerV6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = READ_S_MAX

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is WSGIRequestHandler's
        """Says nothing: a scrape every few seconds is no event."""
