"""How the functions of this package are compiled, and where the compiled code is kept.

It is kept in a folder of its own for each version of the package: numba looks at the age of one file only,
and would otherwise go on using a function whose parts have changed. The folder lies in NUMBA_CACHE_DIR, or
beside this file where that cannot be written. Where neither can, as on a read-only file system, numba would
refuse to keep anything when it is imported: then every process compiles anew.
"""

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import numba

# Typed more loosely than numba types it: one of the options has no type there.
_njit: Final[Any] = numba.njit
_config: Final[Any] = numba.config
Function = TypeVar("Function", bound=Callable[..., Any])

_HERE: Final = Path(__file__).parent
# `_nrt`: nothing here makes an array, so none is counted; counting would take longer than all the rest.
_OPTIONS: Final[dict[str, Any]] = {"nogil": True, "boundscheck": False, "error_model": "numpy", "_nrt": False}


def writable_folder(parents: Iterable[Path], name: str) -> Path | None:
    """Makes a folder of this name in the first of some folders that can be written; None where none can."""
    for parent in parents:
        with contextlib.suppress(OSError):
            folder = parent / name
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
    return None


def _is_kept() -> bool:
    """Tells numba the folder; returns False where there is none."""
    sources = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(_HERE.glob("*.py"))))
    parents = [Path(_config.CACHE_DIR)] if _config.CACHE_DIR else []
    parents.append(_HERE / "__pycache__")
    folder = writable_folder(parents, f"errata-kernel-{sources.hexdigest()[:16]}")
    if folder is None:
        return False
    _config.CACHE_DIR = str(folder)
    return True


_KEPT: Final = _is_kept()


def entry(function: Function) -> Function:
    """What Python calls: compiled when it is called first, or loaded."""
    return cast("Function", _njit(cache=_KEPT, **_OPTIONS)(function))


def exactly(function: Function) -> Function:
    """A part of an entry, computed as it is written."""
    return cast("Function", _njit(**_OPTIONS)(function))


def in_any_order(function: Function) -> Function:
    """A part of an entry whose sums may be taken in any order; all numbers are finite."""
    return cast("Function", _njit(fastmath=True, **_OPTIONS)(function))
