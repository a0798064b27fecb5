"""Rows of a table of questions: what was asked, what an assistant proposed, and what was run instead.

As JSON lines, one object a line, or as tab-separated text, whose first line may name the columns.
Tab-separated text has no quotes and no escapes, since commands are full of both; what has tabs or newlines in
it needs JSON.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Literal

Format = Literal["jsonl", "tsv"]

COLUMNS: Final = ("question", "generated", "executed", "id")
_REQUIRED: Final = COLUMNS[:3]


@dataclass(frozen=True, slots=True)
class Row:
    """One question and what became of it."""

    question: str
    generated: str
    """What the assistant proposed."""
    executed: str
    """What a person ran."""
    id: str
    """Given, or a hash of the rest."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A line that is no row."""

    problem: str
    """What is wrong, and what would be right."""


@dataclass(frozen=True, slots=True)
class NumberedRow:
    """What a line holds."""

    line_number: int
    """From 1."""
    row: Row | BadRow


def read_rows(lines: Iterable[bytes], form: Format | None) -> Iterator[NumberedRow]:
    """Reads rows, one a line. Blank lines are passed over.

    Args:
        lines: with or without their newlines.
        form: how they are written; None tells by the first: an object in JSON begins with a brace.
    """
    columns: tuple[str, ...] | None = None
    for line_number, line in enumerate(lines, start=1):
        try:
            text = line.decode("utf-8-sig" if line_number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            yield NumberedRow(line_number, BadRow("not valid UTF-8"))
            continue
        if not text.strip():
            continue
        form = form or ("jsonl" if text.lstrip().startswith("{") else "tsv")
        if form == "jsonl":
            yield NumberedRow(line_number, _from_json(text))
        elif columns is None:
            columns = _header(text)
            if columns is None:
                columns = COLUMNS
                yield NumberedRow(line_number, _from_tsv(text, columns))
        else:
            yield NumberedRow(line_number, _from_tsv(text, columns))


def _header(text: str) -> tuple[str, ...] | None:
    """The columns that a line names; None when it is a row."""
    names = tuple(cell.strip().lower() for cell in text.split("\t"))
    return names if set(_REQUIRED) <= set(names) else None


def _from_json(text: str) -> Row | BadRow:
    try:
        members = json.loads(text)
    except (ValueError, RecursionError) as error:
        # The message of a JSON error names a position and quotes nothing.
        return BadRow(f"not valid JSON: {error}")
    if not isinstance(members, dict):
        return BadRow(f"not a JSON object with the keys {', '.join(_REQUIRED)}")
    return _row(members)


def _from_tsv(text: str, columns: tuple[str, ...]) -> Row | BadRow:
    cells = text.split("\t")
    if len(cells) > len(columns):
        return BadRow(
            f"{len(cells)} cells for {len(columns)} columns; cells cannot hold tabs, use JSON lines"
        )
    return _row(dict(zip(columns, cells, strict=False)))


def _row(members: Mapping[str, object]) -> Row | BadRow:
    values = {}
    for name in COLUMNS:
        value = members.get(name)
        if value is None:
            value = ""
        if not isinstance(value, str):
            return BadRow(f"{name} is not a string")
        try:
            value.encode()
        except UnicodeEncodeError:
            return BadRow(f"{name} holds half of a surrogate pair, which is not text")
        if name in _REQUIRED and not value.strip():
            return BadRow(f"{name} is missing or blank; every row needs {', '.join(_REQUIRED)}")
        values[name] = value
    values["id"] = values["id"].strip() or _hashed(values)
    return Row(**values)


def _hashed(values: Mapping[str, str]) -> str:
    """An ID that is the same whenever the row is."""
    joined = "\0".join(values[name] for name in _REQUIRED)
    return f"row-{blake2b(joined.encode(), digest_size=12).hexdigest()}"
