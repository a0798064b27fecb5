"""A Markdown document as what is to be run of it: its fenced blocks, and what it shows of their output.

    sh, python, go      run
    text, json          what the block before them prints
    no language         shown to people, and never run

A comment in front of a fence says what its text cannot: `<!-- run: WORD, WORD -->`, see `WORDS`. In expected
output `…` stands for anything within a line, and for any number of lines where it stands alone.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

RUN: Final = frozenset({"sh", "python", "go"})
SHOWN: Final = frozenset({"text", "json"})

WORDS: Final = frozenset(
    {
        "until",  # run again and again until it prints what is shown
        "fails",  # it must fail
        "stop learner",  # the Learner is ended before it runs
        "stop rag",  # the same for the RAG service
        "elsewhere",  # not run: it needs what this machine may not have, and the text says what
    }
)

_FENCE: Final = re.compile(r"^```(\w*)\s*$")
_DIRECTIVE: Final = re.compile(r"^<!-- run: (.*) -->$")


class DocumentError(Exception):
    """A document is not written as the module says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block that is run."""

    line: int
    """Of the document, from 1."""
    language: str
    text: str
    words: tuple[str, ...]
    """Of the comment before it, in its order."""
    expected: str | None = None
    """What the document shows of its output; None when it shows nothing."""


def blocks_of(path: Path) -> list[Block]:
    """The blocks of a document that are run, in order.

    Raises:
        DocumentError: a fence or a comment is not as it should be.
    """
    found: list[Block] = []
    # The fence before was one that is run, so that what it prints may follow.
    may_show = False
    for line, language, text, words in _fences(path):
        if language in RUN:
            found.append(Block(line=line, language=language, text=text, words=words))
        elif language in SHOWN:
            if not may_show:
                raise DocumentError(f"{path.name}:{line}: nothing before this {language} prints it")
            shown = found.pop()
            found.append(
                Block(
                    line=shown.line,
                    language=shown.language,
                    text=shown.text,
                    words=shown.words,
                    expected=text,
                )
            )
        elif language:
            raise DocumentError(f"{path.name}:{line}: nobody runs {language}; leave the language out")
        may_show = language in RUN
    return found


def _fences(path: Path) -> Iterator[tuple[int, str, str, tuple[str, ...]]]:
    words: tuple[str, ...] = ()
    fence: tuple[int, str] | None = None
    inside: list[str] = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if fence is not None:
            if line == "```":
                yield (*fence, "\n".join(inside) + "\n", words)
                words, fence, inside = (), None, []
            else:
                inside.append(line)
        elif directive := _DIRECTIVE.match(line):
            words = tuple(directive[1].split(", "))
            if not set(words) <= WORDS:
                raise DocumentError(f"{path.name}:{number}: only {sorted(WORDS)} mean something")
        elif opened := _FENCE.match(line):
            fence = number, opened[1]
        elif words and line:
            raise DocumentError(f"{path.name}:{number}: the fence must follow its comment")
    if fence is not None:
        raise DocumentError(f"{path.name}:{fence[0]}: this fence does not end")


def prints(expected: str, printed: str) -> bool:
    """Tells whether output is as a document shows it; runs of spaces are alike."""
    pattern = ""
    for line in _plain(expected):
        if line == "…":
            pattern += r"(?:.*\n)*"
        else:
            pattern += ".*".join(re.escape(part) for part in line.split("…")) + r"\n"
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in _plain(printed))) is not None


def _plain(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.strip().splitlines()]
