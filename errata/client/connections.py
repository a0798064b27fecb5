"""What both clients hold: addresses, channels that are opened when they are first used, and settings."""

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import grpc

from errata.client.channels import check_address
from errata.client.errors import CallError, ClosedError, Failure, ForkedError, NotConfiguredError, call_error
from errata.client.steps import Method, Service

Channel = TypeVar("Channel")


class Connections(Generic[Channel]):
    """The channels of a client, opened at first use. Safe to use from many threads.

    A channel that was passed in stays its owner's to close.
    """

    def __init__(
        self, targets: Mapping[Service, str | Channel | None], open_channel: Callable[[str], Channel]
    ) -> None:
        """Opens nothing yet.

        Args:
            targets: for each service its address, a channel to it, or None where it is not used.
            open_channel: opens a channel to an address.

        Raises:
            ValueError: an address is none.
        """
        for service, target in targets.items():
            if isinstance(target, str):
                check_address(service.value, target)
        self._targets = targets
        self._open_channel = open_channel
        # Guards what is below; held for no longer than it takes to make an object.
        self._lock = threading.Lock()
        self.until_closed = threading.Event()
        """Set once `closed` was called."""
        self._channels: dict[Service, Channel] = {}
        self._stubs: dict[tuple[Service, Callable[[Any], Any]], Any] = {}
        self._opener_pid: int | None = None

    def callable_of(self, method: Method[Any, Any]) -> Any:
        """What calls a method.

        Raises:
            NotConfiguredError: the client has no address of its service.
            ClosedError: the client is closed.
            ForkedError: another process, of which this one is a copy, has used the client.
        """
        key = (method.service, method.stub_class)
        with self._lock:
            if self.until_closed.is_set():
                raise ClosedError
            if self._opener_pid not in {None, os.getpid()}:
                raise ForkedError
            if key not in self._stubs:
                self._stubs[key] = method.stub_class(self._channel(method.service))
            return getattr(self._stubs[key], method.name)

    def error_of(self, method: Method[Any, Any], error: grpc.RpcError) -> CallError:
        """What a failed call of a method is to the caller of the client."""
        target = self._targets.get(method.service)
        address = target if isinstance(target, str) else ""
        return call_error(Failure.of(error, method=method.name, target=address))

    def closed(self) -> list[Channel]:
        """Ends the use of the channels; returns those that this object opened, for the caller to close."""
        with self._lock:
            self.until_closed.set()
            channels = list(self._channels.values())
            self._channels.clear()
            self._stubs.clear()
            return channels if self._opener_pid == os.getpid() else []

    def _channel(self, service: Service) -> Channel:
        target = self._targets.get(service)
        if target is None:
            raise NotConfiguredError(service.value)
        self._opener_pid = os.getpid()
        if not isinstance(target, str):
            return target
        if service not in self._channels:
            self._channels[service] = self._open_channel(target)
        return self._channels[service]
