"""Addresses as people write them: `HOST:PORT`, with an IPv6 host in brackets.

A port may be 0 where somebody listens: the system chooses one, and the address that was bound is told.
"""

import ipaddress
import re
import socket
from typing import Final, NamedTuple

PORT_MAX: Final = 65_535

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?")


class Address(NamedTuple):
    """A host, by name or by number, and a port."""

    host: str
    """Without brackets."""
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it; false for names other than localhost."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(text: str, *, port_min: int = 0) -> Address:
    """Reads `HOST:PORT`.

    Raises:
        ValueError: it is none; the message says what an address looks like.
    """
    host, colon, port_text = text.rpartition(":")
    if not colon:
        raise ValueError(f"{text!r} has no port; write HOST:PORT, such as 127.0.0.1:7411")
    if not (port_text.isascii() and port_text.isdigit() and port_min <= int(port_text) <= PORT_MAX):
        raise ValueError(f"{port_text!r} is no port; a port is a number from {port_min} to {PORT_MAX}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ValueError(f"{host!r} is no IPv6 address; write it as in [::1]:7411") from None
    elif not host:
        raise ValueError(f"{text!r} has no host; every interface of this machine is 0.0.0.0:{port_text}")
    elif ":" in host:
        raise ValueError(f"an IPv6 host stands in brackets: [{host}]:{port_text}")
    elif not _HOST.fullmatch(host):
        raise ValueError(f"{host!r} is no host; write a name or a number, such as 127.0.0.1:{port_text}")
    return Address(host, int(port_text))


def resolve_for_listening(address: Address) -> Address:
    """The one address, by number, at which to listen for a name; an IPv4 one where there is a choice.

    One, because a server that binds what it can of several would share a port with another without a word.

    Raises:
        OSError: the name is not known.
    """
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return Address(str(found[0][4][0]), address.port)


def why_not_listening(address: Address) -> str | None:
    """Why an address, by number, cannot be listened at, for a message with the way out; None when it can."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address.host, address.port))
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return None
