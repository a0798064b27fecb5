"""The number of heaps: that limiting it has its effect, in processes of their own."""

import subprocess
import sys

import pytest

from learner_service.heaps import HEAPS_MAX

THREADS = """
import ctypes, sys, tempfile, threading
from learner_service.heaps import limit_heaps

if sys.argv[1] == "limited" and not limit_heaps():
    sys.exit("no glibc")
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
all_at_once = threading.Barrier(8)

def allocate():
    # A call through ctypes gives up the interpreter lock: each thread meets the heaps that the others use.
    all_at_once.wait()
    for _ in range(100):
        libc.malloc(ctypes.c_size_t(1_000))
    all_at_once.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
with tempfile.NamedTemporaryFile() as told:
    libc.fopen.restype = ctypes.c_void_p
    file = ctypes.c_void_p(libc.fopen(told.name.encode(), b"w"))
    libc.malloc_info(0, file)
    libc.fclose(file)
    print(told.read().count(b"<heap "))
"""


def heap_count(mode: str) -> int:
    ended = subprocess.run(
        [sys.executable, "-c", THREADS, mode], capture_output=True, text=True, check=False, timeout=60
    )
    if "no glibc" in ended.stderr:
        pytest.skip("the C library is not glibc")
    assert ended.returncode == 0, ended.stderr
    return int(ended.stdout)


def test_a_process_uses_no_more_heaps_than_it_was_limited_to() -> None:
    assert heap_count("limited") <= HEAPS_MAX < heap_count("unlimited")
