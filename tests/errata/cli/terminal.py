"""A real interactive shell on a pseudo-terminal, driven line by line."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

ANSWER_S_MAX: Final = 30.0
# So that the shell has job control.
_TAKE_TERMINAL: Final = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)
_PROMPT: Final = re.compile(rb"<(\d+)>\$ ")


class Terminal:
    """Runs a shell whose prompt is `<N>$ `, N being the exit code of the last line."""

    def __init__(self, command: list[str], environ: Mapping[str, str], folder: Path) -> None:
        self._command = command
        self._folder = folder
        self._environ = dict(environ)
        self._written = b""

    def enter(self, line: str) -> tuple[str, int]:
        """Types a line, waits for the next prompt; returns what was written meanwhile, and the exit code."""
        os.write(self._terminal, line.encode() + b"\n")
        return self.prompted()

    def prompted(self) -> tuple[str, int]:
        """Waits for a prompt; returns what was written before it, and the exit code that it shows."""
        deadline_s = time.monotonic() + ANSWER_S_MAX
        while (found := _PROMPT.search(self._written)) is None:
            left_s = deadline_s - time.monotonic()
            assert left_s > 0, f"no prompt; the shell wrote {self._written!r}"
            if select.select([self._terminal], [], [], min(left_s, 1.0))[0]:
                self._written += os.read(self._terminal, 65_536)
        written = self._written[: found.start()].decode(errors="replace")
        self._written = self._written[found.end() :]
        return written, int(found[1])

    def __enter__(self) -> Self:
        self._terminal, inner = pty.openpty()
        self._shell = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *self._command],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env=self._environ,
            cwd=self._folder,
            start_new_session=True,
        )
        os.close(inner)
        return self

    def __exit__(
        self,
        error_class: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._shell.kill()
        self._shell.wait()
        os.close(self._terminal)
