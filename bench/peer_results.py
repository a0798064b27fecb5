"""What `bench.search_peers` keeps: a JSON file a size, and one table and one plot of all of them.

search_peers_{rows}x{dimension}.json    the last run of that size
search_peers.md                         tables of all sizes
search_peers.svg                        real data of 384 dimensions, time by rows; needs matplotlib
"""

import dataclasses
import importlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report import progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One system on one kind of data."""

    data: str
    peer: str
    missing: str = ""
    """Why it could not be measured; empty when it was."""
    median_ms: float = 0.0
    p95_ms: float = 0.0
    recall: float = 0.0
    build_s: float = 0.0
    memory: str = ""
    """What it holds, where that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run measured at one size."""

    machine: str
    row_count: int
    dimension: int
    limit: int
    query_count: int
    measured: Sequence[Measured]


def write(folder: Path, run: Run) -> None:
    """Keeps a run, and makes the table and the plot anew from all that are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"search_peers_{run.row_count}x{run.dimension}.json"
    path.write_text(json.dumps(dataclasses.asdict(run), indent=1) + "\n")
    runs = sorted(_kept(folder), key=lambda kept: (kept.dimension, kept.row_count))
    (folder / "search_peers.md").write_text("\n".join(_markdown(runs)) + "\n")
    _plot(folder / "search_peers.svg", runs)


def _kept(folder: Path) -> Iterator[Run]:
    for path in folder.glob("search_peers_*.json"):
        stored = json.loads(path.read_text())
        yield Run(**{**stored, "measured": [Measured(**each) for each in stored["measured"]]})


def _markdown(runs: Sequence[Run]) -> Iterator[str]:
    yield "# Our search and that of others"
    yield ""
    yield "Made by `python -m bench.search_peers`, which says what is compared and how. Medians, one question"
    yield "at a time; `×` is the time against numpy float32 on the same data in the same run."
    for run in runs:
        yield ""
        yield f"## {run.row_count:,} × {run.dimension}, the {run.limit} nearest"
        yield ""
        yield f"{run.query_count} queries; {run.machine}"
        for data in dict.fromkeys(each.data for each in run.measured):
            yield from _table(data, [each for each in run.measured if each.data == data])


def _table(data: str, measured: Sequence[Measured]) -> Iterator[str]:
    numpy_ms = next((each.median_ms for each in measured if each.peer == "numpy float32"), 0.0)
    yield ""
    yield f"| {data} | median ms | × | p95 ms | recall | ready after s |"
    yield "|---|---:|---:|---:|---:|---:|"
    for each in sorted(measured, key=lambda one: (bool(one.missing), one.median_ms)):
        if each.missing:
            yield f"| {each.peer} | missing: {each.missing} | | | | |"
            continue
        share = f"{each.median_ms / numpy_ms:.2f}" if numpy_ms else ""
        name = f"**{each.peer}**" if each.peer.startswith("Errata") else each.peer
        yield (
            f"| {name} | {each.median_ms:.3f} | {share} | {each.p95_ms:.3f} | {each.recall:.3f} "
            f"| {each.build_s:.1f} |"
        )
    for each in measured:
        if each.memory:
            yield ""
            yield f"{each.peer}: {each.memory}."


def _plot(path: Path, runs: Sequence[Run]) -> None:
    try:
        matplotlib: Any = importlib.import_module("matplotlib")
        matplotlib.use("svg")
        pyplot: Any = importlib.import_module("matplotlib.pyplot")
    except ImportError:
        progress("no plot: matplotlib is not installed")
        return
    # The same bytes for the same figures.
    matplotlib.rcParams["svg.hashsalt"] = "errata"
    lines: dict[str, list[tuple[int, float]]] = {}
    for run in runs:
        for each in run.measured:
            if run.dimension == 384 and each.data == "real" and not each.missing:
                lines.setdefault(_without_tuning(each.peer), []).append((run.row_count, each.median_ms))
    figure, axes = pyplot.subplots(figsize=(8, 5))
    for name, points in sorted(lines.items(), key=lambda item: -item[1][-1][1]):
        ours = name.startswith("Errata")
        axes.plot(
            *zip(*points, strict=True), marker="o", label=name, linewidth=3 if ours else 1.2, zorder=2 + ours
        )
    axes.set(xscale="log", yscale="log", xlabel="examples × 384", ylabel="median of one search, ms")
    axes.set_title("Real embeddings, one question at a time")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)


def _without_tuning(name: str) -> str:
    return re.sub(r", ef \d+$", "", name)
