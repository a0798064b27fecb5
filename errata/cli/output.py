"""Writing a file that others may be reading: it appears whole, or not at all."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click


@contextmanager
def whole_file(path: Path) -> Iterator[Callable[[bytes], None]]:
    """Gives a function that writes to a hidden file, which takes the name `path` at the end.

    Nothing is left behind when the body raises, and what was there before stays. Whoever follows the
    directory passes over hidden files.

    Raises:
        click.ClickException: the file cannot be written.
    """
    with _refusals_named(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    file = os.fdopen(handle, "wb")

    def write(content: bytes) -> None:
        with _refusals_named(path):
            file.write(content)

    try:
        with file:
            yield write
            with _refusals_named(path):
                file.flush()
                # As `open` would have made it; mkstemp keeps others out.
                os.fchmod(handle, 0o666 & ~_umask())
                os.fsync(handle)
        with _refusals_named(path):
            Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def _refusals_named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise click.ClickException(f"--output {path}: cannot be written: {error.strerror}") from error


def _umask() -> int:
    """The mask of the process, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
