"""Commands run as a person would, in this process, against services that run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from click.testing import CliRunner, Result

from errata.cli.commands import errata
from tests.e2e.services import Services


@dataclass(frozen=True)
class Cli:
    """The command line, with the variables that say where the services are."""

    environ: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def at(cls, services: Services, namespace: str = "") -> "Cli":
        return cls(
            {
                "ERRATA_LEARNER": services.learner.process.address,
                "ERRATA_RAG": services.rag.process.address,
                "ERRATA_NAMESPACE": namespace,
            }
        )

    def __call__(self, *arguments: object, given: str | None = None) -> Result:
        """Runs a command, whatever comes of it."""
        result = CliRunner(env=self.environ).invoke(errata, [*map(str, arguments)], input=given)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return result

    def out(self, *arguments: object, given: str | None = None) -> str:
        """What a command prints that succeeds."""
        result = self(*arguments, given=given)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *arguments: object, given: str | None = None) -> Any:
        """The JSON document that a command prints that succeeds."""
        return json.loads(self.out(*arguments, "--json", given=given))

    def error(self, *arguments: object, given: str | None = None) -> dict[str, Any]:
        """The JSON error of a command that fails."""
        result = self(*arguments, "--json", given=given)
        assert result.stdout == ""
        error: dict[str, Any] = json.loads(result.stderr.splitlines()[-1])["error"]
        assert error["exitCode"] == result.exit_code != 0
        return error
