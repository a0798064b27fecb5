"""Ends a process cleanly that is told to end before it has begun.

Imports next to nothing: it comes first in `__main__`, before the imports that take a second, in which a
supervisor may change its mind.
"""

import os
import signal
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
"""What asks a service to end."""


def exit_on_signals() -> None:
    """From here on, and until `process.run` takes over, SIGTERM and SIGINT end the process at once with 0.

    Nothing is open yet, so there is nothing to unwind.
    """
    for number in SIGNALS:
        signal.signal(number, _exit_at_once)


def _exit_at_once(_: int, __: FrameType | None) -> None:
    os._exit(0)
