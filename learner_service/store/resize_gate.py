"""Lets readers of a memory map in together, and a resize of the map only when none is inside.

A resize invalidates every open read transaction of the process, silently.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class ResizeGate:
    """See the module. Readers that come while a resize waits or runs wait for its end."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._reader_count = 0
        self._resizing = False

    @contextmanager
    def reader(self) -> Iterator[None]:
        """Holds back a resize for the block."""
        with self._condition:
            self._condition.wait_for(lambda: not self._resizing)
            self._reader_count += 1
        try:
            yield
        finally:
            with self._condition:
                self._reader_count -= 1
                if self._reader_count == 0:
                    self._condition.notify_all()

    @contextmanager
    def resizer(self) -> Iterator[None]:
        """Runs the block when no reader is inside, and lets none in."""
        with self._condition:
            self._resizing = True
            self._condition.wait_for(lambda: self._reader_count == 0)
        try:
            yield
        finally:
            with self._condition:
                self._resizing = False
                self._condition.notify_all()
