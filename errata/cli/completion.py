"""`errata completion`: prints what a shell evaluates to complete the command line of `errata`."""

from typing import Final

import click
from click.shell_completion import get_completion_class

from errata.cli.shared_options import Command

_VARIABLE: Final = "_ERRATA_COMPLETE"
_HELP: Final = """Prints the completion for bash, zsh or fish: commands, options, and the values of options.

\b
  bash  eval "$(errata completion bash)"          in ~/.bashrc
  zsh   eval "$(errata completion zsh)"           in ~/.zshrc, after compinit
  fish  errata completion fish | source           in ~/.config/fish/config.fish"""


@click.command(cls=Command, help=_HELP)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """See the help text."""
    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"there is no completion for {shell}")
    click.echo(made(ctx.find_root().command, {}, "errata", _VARIABLE).source())
