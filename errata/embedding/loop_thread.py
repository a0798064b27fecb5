"""An event loop on a thread of its own, for code that is called from threads but must wait with time-outs.

Any number of threads may call at once. Closing cancels what is under way, so that nobody who ends a process
waits for somebody else's server.
"""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from typing import Any, Self, TypeVar

T = TypeVar("T")


class LoopClosedError(Exception):
    """The loop was closed before the call had ended."""


class LoopThread:
    """See the module. `start` it, then `close` it."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        # Guards `_closed`: a call is either on the loop before its end is, or refused.
        self._lock = threading.Lock()
        self._closed = False

    def start(self) -> Self:
        """Starts the thread."""
        self._thread.start()
        return self

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine to its end and returns what it returned. Not for use on the loop itself.

        Raises:
            LoopClosedError: the loop is closed, or was before the end.
        """
        with self._lock:
            if self._closed:
                call.close()
                raise LoopClosedError
            future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise LoopClosedError from None

    def close(self, last: Coroutine[Any, Any, object]) -> None:
        """Cancels what is under way, runs a last coroutine and ends the thread; does nothing a second time.

        Args:
            last: frees what belongs to the loop.
        """
        with self._lock:
            if self._closed:
                last.close()
                return
            self._closed = True
        asyncio.run_coroutine_threadsafe(_end(last), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _end(last: Coroutine[Any, Any, object]) -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await last
