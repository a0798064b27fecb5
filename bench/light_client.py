"""One unary gRPC call again and again, so many at once, at a tenth of the cost of a gRPC client.

On a machine of two cores a gRPC client in Python takes as much of it as the server does, and hides what the
server can do. This one sends the same bytes in each call over one connection of plain HTTP/2 (RFC 9113), and
of each answer looks at no more than its length and its end.
"""

import select
import socket
import struct
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, NamedTuple, Self

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_PREFIX_BYTES: Final = 5
"""Before each message: whether it is compressed, and its length."""
_FRAME_HEADER: Final = struct.Struct(">BHBBI")
_WINDOW_BYTES_FIRST: Final = 65_535
_WINDOW_BYTES_MAX: Final = 2**31 - 1
_INITIAL_WINDOW_SETTING: Final = 4
_READ_BYTES: Final = 256 * 1024
_SECONDS_MAX: Final = 60.0
"""Without a byte from the server for so long, there is no use in waiting on."""


class CallFailedError(Exception):
    """A call ended without an answer."""


class _Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes

    def ends_call(self) -> bool:
        """Whether nothing more comes of its call.

        Raises:
            CallFailedError: it was cut off.
        """
        if self.kind == _RST_STREAM:
            raise CallFailedError("the server cut a call off")
        return self.kind in {_DATA, _HEADERS} and bool(self.flags & _END_STREAM)


class Ended(NamedTuple):
    """A call that had its answer; times by `time.perf_counter`."""

    begin_s: float
    end_s: float


