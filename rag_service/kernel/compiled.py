"""How the functions of this package are compiled, and where the compiled code is kept.

It is kept in a folder of its own for each version of the package: numba looks at the age of one file only,
and would otherwise go on using a function whose parts have changed. The folder lies in NUMBA_CACHE_DIR, or
beside this file. Where that cannot be written, as on a read-only file system, every process compiles anew.
"""

import hashlib
import tempfile
from collections.abc import Callable
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


def _is_kept() -> bool:
    """Sets the folder; returns False where there is none."""
    sources = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(_HERE.glob("*.py"))))
    parent = Path(_config.CACHE_DIR) if _config.CACHE_DIR else _HERE / "__pycache__"
    folder = parent / f"errata-kernel-{sources.hexdigest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
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
