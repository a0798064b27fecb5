"""What every benchmark prints alike: the machine, medians with their spread, aligned tables, progress."""

import os
import platform
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

MIB = 1 << 20


def machine_line() -> str:
    """The machine that the figures are of, and how busy it was: a shared one doubles them."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{_processor()}, {os.cpu_count()} cores, Linux {platform.release()}, "
        f"Python {platform.python_version()}, load {load}"
    )


def spread(values: Sequence[float], form: str = ",.0f") -> str:
    """The median of some runs, and from where to where they reach."""
    middle = format(statistics.median(values), form)
    if len(values) == 1:
        return f"{middle} (1 run)"
    return f"{middle} ({format(min(values), form)} to {format(max(values), form)}, {len(values)} runs)"


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent of them do not exceed."""
    ordered = sorted(values)
    place = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(place) - 1)]


def print_table(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints rows below their headers: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in (headers, *rows)) for column in range(len(headers))]
    print(f"\n{title}")
    for row in (headers, *rows):
        first, *others = [(cell, width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip())


def progress(text: str) -> None:
    """Says what is being done, on stderr, so that the figures alone can be kept."""
    sys.stderr.write(f"... {text}\n")
    sys.stderr.flush()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
