"""Starts and ends `bench.serving_server`."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def serving(kind: str, vectors: Path | None = None, *, answer: bytes = b"") -> Iterator[tuple[str, int]]:
    """A server that runs; gives its address and the ID of its process.

    Args:
        kind: `aio` or `sync`.
        vectors: what it searches; an echo has none.
        answer: what an echo says.
    """
    flags = [] if vectors is None else ["--vectors", str(vectors.resolve())]
    process = subprocess.Popen(  # noqa: S603 - this program itself
        [sys.executable, "-m", "bench.serving_server", "--kind", kind, *flags],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        try:
            if process.stdin is None or process.stdout is None:
                raise RuntimeError("the server has no pipes")
            process.stdin.write(answer)
            process.stdin.close()
            address = process.stdout.readline().decode().strip()
            if not address:
                raise RuntimeError("the server did not come up; it says above why")
            yield address, process.pid
        finally:
            process.terminate()
