"""How `errata` ends: one table of exit codes, and the error that carries one.

Scripts may rely on them; `errata --help` prints them.
"""

import enum
from collections.abc import Mapping
from typing import Final

import click


class ExitCode(enum.IntEnum):
    """What the shell is told."""

    DONE = 0
    NOT_DONE = 1
    USAGE = 2
    UNREACHABLE = 3
    DENIED = 4
    LATE = 5
    NOT_NOW = 6
    SERVICE_BUG = 7
    INTERRUPTED = 130


MEANINGS: Final[Mapping[ExitCode, str]] = {
    ExitCode.DONE: "what was asked for was done; a search that finds nothing is done too",
    ExitCode.NOT_DONE: "what was asked for is not there, or failed; `doctor` found something broken",
    ExitCode.USAGE: "an option, argument or variable is wrong, or a service refused the request as malformed",
    ExitCode.UNREACHABLE: "a service does not answer, or does not serve yet",
    ExitCode.DENIED: "the credentials are missing, wrong, or do not cover it",
    ExitCode.LATE: "no answer within --timeout; what was asked for may have happened",
    ExitCode.NOT_NOW: "the service cannot do it in the state it is in: full, busy, not caught up",
    ExitCode.SERVICE_BUG: "a bug in a service; its log has the request",
    ExitCode.INTERRUPTED: "Ctrl-C",
}
"""One sentence each, for the help and the documentation."""


class CommandError(click.ClickException):
    """Ends the command with a message for a person and a code for a script."""

    def __init__(
        self,
        message: str,
        exit_code: ExitCode,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Says what is wrong and what to do.

        Args:
            message: one or a few sentences.
            exit_code: see `MEANINGS`.
            reason: name of an ErrorReason without its prefix, where a service gave one.
            metadata: of that reason.
        """
        super().__init__(message)
        # click has one code a class; here it differs from error to error.
        self.exit_code = int(exit_code)  # type: ignore[misc]  # see above
        self.reason = reason
        self.metadata = dict(metadata or {})
