"""Channel arguments: how both ends notice a dead link, and how much they buffer.

gRPC ignores an argument whose name it does not know, without a word: a test looks each name up in the
library.
"""

from typing import Final, TypeAlias

ChannelOptions: TypeAlias = list[tuple[str, int]]

MESSAGE_BYTES_MAX: Final = 8 * 1024 * 1024
"""Larger messages are refused by gRPC itself, without a reason. Twice what the contract allows, so that our
own check, which gives one, comes first."""

PING_INTERVAL_S: Final = 10
"""A link without traffic is probed so often."""
PING_TIMEOUT_S: Final = 10
"""A probe without an answer for so long means a dead link: it is noticed after 20 s and a little."""
PING_INTERVAL_S_MIN: Final = 5
"""Peers that probe more often than this are sent away. Half of ours, because timers are not exact."""

CONNECT_TIMEOUT_S: Final = 5
"""gRPC's own 20 s would hold up each attempt over a link that swallows packets."""
RECONNECT_S_FIRST: Final = 0.1
RECONNECT_S_MAX: Final = 2
"""Of the channel alone. Who calls backs off further, with jitter; two long back-offs would only add up."""


def channel_options() -> ChannelOptions:
    """The arguments of a client's channel that holds a stream for days."""
    return [
        *_keepalive(),
        # The default of 2 would end the probing after two pings without data between.
        ("grpc.http2.max_pings_without_data", 0),
        # Room for a batch that comes while the one before it is worked on: with an eighth of it a first sync
        # takes a third longer. Left to itself the window grows until the client buffers 6 MB.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 512 * 1024),
        # In spite of its name this one is the time that an attempt to connect may take.
        ("grpc.min_reconnect_backoff_ms", _ms(CONNECT_TIMEOUT_S)),
        ("grpc.initial_reconnect_backoff_ms", _ms(RECONNECT_S_FIRST)),
        ("grpc.max_reconnect_backoff_ms", _ms(RECONNECT_S_MAX)),
        # A Learner that starts anew elsewhere keeps its name alone. With gRPC's own 30 s between two looks
        # at the name, a RAG service called for as long where nobody is any more.
        ("grpc.dns_min_time_between_resolutions_ms", _ms(RECONNECT_S_MAX)),
        # A new channel is a new connection, without the back-off of the one before.
        ("grpc.use_local_subchannel_pool", 1),
        # Peers stand in one network; a proxy set for the way out of it does not lead to them.
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ]


def server_options() -> ChannelOptions:
    """The arguments of a server."""
    return [
        *_keepalive(),
        ("grpc.http2.min_ping_interval_without_data_ms", _ms(PING_INTERVAL_S_MIN)),
        # On by default: two processes would share a port, and each would get some of the calls.
        ("grpc.so_reuseport", 0),
        # Nobody is sent compressed answers; to be ready for it costs each call memory.
        ("grpc.per_message_compression", 0),
        # Notes about each connection, for a service that is not served: half a KiB for each open stream.
        ("grpc.enable_channelz", 0),
        ("grpc.max_channel_trace_event_memory_per_node", 0),
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ]


def _keepalive() -> ChannelOptions:
    return [
        ("grpc.keepalive_time_ms", _ms(PING_INTERVAL_S)),
        ("grpc.keepalive_timeout_ms", _ms(PING_TIMEOUT_S)),
        # What really ends the link; its default of 60 s makes the line above useless.
        ("grpc.http2.ping_timeout_ms", _ms(PING_TIMEOUT_S)),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def _ms(seconds: float) -> int:
    return round(seconds * 1_000)
