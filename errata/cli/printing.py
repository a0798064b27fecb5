"""What a command prints: text and tables for people, JSON for scripts.

Answers go to standard output, remarks to standard error. Nothing that a service sent reaches a terminal
unescaped, and colours are left out where nobody sees them: not on a terminal, or with NO_COLOR set. To a
terminal, tables are cut to its width; elsewhere rows are never wrapped or cut, so that grep sees them whole.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_UNBOUNDED_COLUMNS: Final = 100_000
_UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab and newline, and those that turn the direction of text."""
_WHITE_SPACE: Final = re.compile(r"\s+")

Wrap = Literal["cut", "fold", "keep"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str
    wrap: Wrap = "keep"
    """What happens where the terminal is too narrow: cells are cut, or folded, or those of others first."""
    right: bool = False
    optional: bool = False
    """Whether it is left out where every cell of it is empty."""


def plain(text: str) -> str:
    """The text with what a terminal would obey written as escapes."""
    return _UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], text)


def on_one_line(text: str) -> str:
    """The text with each run of white space as one space."""
    return plain(_WHITE_SPACE.sub(" ", text.strip()))


def print_json(document: Mapping[str, Any]) -> None:
    """Prints one JSON document, indented."""
    print(json.dumps(document, indent=2, ensure_ascii=False))  # noqa: T201 - this is where printing is done


def print_json_line(document: Mapping[str, Any]) -> None:
    """Prints one line of JSON lines, at once."""
    print(json.dumps(document, ensure_ascii=False), flush=True)  # noqa: T201 - see above


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Prints rows under titles, aligned; cells are put on one line unless their column folds."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    cells = list(rows)
    shown = [
        position
        for position, column in enumerate(columns)
        if not column.optional or any(row[position] for row in cells)
    ]
    for column in (columns[position] for position in shown):
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            # Those that wrap are narrowed first; a cell that is cut says so itself.
            no_wrap=column.wrap == "keep",
            overflow="fold",
        )
    for row in cells:
        table.add_row(*(_cell(columns[position], row[position]) for position in shown))
    _print_without_padding(table)


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Prints names and values, one pair a line, aligned; empty values are left out."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields:
        if value:
            table.add_row(Text(name), Text(plain(value)))
    _print_without_padding(table)


def print_text(text: str = "", style: str = "", *, indent: int = 0) -> None:
    """Prints text, wrapped to the terminal, with each line indented."""
    console = _console()
    lines = (
        Text(plain(text), style=style).wrap(console, max(20, console.width - indent)) if text else [Text()]
    )
    for line in lines:
        line.rstrip()
        console.print(Text(" " * indent).append_text(line), soft_wrap=True)


def print_verbatim(text: str, style: str = "", *, indent: int = 0) -> None:
    """Prints text as it stands, neither wrapped nor cut, for what people copy."""
    console = _console()
    for line in plain(text).split("\n"):
        console.print(Text(" " * indent + line, style=style), soft_wrap=True)


def remark(text: str) -> None:
    """Says something besides the answer, on standard error."""
    console = Console(stderr=True, highlight=False)
    console.print(Text(plain(text), style="yellow"), soft_wrap=not console.is_terminal)


def _cell(column: Column, text: str) -> Text:
    if column.wrap == "fold":
        return Text(plain(text))
    return Text(on_one_line(text), no_wrap=True, overflow="ellipsis")


def _print_without_padding(table: Table) -> None:
    console = _console()
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())  # noqa: T201 - see above


class _Console(Console):
    """One that leaves it to the command line what happens when nobody reads on."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def _console() -> Console:
    console = _Console(highlight=False, emoji=False)
    if not console.is_terminal:
        # Whatever COLUMNS says: it is of the terminal that this is not written to.
        console.width = _UNBOUNDED_COLUMNS
    return console