class LightClient:
    """One connection to a server, for one thread. Use it in a `with`.

    It answers the server's pings only while calls are open: use it at once, and again within some seconds.
    """

    def __init__(self, address: str, method: str) -> None:
        """Connects.

        Args:
            address: HOST:PORT.
            method: such as `/errata.v1.RagService/Search`.
        """
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=_SECONDS_MAX)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        settings = struct.pack(">HI", _INITIAL_WINDOW_SETTING, _WINDOW_BYTES_MAX)
        # As much as can be allowed once: a run of some seconds receives less.
        window = struct.pack(">I", _WINDOW_BYTES_MAX - _WINDOW_BYTES_FIRST)
        self._socket.sendall(
            _PREFACE + _frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW_UPDATE, 0, 0, window)
        )
        self._window_bytes = _WINDOW_BYTES_FIRST
        fields = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", method.encode()),
            (b":authority", address.encode()),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            (b"user-agent", b"errata-bench"),
        ]
        # The first call puts them into the server's table, the others name their places there (RFC 7541).
        self._headers = b"".join(
            b"\x40" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in fields
        )
        self._headers_again = bytes(0x80 | 62 + place for place in reversed(range(len(fields))))
        self._next_stream = 1
        self._unread = b""
        # Streams of which some of the answer has come.
        self._answered: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_class: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()

    def one(self, request: bytes) -> bytes:
        """The answer to one call.

        Raises:
            CallFailedError: it had none.
        """
        stream = self._send(struct.pack(">BI", 0, len(request)) + request)
        answer = b""
        while True:
            for frame in self._received():
                if frame.stream == stream and frame.kind == _DATA:
                    answer += frame.payload
                if frame.stream == stream and frame.ends_call():
                    if not answer:
                        raise CallFailedError("the server answered with an error")
                    return answer[_PREFIX_BYTES:]

    def run(self, requests: Sequence[bytes], *, in_flight: int, seconds: float) -> list[Ended]:
        """Keeps so many calls open for so long, and waits for the last of them.

        Args:
            requests: encoded messages of less than 16 KiB, sent in turn.
            in_flight: calls that are open at once.
            seconds: how long new ones are begun.

        Raises:
            CallFailedError: a call had no answer.
        """
        begun_s: dict[int, float] = {}
        ended: list[Ended] = []
        messages = [struct.pack(">BI", 0, len(request)) + request for request in requests]
        end_s = time.perf_counter() + seconds
        sent_count = 0
        while True:
            while len(begun_s) < in_flight and time.perf_counter() < end_s:
                message = messages[sent_count % len(messages)]
                if len(message) > self._window_bytes:
                    break
                sent_count += 1
                begin_s = time.perf_counter()
                begun_s[self._send(message)] = begin_s
            if not begun_s:
                return ended
            ended += self._ended(begun_s)

    def run_paced(self, requests: Sequence[bytes], *, per_s: float, seconds: float) -> list[Ended]:
        """Begins calls at a steady rate, however long the answers take, and waits for the last of them.

        Args:
            requests: as for `run`.
            per_s: calls begun a second.
            seconds: how long new ones are begun.

        Returns:
            The calls; each began when it was due, which includes what it then waited to be sent.

        Raises:
            CallFailedError: a call had no answer.
        """
        messages = [struct.pack(">BI", 0, len(request)) + request for request in requests]
        due_s: dict[int, float] = {}
        ended: list[Ended] = []
        begin_s = time.perf_counter()
        count = int(per_s * seconds)
        sent_count = 0
        while sent_count < count or due_s:
            next_s = begin_s + sent_count / per_s
            left_s = next_s - time.perf_counter()
            if sent_count < count and left_s <= 0:
                message = messages[sent_count % len(messages)]
                if len(message) <= self._window_bytes:
                    sent_count += 1
                    due_s[self._send(message)] = next_s
                    continue
                left_s = _SECONDS_MAX
            wait_s = left_s if sent_count < count else _SECONDS_MAX
            if not select.select([self._socket], [], [], wait_s)[0]:
                continue
            ended += self._ended(due_s)
        return ended

    def _send(self, message: bytes) -> int:
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        headers = _frame(_HEADERS, _END_HEADERS, stream, self._headers)
        self._headers = self._headers_again
        self._socket.sendall(headers + _frame(_DATA, _END_STREAM, stream, message))
        self._window_bytes -= len(message)
        return stream

    def _ended(self, begun_s: dict[int, float]) -> list[Ended]:
        """Waits for more to come; takes the calls out that end by it."""
        ended = []
        for frame in self._received():
            if frame.kind == _DATA:
                self._answered.add(frame.stream)
            if frame.ends_call():
                # An answer comes before the trailers; an error is trailers alone.
                if frame.stream not in self._answered:
                    raise CallFailedError("the server answered with an error")
                self._answered.remove(frame.stream)
                ended.append(Ended(begun_s.pop(frame.stream), time.perf_counter()))
        return ended

    def _received(self) -> list[_Frame]:
        """The frames that have come, at least part of one; what concerns the connection is done."""
        received = self._socket.recv(_READ_BYTES)
        if not received:
            raise CallFailedError("the server closed the connection")
        unread = self._unread + received
        start = 0
        frames = []
        while len(unread) - start >= _FRAME_HEADER.size:
            high, low, kind, flags, stream = _FRAME_HEADER.unpack_from(unread, start)
            size = high << 16 | low
            end = start + _FRAME_HEADER.size + size
            if end > len(unread):
                break
            frame = _Frame(kind, flags, stream, unread[end - size : end])
            if stream == 0:
                self._care_for_connection(frame)
            frames.append(frame)
            start = end
        self._unread = unread[start:]
        return frames

    def _care_for_connection(self, frame: _Frame) -> None:
        kind, is_ack = frame.kind, frame.flags & _ACK
        if kind == _WINDOW_UPDATE:
            self._window_bytes += int(struct.unpack(">I", frame.payload)[0])
        elif kind == _SETTINGS and not is_ack:
            self._socket.sendall(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not is_ack:
            self._socket.sendall(_frame(_PING, _ACK, 0, frame.payload))
        elif kind == _GOAWAY:
            raise CallFailedError("the server ends the connection")


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    size = len(payload)
    return _FRAME_HEADER.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + payload
