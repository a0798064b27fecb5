"""The metrics and the port where Prometheus reads them."""

import socket
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry

from errata.serving.metrics import RpcMetrics, new_registry, start_metrics_server
from errata.serving.process import StartError


def read(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as response:
        return str(response.read().decode())


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:0", "[::1]:0"])
def test_the_registry_is_read_over_http(listen: str) -> None:
    if listen.startswith("[") and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    registry = new_registry()
    RpcMetrics(registry).unary_ended("s/M", "OK", 0.003)
    address, close = start_metrics_server(listen, registry)
    text = read(address)
    close()
    assert 'errata_rpc_total{code="OK",method="s/M"} 1.0' in text
    assert 'errata_rpc_duration_seconds_bucket{le="0.005",method="s/M"} 1.0' in text
    assert "process_resident_memory_bytes" in text


def test_a_closed_server_frees_its_port() -> None:
    address, close = start_metrics_server("127.0.0.1:0", CollectorRegistry())
    close()
    with pytest.raises(urllib.error.URLError):
        read(address)
    again, close_again = start_metrics_server(address, CollectorRegistry())
    close_again()
    assert again == address


def test_a_taken_port_is_a_start_error_that_names_the_flag() -> None:
    address, close = start_metrics_server("127.0.0.1:0", CollectorRegistry())
    with pytest.raises(StartError, match=f"{address}: address already in use; .*--metrics-listen"):
        start_metrics_server(address, CollectorRegistry())
    close()


def test_streams_that_are_open_are_counted_and_those_that_ended() -> None:
    registry = CollectorRegistry()
    metrics = RpcMetrics(registry)
    metrics.expect_stream("s/W")
    assert registry.get_sample_value("errata_rpc_open_streams", {"method": "s/W"}) == 0
    metrics.stream_opened("s/W")
    metrics.stream_opened("s/W")
    metrics.stream_ended("s/W", "CANCELLED")
    assert registry.get_sample_value("errata_rpc_open_streams", {"method": "s/W"}) == 1
    assert registry.get_sample_value("errata_rpc_total", {"method": "s/W", "code": "CANCELLED"}) == 1


def test_a_method_is_shown_before_its_first_call() -> None:
    registry = CollectorRegistry()
    RpcMetrics(registry).expect_unary("s/M")
    assert registry.get_sample_value("errata_rpc_duration_seconds_count", {"method": "s/M"}) == 0
