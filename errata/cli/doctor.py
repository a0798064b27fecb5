"""`errata doctor`: checks that everything works, and says what to do where it does not."""

import os
from collections.abc import Mapping, Sequence
from typing import Final

import click

from errata.cli.checkup.facts import gather
from errata.cli.checkup.findings import Finding, Severity
from errata.cli.checkup.learner_checks import check_learner
from errata.cli.checkup.machine_checks import check_machine
from errata.cli.checkup.rag_checks import check_rag
from errata.cli.exit_codes import ExitCode
from errata.cli.printing import print_json, print_text
from errata.cli.shared_options import Chosen, Command
from errata.cli.times import local_now

_MARKS: Final[Mapping[Severity, tuple[str, str]]] = {
    Severity.OK: ("ok  ", "green"),
    Severity.WARNING: ("warn", "yellow"),
    Severity.FAILURE: ("FAIL", "bold red"),
}

_HELP: Final = """Checks that everything works, and says what to do where it does not.

Looks at the ERRATA_ variables, at both services (do they serve, which versions, how far behind, do their
embedders agree, can a question be embedded), at the store, its disk, the queue, what failed, the logs that
are followed, the clocks, and the shell hook. Changes nothing.

\b
Examples:
  errata doctor
  errata doctor --json | jq -r '.findings[] | select(.severity != "ok") | .message'

The exit code is 1 when there is a failure, 0 with warnings alone. With --json: {"findings": [{"check",
"severity" (ok, warning, failure), "message", "advice"}, ...]}."""


@click.command(cls=Command, help=_HELP)
@click.pass_obj
def doctor(chosen: Chosen) -> int:
    """See the help text."""
    facts = gather(chosen, os.environ, local_now)
    findings = [*check_machine(facts), *check_learner(facts), *check_rag(facts)]
    if chosen.as_json:
        print_json({"findings": [_as_json(finding) for finding in findings]})
    else:
        _show(findings)
    failed = any(finding.severity is Severity.FAILURE for finding in findings)
    return ExitCode.NOT_DONE if failed else ExitCode.DONE


def _as_json(finding: Finding) -> dict[str, str]:
    return {
        "check": finding.check,
        "severity": finding.severity.value,
        "message": finding.message,
        "advice": finding.advice,
    }


def _show(findings: Sequence[Finding]) -> None:
    for finding in findings:
        mark, style = _MARKS[finding.severity]
        print_text(f"{mark}  {finding.message}", "" if finding.severity is Severity.OK else style)
        if finding.advice:
            print_text(f"→ {finding.advice}", indent=6)
    bad = [finding for finding in findings if finding.severity is not Severity.OK]
    failures = sum(finding.severity is Severity.FAILURE for finding in bad)
    print_text()
    if bad:
        print_text(f"{failures} failures, {len(bad) - failures} warnings", "bold")
    else:
        print_text("Everything works.", "bold green")
