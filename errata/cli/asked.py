"""The question that a shell session asked last, kept for the shell hook between two programs.

`errata search` at a terminal writes it to the file that the hook names in ERRATA_SESSION; the hook hands it
to `errata record` with the command that was run next. The file is private to its owner, holds one question
with secrets of known shapes taken out, is emptied when the hook has read it, and nothing is sent from here.
"""

import contextlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

VARIABLE: Final = "ERRATA_SESSION"
_PROBLEM_FILE: Final = "hook-problem"
_KEPT_S_MAX: Final = 7 * 86_400
"""Files of sessions that ended are removed after so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question and what was proposed for it."""

    block_id: str
    question: str
    proposal: str
    """The best answer found; empty for none."""
    language: str
    """Of the proposal."""
    asked_us: int
    """When, in microseconds since 1970."""


def session_file(environ: Mapping[str, str]) -> Path | None:
    """The file of this shell session; None when the shell has no hook."""
    name = environ.get(VARIABLE, "")
    return Path(name) if name.startswith("/") else None


def remember(path: Path, asked: Asked) -> None:
    """Writes the question of a session, if the file can be written: a search must not fail for it."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_old(path.parent)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(json.dumps(asdict(asked)))


def read_asked(text: str) -> Asked | None:
    """What `remember` wrote; None for anything else."""
    try:
        members = json.loads(text)
        asked = Asked(**members)
    except (ValueError, TypeError, RecursionError):
        return None
    texts = (asked.block_id, asked.question, asked.proposal, asked.language)
    return asked if all(isinstance(each, str) for each in texts) and type(asked.asked_us) is int else None


def note_problem(path: Path, message: str | None) -> None:
    """Notes why the hook could not record, for `errata doctor`; None removes the note."""
    note = path.parent / _PROBLEM_FILE
    with contextlib.suppress(OSError):
        if message is None:
            note.unlink(missing_ok=True)
        else:
            note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            note.write_text(message)


def noted_problem(path: Path) -> tuple[str, float] | None:
    """The note, and when it was written, in seconds since 1970; None when there is none."""
    note = path.parent / _PROBLEM_FILE
    try:
        return note.read_text(errors="replace"), note.stat().st_mtime
    except OSError:
        return None


def _remove_old(directory: Path) -> None:
    oldest_s = time.time() - _KEPT_S_MAX
    for path in directory.glob("session-*"):
        if path.stat().st_mtime < oldest_s:
            path.unlink(missing_ok=True)
