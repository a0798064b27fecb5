"""Wakes whoever waits for a change in some directories: at once where the system tells, else after a while.

Only a hint: what changed is found by looking. File systems that tell nothing, such as those of a network,
targets of links, and directories that do not exist yet cost a delay, never a change.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from watchfiles import Change, awatch

from errata.serving.logs import get_logger
from learner_service.analyzer.directories import is_passed_over

_STEP_MS: Final = 5
"""Quiet time that ends a burst of changes."""
_BURST_MS_MAX: Final = 50
"""Longest time that a burst of changes holds back the news of it."""
_RETRY_S: Final = 30.0
"""Between attempts to be told, where the system refuses."""
_CHECK_INTERVAL_S: Final = 0.5
"""Between looks at whether the directories are still the ones that are watched."""
_PATHS_MAX: Final = 1_000
"""Changed files that are told apart; with more of them everything is looked at."""

log = get_logger()


@dataclass(frozen=True, slots=True)
class Changes:
    """What may have changed since somebody looked."""

    paths: frozenset[str] = frozenset()
    everything: bool = False
    """True when it is not known what has changed, or that anything has."""

    def __bool__(self) -> bool:
        """Whether there is anything to look at."""
        return self.everything or bool(self.paths)


EVERYTHING: Final = Changes(everything=True)


class Waker:
    """Watches directories, those below them included, while it is entered."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self._directories = tuple(directories)
        self._changed = asyncio.Event()
        self._restart = asyncio.Event()
        self._closing = False
        self._paths: set[str] = set()
        self._everything = False
        self._next_check_s = 0.0
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
            # Either is enough: a watch that is being told something may take no notice of a cancellation.
            self._closing = True
            self._restart.set()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def wait(self, timeout_s: float) -> Changes:
        """Returns what changed since it was last told, once anything has; after the timeout, everything."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            self._everything = True
        loop = asyncio.get_running_loop()
        if loop.time() >= self._next_check_s:
            self._next_check_s = loop.time() + _CHECK_INTERVAL_S
            if await asyncio.to_thread(self._present) != self._watched:
                self._restart.set()
        return self.take()

    def take(self) -> Changes:
        """What changed since it was last told of, which may be nothing."""
        changes = Changes(frozenset(self._paths), self._everything)
        self._paths.clear()
        self._everything = False
        self._changed.clear()
        return changes

    async def _watch(self) -> None:
        while True:
            self._watched = await asyncio.to_thread(self._present)
            if self._closing:
                return
            self._restart.clear()
            # What happened before the watch began was not told.
            self._tell_everything()
            if not self._watched:
                await self._restart.wait()
                continue
            try:
                async for changes in awatch(
                    *(path for path, _, _ in self._watched),
                    watch_filter=_is_of_a_log,
                    debounce=_BURST_MS_MAX,
                    step=_STEP_MS,
                    stop_event=self._restart,
                    force_polling=False,
                    ignore_permission_denied=True,
                ):
                    self._tell(path for _, path in changes)
            except (OSError, RuntimeError) as error:
                # Out of inotify watches, most often: the timeout of `wait` carries on alone.
                log.warning("log directories cannot be watched, looking at intervals", reason=str(error))
                await asyncio.sleep(_RETRY_S)

    def _tell(self, paths: Iterable[str]) -> None:
        self._paths.update(paths)
        if len(self._paths) > _PATHS_MAX:
            self._tell_everything()
        self._changed.set()

    def _tell_everything(self) -> None:
        self._everything = True
        self._paths.clear()
        self._changed.set()

    def _present(self) -> frozenset[tuple[Path, int, int]]:
        present = set()
        for path in self._directories:
            with contextlib.suppress(OSError):
                status = path.stat()
                if path.is_dir():
                    present.add((path, status.st_dev, status.st_ino))
        return frozenset(present)


def _is_of_a_log(_: Change, path: str) -> bool:
    """False for what is passed over: a store in a followed directory must not wake its own reader."""
    return not is_passed_over(path.rpartition("/")[2])
