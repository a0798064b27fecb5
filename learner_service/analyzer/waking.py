"""Wakes whoever waits for a change in some directories: at once where the system tells, else after a while.

Only a hint: what changed is found by looking. File systems that tell nothing, such as those of a network, and
directories that do not exist yet cost a delay, never a change.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from watchfiles import awatch

from errata.serving.logs import get_logger

_STEP_MS: Final = 10
"""Quiet time that ends a burst of changes."""
_BURST_MS_MAX: Final = 100
"""Longest time that a burst of changes holds back the news of it."""
_RETRY_S: Final = 30.0
"""Between attempts to be told, where the system refuses."""

log = get_logger()


class Waker:
    """Watches directories, those below them included, while it is entered."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self._directories = tuple(directories)
        self._changed = asyncio.Event()
        self._restart = asyncio.Event()
        # Which directories are watched, by device and inode: one that was deleted and made anew is another.
        self._watched: frozenset[tuple[Path, int, int]] = frozenset()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch(), name="log-directory-watch")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if task is not None:
            self._restart.set()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def wait(self, timeout_s: float) -> None:
        """Returns when something changed since the last call returned, or after the timeout."""
        if await asyncio.to_thread(self._present) != self._watched:
            self._restart.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        self._changed.clear()

    async def _watch(self) -> None:
        while True:
            self._watched = await asyncio.to_thread(self._present)
            self._restart.clear()
            # What happened before the watch began was not told.
            self._changed.set()
            if not self._watched:
                await self._restart.wait()
                continue
            try:
                async for _ in awatch(
                    *(path for path, _, _ in self._watched),
                    watch_filter=None,
                    debounce=_BURST_MS_MAX,
                    step=_STEP_MS,
                    stop_event=self._restart,
                    force_polling=False,
                    ignore_permission_denied=True,
                ):
                    self._changed.set()
            except (OSError, RuntimeError) as error:
                # Out of inotify watches, most often: the timeout of `wait` carries on alone.
                log.warning("log directories cannot be watched, looking at intervals", reason=str(error))
                await asyncio.sleep(_RETRY_S)

    def _present(self) -> frozenset[tuple[Path, int, int]]:
        present = set()
        for path in self._directories:
            with contextlib.suppress(OSError):
                status = path.stat()
                if path.is_dir():
                    present.add((path, status.st_dev, status.st_ino))
        return frozenset(present)
