"""How much memory another process takes.

Counted are private pages, `RssAnon`: pages of the store's file are the kernel's to give and to take back.
"""

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

_SAMPLE_S = 0.02


def private_bytes(pid: int) -> int:
    """Memory of the process that nobody else can use now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"process {pid} has ended")


class Growth:
    """Watches a process from `with` to its end and knows the most that it grew by."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._begin_bytes = 0
        self._peak_bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    @property
    def peak_bytes(self) -> int:
        """The most memory that it held at any sample, beyond what it held at first."""
        return self._peak_bytes - self._begin_bytes

    @property
    def now_bytes(self) -> int:
        """What it holds now, beyond what it held at first."""
        return private_bytes(self._pid) - self._begin_bytes

    def __enter__(self) -> Self:
        self._begin_bytes = self._peak_bytes = private_bytes(self._pid)
        self._thread.start()
        return self

    def __exit__(
        self,
        error_class: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            self._peak_bytes = max(self._peak_bytes, private_bytes(self._pid))
