"""How a client's channels behave: how they notice a dead link, connect again, and bound what they receive."""

import re
from typing import Final, TypeAlias

ChannelOptions: TypeAlias = list[tuple[str, int]]

MESSAGE_BYTES_MAX: Final = 8 * 1024 * 1024
"""Larger ones are refused. Twice what the contract allows, so that the check of the service, which gives a
reason, comes first."""

_PING_MS: Final = 10_000
_CONNECT_MS: Final = 5_000
_RECONNECT_MS_FIRST: Final = 100
_RECONNECT_MS_MAX: Final = 2_000

_PLAIN: Final = re.compile(r"(\[[^\]]+\]|[^:/]+):[0-9]+")


def channel_options() -> ChannelOptions:
    """The arguments of a channel."""
    return [
        # While calls are open a silent link is probed, and is given up after 20 s.
        ("grpc.keepalive_time_ms", _PING_MS),
        ("grpc.keepalive_timeout_ms", _PING_MS),
        # What really ends the link; its default of 60 s makes the line above useless.
        ("grpc.http2.ping_timeout_ms", _PING_MS),
        # The default of 2 would end the probing of a quiet stream.
        ("grpc.http2.max_pings_without_data", 0),
        # In spite of its name this one is the time that an attempt to connect may take.
        ("grpc.min_reconnect_backoff_ms", _CONNECT_MS),
        # Short, because who calls backs off as well.
        ("grpc.initial_reconnect_backoff_ms", _RECONNECT_MS_FIRST),
        ("grpc.max_reconnect_backoff_ms", _RECONNECT_MS_MAX),
        # The services stand in one network with their clients, where a proxy for the way out does not lead.
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ]


def check_address(name: str, address: str) -> None:
    """Passes `HOST:PORT`, and what gRPC knows besides, such as `unix:/path` and `dns:///host:port`.

    Raises:
        ValueError: it is neither; names the parameter.
    """
    if address.startswith(("http://", "https://")):
        raise ValueError(
            f"{name}: an address is HOST:PORT, without {address.partition('/')[0]}//, got {address!r}"
        )
    if not _PLAIN.fullmatch(address) and not address.startswith(
        ("unix:", "dns:", "ipv4:", "ipv6:", "vsock:")
    ):
        raise ValueError(f"{name}: an address is HOST:PORT, such as 127.0.0.1:7411, got {address!r}")
