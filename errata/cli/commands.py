"""The commands of `errata`, under one name.

A command is imported when it is run: `errata --help` and the completion of names take milliseconds. This is
also where every run ends: errors become one message, in JSON with --json, and an exit code.
"""

import difflib
import importlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from errata.cli.exit_codes import MEANINGS, CommandError, ExitCode
from errata.cli.shared_options import shared_options

COMMANDS: Final[Mapping[str, Mapping[str, str]]] = {
    "Ask and teach": {
        "search": "Finds what people ran for a question like yours",
        "record": "Records what was run for a question",
        "teach": "States a question and its answer",
        "events": "Turns a table of questions into a log that is learned from",
    },
    "Look": {
        "status": "Shows the state of both services",
        "explain": "Says what was learned from a block, or why nothing was",
        "blocks": "Lists blocks, and what was learned from each",
        "examples": "Lists what was learned",
        "watch": "Shows changes of examples as they happen",
        "doctor": "Checks that everything works, and says what to do",
    },
    "Change": {
        "reconcile": "Learns from one block now",
        "backfill": "Learns again from everything since a time",
        "forget": "Erases a block and its example for good",
    },
    "Shell": {
        "shell-hook": "Prints the hook with which bash or zsh record what you run",
        "completion": "Prints the completion for bash, zsh or fish",
    },
}
"""By section of the help, with one line each. A name stands for the function of that name in a module of that
name, with underscores for hyphens."""

_HERE: Final = "errata.cli"
_SIGPIPE_CODE: Final = 128 + 13
"""As the shell gives it for a program that wrote to nobody."""


class _Commands(click.Group):
    """Imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return [name for section in COMMANDS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        names = self.list_commands(ctx)
        if cmd_name not in names:
            near = difflib.get_close_matches(cmd_name, names, n=2)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise click.UsageError(f"No such command: {cmd_name}.{hint}", ctx)
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(importlib.import_module(f"{_HERE}.{name}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        for section, commands in COMMANDS.items():
            with formatter.section(section):
                formatter.write_dl(list(commands.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        options = click.Command.shell_complete(self, ctx, incomplete)
        names = {name: line for section in COMMANDS.values() for name, line in section.items()}
        found = [CompletionItem(name, help=names[name]) for name in names if name.startswith(incomplete)]
        return found + options

    def main(  # type: ignore[override]  # the overloads of click differ in what is returned; this never returns
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> Any:
        """Runs the command line and exits with a code of `ExitCode`."""
        arguments = list(sys.argv[1:] if args is None else args)
        extra.pop("standalone_mode", None)
        try:
            _refuse_other_than_utf8(arguments)
            result = super().main(arguments, prog_name or "errata", standalone_mode=False, **extra)
            sys.stdout.flush()
        except click.ClickException as error:
            _show(error, as_json="--json" in arguments)
            sys.exit(error.exit_code)
        except click.Abort:
            click.echo("stopped", err=True)
            sys.exit(ExitCode.INTERRUPTED)
        except BrokenPipeError:
            # Whoever read the output has enough; the interpreter must not try to flush the rest.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(_SIGPIPE_CODE)
        sys.exit(result if isinstance(result, int) else ExitCode.DONE)


def _refuse_other_than_utf8(arguments: Sequence[str]) -> None:
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise click.UsageError(f"{argument[:40]!a} is not UTF-8, and nothing else can be sent") from error


def _show(error: click.ClickException, *, as_json: bool) -> None:
    if not as_json:
        error.show()
        return
    told: dict[str, Any] = {"message": error.format_message(), "exitCode": error.exit_code}
    if isinstance(error, CommandError):
        told |= {"reason": error.reason, "metadata": error.metadata}
    click.echo(json.dumps({"error": told}, ensure_ascii=False), err=True)


_CODES: Final = "\n".join(f"  {int(code):>3}  {meaning}" for code, meaning in MEANINGS.items())


@click.group(
    cls=_Commands,
    params=list(shared_options(after_command=False)),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=f"\b\nExit codes:\n{_CODES}",
)
@click.version_option(package_name="errata", prog_name="errata")
def errata() -> None:
    """Learns from what people run instead of what assistants propose.

    Each command says what it does, with examples: errata COMMAND --help
    """
