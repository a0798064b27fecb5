"""Redaction by rules on the shape of values (`redaction_rules.py`); `errata.text` offers it to the services.

Precise: a rule needs a known prefix, or a place that holds nothing but a secret. Variables, placeholders,
paths, hashes and UUIDs stay.
Shape-keeping: of `--password=hunter2 -v` only `hunter2` goes.
Idempotent: no rule takes a value that begins with the mark, and what a rule keeps holds no secret of another.
Linear: every run is possessive, bounded, or ends where the next candidate begins.
"""

import re
from collections.abc import Iterable
from hashlib import blake2b
from itertools import groupby, pairwise
from typing import Final

from errata.redaction_rules import FLAGS, FOLLOWED_BY, NEEDED, RULES

MARK: Final = "[REDACTED]"
"""Stands where a secret stood."""

COMMAND_CHARS_MAX: Final = 512
"""How far before a flag its command is looked for, in characters: bounds the work for one flag."""


def _combined() -> re.Pattern[str]:
    """Every rule. `lastindex` of a match is the group that holds the secret, as no other takes part."""
    alternatives = (
        rf"(?=[{re.escape(starts_with)}])(?:{'|'.join(f'(?:{rule.pattern})' for rule in rules)})"
        for starts_with, rules in groupby(RULES, key=lambda rule: rule.starts_with)
    )
    anywhere = "".join(sorted({character for rule in RULES for character in rule.starts_with}))
    return re.compile(rf"(?=[{re.escape(anywhere)}])(?:{'|'.join(alternatives)})", FLAGS)


_SECRET: Final = _combined()

_COMMANDS: Final = (
    (),
    *(rule.commands for rule in RULES for _ in range(re.compile(rule.pattern, FLAGS).groups)),
)
"""For each group of `_SECRET`, the commands of its rule."""

_STRING: Final = re.compile(r""""[^"\n]*"|'[^'\n]*'""")
_COMMAND_END: Final = re.compile(r"(?<!\\)\n|[;|`(]|&&")

RULES_HASH: Final = blake2b(
    repr((MARK, COMMAND_CHARS_MAX, int(FLAGS), RULES, _STRING.pattern, _COMMAND_END.pattern)).encode(),
    digest_size=16,
).digest()
"""Changes when the rules do."""


_RARE_FIRST: Final = "zjqx:@_=kvywbgfpmhudc-.lrnsioate/"
"""Characters by how seldom they stand in text and commands, roughly."""


def _any_of(words: Iterable[str]) -> str:
    """A pattern of the words that looks for the rarest character of each, and there at what is around it.

    Several times as fast as a list of the words: at most characters of a text there is nothing to be tried.
    """
    around: dict[str, list[str]] = {}
    for word in sorted(set(words)):
        rarest = min(word, key=f"{_RARE_FIRST}{word}".index)
        before, _, after = word.partition(rarest)
        lookbehind = f"(?<={re.escape(before + rarest)})" if before else ""
        around.setdefault(rarest, []).append(lookbehind + re.escape(after) + FOLLOWED_BY.get(word, ""))
    return "|".join(f"{re.escape(rarest)}(?:{'|'.join(rest)})" for rarest, rest in around.items())


_NEEDED_PATTERN: Final = _any_of(word for words in NEEDED.values() for word in words)
_NEEDED_IN_TEXT: Final = re.compile(_NEEDED_PATTERN, re.ASCII)
_NEEDED_IN_BYTES: Final = re.compile(_NEEDED_PATTERN.encode())


def may_hold_secret(encoded: bytes) -> bool:
    """False when `redact` certainly leaves every text as it is that lies in the bytes, in UTF-8.

    For a message as a whole, which is cheaper than text by text.
    """
    return _NEEDED_IN_BYTES.search(encoded.lower()) is not None


def redact(text: str) -> str:
    """The text with each secret in it replaced by `MARK`; the same object when there is none.

    Redacting twice changes nothing more. Takes time in proportion to the length of the text.
    """
    if _NEEDED_IN_TEXT.search(text.lower()) is None:
        return text
    pieces: list[str] = []
    copied_to = position = 0
    while (match := _SECRET.search(text, position)) is not None:
        group = match.lastindex or 0
        start, end = match.span(group)
        if commands := _COMMANDS[group]:
            before = text[max(copied_to, match.start() - COMMAND_CHARS_MAX) : match.start()]
            if not _run_by(commands, _last_chars(pieces, COMMAND_CHARS_MAX - len(before)) + before):
                # The value may hold a secret of another shape.
                position = start
                continue
        pieces += (text[copied_to:start], MARK)
        copied_to = position = end
    return "".join((*pieces, text[copied_to:])) if pieces else text


def _last_chars(pieces: list[str], count: int) -> str:
    """The last `count` characters of the pieces, or all there are."""
    taken: list[str] = []
    for piece in reversed(pieces):
        if count <= 0:
            break
        taken.append(piece[-count:])
        count -= len(piece)
    return "".join(reversed(taken))


def _run_by(commands: tuple[str, ...], before: str) -> bool:
    """True when the simple command that `before` ends in is one of `commands`.

    Args:
        commands: names, without a directory.
        before: what precedes a flag, redacted already, so that a second pass sees the same.
    """
    if not any(command in before for command in commands):
        return False
    words = _COMMAND_END.split(_STRING.sub("", before))[-1].split()
    return any(
        word.strip("\"'").rpartition("bin/")[2] in commands and not previous.endswith("name")
        for previous, word in pairwise(("", *words))
    )
