"""What a check found."""

import enum
from dataclasses import dataclass


class Severity(enum.Enum):
    """How bad it is."""

    OK = "ok"
    """As it should be."""
    WARNING = "warning"
    """Works, but somebody should look."""
    FAILURE = "failure"
    """Something that people rely on does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    """What was looked at, in a word or two, stable for scripts."""
    severity: Severity
    message: str
    advice: str = ""
    """What to do; empty where nothing is to be done."""


def ok(check: str, message: str) -> Finding:
    """All is well."""
    return Finding(check, Severity.OK, message)


def warning(check: str, message: str, advice: str) -> Finding:
    """Somebody should look."""
    return Finding(check, Severity.WARNING, message, advice)


def failure(check: str, message: str, advice: str) -> Finding:
    """Something does not work."""
    return Finding(check, Severity.FAILURE, message, advice)
