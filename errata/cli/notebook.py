"""Markdown as a document of blocks: paragraphs of prose and fenced code, and the block at a line.

Fences are those of CommonMark, also indented, as in lists; a fence that is never closed reaches to the end.
YAML between `---` lines at the top is passed over.
"""

import re
from dataclasses import dataclass
from typing import Final

from errata.v1.block_pb2 import BLOCK_KIND_CODE, BLOCK_KIND_MARKUP, Block, Doc

_OPENING: Final = re.compile(r"^(\s*)(`{3,}|~{3,})\s*([^\s`{]*)[^`]*$")


@dataclass(frozen=True, slots=True)
class Notebook:
    """A document and where its blocks stand in the text."""

    doc: Doc
    first_lines: tuple[int, ...]
    """The line at which each block begins, from 1."""

    def index_at(self, line_number: int) -> int | None:
        """The block at a line, else the last before it, else the first; None where there are no blocks."""
        if not self.first_lines:
            return None
        before = [index for index, first in enumerate(self.first_lines) if first <= line_number]
        return before[-1] if before else 0


def read_notebook(text: str) -> Notebook:
    """The blocks of a Markdown text."""
    lines = text.splitlines()
    doc = Doc()
    first_lines: list[int] = []

    def add(block: Block, first: int) -> None:
        doc.blocks.append(block)
        first_lines.append(first + 1)

    at = _after_front_matter(lines)
    while at < len(lines):
        opening = _OPENING.match(lines[at])
        if opening is not None:
            end = _closing(lines, at + 1, opening[2])
            contents = "\n".join(_without_indent(line, len(opening[1])) for line in lines[at + 1 : end])
            add(Block(kind=BLOCK_KIND_CODE, language=opening[3], contents=contents), at)
            at = end + 1
        elif not lines[at].strip():
            at += 1
        else:
            end = at
            while end < len(lines) and lines[end].strip() and not _OPENING.match(lines[end]):
                end += 1
            add(Block(kind=BLOCK_KIND_MARKUP, contents="\n".join(lines[at:end])), at)
            at = end
    return Notebook(doc, tuple(first_lines))


def _after_front_matter(lines: list[str]) -> int:
    if not lines or lines[0].rstrip() != "---":
        return 0
    for at, line in enumerate(lines[1:], start=1):
        if line.rstrip() in ("---", "..."):
            return at + 1
    return 0


def _closing(lines: list[str], at: int, fence: str) -> int:
    """The line that closes a fence, or the end."""
    closing = re.compile(rf"^\s*{re.escape(fence[0])}{{{len(fence)},}}\s*$")
    while at < len(lines) and not closing.match(lines[at]):
        at += 1
    return at


def _without_indent(line: str, count: int) -> str:
    blanks = len(line) - len(line.lstrip())
    return line[min(blanks, count) :]
