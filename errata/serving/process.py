"""From a signal to an exit code: how a service process starts and ends.

    async def main(stop: Stop) -> None: ...          # builds, serves, awaits stop.wait(), drains
    sys.exit(run(main))

    0   it was told to end by SIGTERM or SIGINT, or came to its end
    1   it could not start (one line on stderr says why and what to do), or a bug ended it (a traceback)
    2   a flag or a variable is wrong; see `settings`

The first signal asks. Once the service waits for `stop`, it drains; before that, while it still starts, it is
cancelled and unwinds. A second signal forces. Whatever hangs, the process is gone `EXIT_S_MAX` after the
first.
"""

import asyncio
import contextlib
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeAlias

from errata.serving.early_signals import SIGNALS
from errata.serving.logs import get_logger

EXIT_S_MAX: Final = 10.0
"""From the first signal to the end. Kubernetes allows 30 s, `docker stop` just these 10."""

_EXIT_FAILED: Final = 1
# Shells and supervisors read 128 + n as: ended by signal n.
_EXIT_FORCED_BASE: Final = 128

log = get_logger()


class StartError(Exception):
    """The service cannot start; the message says why and what to do, in one line."""


class Stop:
    """The wish that the process ends. Belongs to one event loop."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._awaited = False

    @property
    def is_set(self) -> bool:
        """Whether the process was asked to end."""
        return self._event.is_set()

    @property
    def is_awaited(self) -> bool:
        """Whether anybody has ever waited: then the service is up and ends itself."""
        return self._awaited

    def set(self) -> None:
        """Asks the process to end."""
        self._event.set()

    async def wait(self) -> None:
        """Returns when the process is to end."""
        self._awaited = True
        await self._event.wait()


Main: TypeAlias = Callable[[Stop], Coroutine[Any, Any, None]]


def run(main: Main, *, exit_s_max: float = EXIT_S_MAX) -> int:
    """Runs a service on an event loop of its own until it ends.

    Args:
        main: the service; returns when it has ended itself after `stop`.
        exit_s_max: the longest time from the first signal to the end of the process.

    Returns:
        The exit code, for `sys.exit`.
    """
    try:
        asyncio.run(_supervise(main, exit_s_max))
    except Exception as error:
        start_error = _start_error_in(error)
        if start_error is None:
            log.exception("the service ended because of a bug")
        else:
            # For people who have just typed a command, whatever form the logs have.
            sys.stderr.write(f"error: {' '.join(str(start_error).split())}\n")
        return _EXIT_FAILED
    return 0


def write_address_file(path: Path | None, address: str) -> None:
    """Writes the address and a newline; a reader sees all of it or no file. Does nothing without a path.

    Raises:
        StartError: the file cannot be written.
    """
    if path is None:
        return
    # In the directory of the file, because a rename is atomic only within a file system.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(f"{address}\n")
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        reason = (error.strerror or str(error)).lower()
        raise StartError(
            f"cannot write --address-file {path}: {reason}; name a file in a directory that is there"
        ) from None


async def _supervise(main: Main, exit_s_max: float) -> None:
    loop = asyncio.get_running_loop()
    stop = Stop()
    service = asyncio.ensure_future(main(stop))

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set:
            log.warning("asked to end a second time, ending at once", signal=number.name)
            os._exit(_EXIT_FORCED_BASE + number)
        log.info("asked to end", signal=number.name)
        stop.set()
        _end_process_after(exit_s_max)
        if not stop.is_awaited:
            service.cancel()

    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        await service
    except asyncio.CancelledError:
        if not stop.is_set:
            raise
    # Handlers stay in place: asyncio.run still has threads and tasks to end, and a second signal must not
    # turn that into a traceback.


def _end_process_after(seconds: float) -> None:
    """Ends the process for good, from a thread: the event loop may be what hangs."""

    def end() -> None:
        log.error("still here after the time to end, ending at once", seconds=seconds)
        faulthandler.dump_traceback(file=sys.__stderr__ or sys.stderr)
        os._exit(_EXIT_FAILED)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def _start_error_in(error: BaseException) -> StartError | None:
    """The StartError that an error is, or that a task group wrapped."""
    if isinstance(error, StartError):
        return error
    if isinstance(error, BaseExceptionGroup):
        found = [_start_error_in(inner) for inner in error.exceptions]
        return found[0] if all(found) else None
    return None
