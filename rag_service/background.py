"""A thread that does what need not be done at once, in steps, so that it can be ended between any two."""

import queue
import threading
from collections import deque
from collections.abc import Iterator
from typing import Protocol

from errata.serving.logs import get_logger

_log = get_logger()


class Background(Protocol):
    """Runs jobs beside everything else."""

    def run(self, job: Iterator[None]) -> None:
        """Takes in a job, which is done when it is exhausted, and may be given up between two steps."""
        ...


class BackgroundThread:
    """Runs jobs, a step of each in turn, until it is closed; then what is left of them is given up."""

    def __init__(self) -> None:
        """Does nothing before `start`; jobs wait until then."""
        self._new_jobs: queue.SimpleQueue[Iterator[None] | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="background")

    def start(self) -> None:
        """Begins to run jobs."""
        self._thread.start()

    def run(self, job: Iterator[None]) -> None:
        """Takes in a job. For any thread."""
        self._new_jobs.put(job)

    def close(self) -> None:
        """Returns when no job runs any more."""
        self._closed.set()
        self._new_jobs.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        jobs: deque[Iterator[None]] = deque()
        while not self._closed.is_set():
            self._take_in(jobs)
            if jobs and _step(jobs[0]):
                jobs.rotate(-1)
            elif jobs:
                jobs.popleft()

    def _take_in(self, jobs: deque[Iterator[None]]) -> None:
        """Takes in the jobs that have come; waits for one where there is nothing to do."""
        while not jobs or not self._new_jobs.empty():
            job = self._new_jobs.get()
            if job is None:
                return
            jobs.append(job)


def _step(job: Iterator[None]) -> bool:
    """Does one step of a job; returns False when it has none left."""
    try:
        return next(job, False) is None
    except Exception:  # noqa: BLE001 - the other jobs have a right to be run
        _log.exception("a job in the background failed because of a bug")
        return False
