"""How many heaps the C library divides its memory into.

glibc gives threads heaps of their own, up to eight for each core, so that they need not wait for each other.
What is freed in one heap is not used for another: with the threads of gRPC that costs 5 KiB for each open
stream.
"""

import ctypes
from typing import Final

HEAPS_MAX: Final = 2
"""The threads that allocate much hold the interpreter's lock while they do."""

# From glibc's malloc.h, where it has been since 2.10.
_M_ARENA_MAX: Final = -8


def limit_heaps(count: int = HEAPS_MAX) -> bool:
    """Sees to it that the process uses at most so many heaps; does nothing where the C library is not glibc.

    Call it before there are threads.

    Returns:
        True when the C library agreed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_ARENA_MAX, count))
