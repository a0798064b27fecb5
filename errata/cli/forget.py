"""`errata forget`: erases a block and its example for good."""

import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from errata.cli.connection import learner_of
from errata.cli.exit_codes import CommandError, ExitCode
from errata.cli.json_text import to_json
from errata.cli.printing import print_json, print_text
from errata.cli.reading import read_block_ids, reads_all
from errata.cli.shared_options import Chosen, Command
from errata.v1.learner_pb2 import ForgetExampleRequest

_HELP: Final = """Erases a block and its example for good, and never learns from that block again.

Also works for a block that no event has named yet. Cannot be undone, so it asks first; --yes does not ask.

\b
Examples:
  errata forget cell-1
  errata forget cell-1 cell-2 --namespace team-a --yes

With --json: {"forgotten": [{"id": ..., and the ForgetExampleResponse}, ...]}."""


@click.command(cls=Command, help=_HELP)
@click.argument("block_ids", nargs=-1, required=True, metavar="BLOCK...", callback=reads_all(read_block_ids))
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def forget(chosen: Chosen, block_ids: Sequence[str], *, yes: bool) -> None:
    """See the help text."""
    namespace = chosen.one_namespace()
    if not yes:
        _ask(block_ids, namespace)
    forgotten: list[dict[str, Any]] = []
    with learner_of(chosen) as learner:
        for block_id in block_ids:
            request = ForgetExampleRequest(id=block_id, namespace=namespace)
            response = learner.ForgetExample(request, timeout=chosen.timeout_s)
            forgotten.append({"id": block_id, **to_json(response)})
            if not chosen.as_json:
                print_text(f"Forgotten: {block_id}")
    if chosen.as_json:
        print_json({"forgotten": forgotten})


def _ask(block_ids: Sequence[str], namespace: str) -> None:
    where = f"namespace {namespace!r}" if namespace else "the default namespace"
    named = ", ".join(map(repr, block_ids))
    if not sys.stdin.isatty():
        raise click.UsageError(
            "forgetting cannot be undone, and nobody is here to ask; to go ahead, add --yes"
        )
    if not click.confirm(f"Erase {named} in {where} for good? This cannot be undone", err=True):
        raise CommandError("nothing was forgotten", ExitCode.NOT_DONE)
