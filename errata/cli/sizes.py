"""Sizes as people read them."""

from typing import Final

_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB")
_STEP: Final = 1_024


def written_bytes(size_bytes: int) -> str:
    """A size in the unit that fits: `512 bytes`, `1.5 MiB`, `64 GiB`."""
    size = float(size_bytes)
    for unit in _UNITS:
        if size < _STEP or unit == _UNITS[-1]:
            break
        size /= _STEP
    return f"{size:.0f} {unit}" if size == int(size) else f"{size:.1f} {unit}"
