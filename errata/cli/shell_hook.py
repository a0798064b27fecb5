"""`errata shell-hook`: prints what a shell evaluates to record what is run in it."""

from importlib import resources
from typing import Final

import click

from errata.cli.shared_options import Command

_HELP: Final = """Prints the hook with which bash or zsh record what you run.

Opt-in: nothing is recorded until you put this at the end of ~/.bashrc (with zsh, of ~/.zshrc):

\b
  eval "$(errata shell-hook bash)"

Then ask, and run what answers:

\b
  # which process listens on port 80?
  ss -ltnp 'sport = :80'

or ask Errata first: after `errata search` at the terminal, the best answer counts as proposed, and what you
run next as what you really ran. The question stays open until a command succeeds, for 5 commands and 15
minutes at most; a lone # closes it.

Recorded are the question, the command lines run while it is open, their exit codes and the working
directory, and nothing else: no output, and no command without a question. A line that begins with a space is
never recorded. The Learner takes out secrets of known shapes; others it does not recognise, so begin such a
line with a space. `unset ERRATA_SESSION` switches the hook off in one shell.

The policy of the Learner decides what is learned: `corrections`, its default, learns a run where something
else was proposed; to learn answers to comments too, use --teach or the policy `executions`.

Recording happens in the background and never delays the prompt. Where it fails, the shell says nothing:
`errata doctor` tells why."""


@click.command("shell-hook", cls=Command, help=_HELP)
@click.argument("shell", type=click.Choice(["bash", "zsh"]))
@click.option(
    "--teach",
    is_flag=True,
    help="Where nothing was proposed, a command that succeeds is taught: learned under every policy.",
)
def shell_hook(shell: str, *, teach: bool) -> None:
    """See the help text."""
    hooks = resources.files("errata.cli") / "shell_hooks"
    mode = f"__errata_mode={shell}+{'teach' if teach else 'run'}\n"
    click.echo((hooks / "core.sh").read_text() + mode + (hooks / f"{shell}.sh").read_text(), nl=False)
