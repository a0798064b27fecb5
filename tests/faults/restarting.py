"""A service that is killed and started again where it was, and what its lives have in common."""

import json
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from scripts.processes import Process, Until, start


class Restarting:
    """A service as one process after another, all at one address; used in an `async with`."""

    def __init__(self, module: str, *flags: str) -> None:
        self._module = module
        self._flags = flags
        self._process: Process | None = None
        self._life = AsyncExitStack()
        self.address = ""
        """HOST:PORT of every life; known from the first."""
        self.errors: list[str] = []
        """The lines that its ended lives logged at level error or above."""
        self.kill_count = 0

    @property
    def process(self) -> Process:
        """The life that it leads now."""
        if self._process is None:
            raise RuntimeError(f"{self._module} is not running")
        return self._process

    async def start(self, until: Until = "serving") -> None:
        """Begins a life at the address of the first."""
        flags = (*self._flags, "--listen", self.address) if self.address else self._flags
        self._process = await self._life.enter_async_context(start(self._module, *flags, until=until))
        if not self.address:
            self.address = self._process.address

    async def kill(self) -> None:
        """Ends the life with SIGKILL."""
        self.process.kill()
        self.kill_count += 1
        await self._end_life()

    async def stop(self) -> int:
        """Ends the life as `docker stop` does; returns the exit code."""
        code = await self.process.terminate_async()
        await self._end_life()
        return code

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        error_class: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self.errors += _errors(self._process.stderr)
        await self._life.__aexit__(error_class, error, traceback)

    async def _end_life(self) -> None:
        self.errors += _errors(self.process.stderr)
        self._process = None
        await self._life.aclose()


def _errors(stderr: str) -> list[str]:
    """The lines that a service should not have to write because its peer died."""
    return [line for line in stderr.splitlines() if _is_error(line)]


def _is_error(line: str) -> bool:
    try:
        return json.loads(line)["level"] in ("error", "critical")
    except ValueError:
        # Not a log line at all: a traceback, or what a library wrote past the log. A line that was being
        # written when the process was killed begins like one.
        return not line.startswith("{")
