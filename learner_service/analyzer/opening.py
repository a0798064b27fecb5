"""Opens log files: for reading, and never anything else that may stand at the path by now."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from learner_service.analyzer.identity import HEAD_BYTES_MAX


@contextmanager
def opened(path: str) -> Iterator[int]:
    """A descriptor of the regular file at a path, for the `with` block.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    # A pipe that nobody writes to would block; a file does not know the flag.
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        yield handle
    finally:
        os.close(handle)


def read_head(handle: int) -> bytes:
    """What a file is recognised by: its first bytes, at most `HEAD_BYTES_MAX`.

    Zeros that they end in are left out, as a program may be going to write into them.
    """
    head = os.pread(handle, HEAD_BYTES_MAX, 0)
    return head.rstrip(b"\0") or head
