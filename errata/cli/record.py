"""`errata record`: tells the Learner what was run for a question, and what had been proposed."""

import secrets
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import click

from errata.cli.clock import increasing_clock_us
from errata.cli.hook_report import record_from_hook
from errata.cli.reading import read_block_id, read_labels, read_wait_s, reads, reads_all, text_of
from errata.cli.sending import send_and_tell
from errata.cli.shared_options import Chosen, Command
from errata.v1.block_pb2 import BLOCK_KIND_CODE, BLOCK_KIND_MARKUP, Block, BlockEvent, Doc

_HELP: Final = """Records what was run for a question.

COMMAND is what a person really ran; several words are joined as the shell would read them, and `-` reads
standard input. With --proposed, the difference is what is learned; without, the Learner learns it under the
policy `executions` alone (see `errata teach` for what you know to be right). Nothing is run: this only tells
the Learner. `errata shell-hook` records what you run in a shell by itself.

\b
Examples:
  errata record -q 'what listens on port 80?' --proposed 'netstat -a' "ss -ltnp 'sport = :80'"
  errata record -q 'restart the web server' --exit-code 1 -- systemctl restart nginx
  errata record --id cell-1 -q 'rows by day' --language sql - < query.sql

The same --id again is the same block: its latest run that did not fail counts. With --json: blockId, state
(BlockState), token (pass it to `errata search --token` to find what was just learned)."""


@click.command(cls=Command, help=_HELP)
@click.argument("words", nargs=-1, metavar="COMMAND...")
@click.option("-q", "--question", metavar="TEXT", help="What the command answers.")
@click.option("--proposed", metavar="COMMAND", help="What an assistant had proposed.")
@click.option(
    "--id", "block_id", metavar="ID", callback=reads(read_block_id), help="The block. Default: a new one."
)
@click.option("--exit-code", type=int, metavar="N", help="How the run ended. Default: not known.")
@click.option("--language", default="bash", show_default=True, metavar="NAME", help="Of the command.")
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="KEY=VALUE",
    help="For filtering; repeatable.",
    callback=reads_all(read_labels),
)
@click.option(
    "--wait",
    "wait_s",
    callback=reads(read_wait_s),
    metavar="TIME",
    default="5s",
    show_default=True,
    help="How long to wait for the learning.",
)
@click.option("--from-hook", is_flag=True, hidden=True)
@click.pass_obj
def record(
    chosen: Chosen,
    *,
    words: Sequence[str],
    question: str | None,
    proposed: str | None,
    block_id: str | None,
    exit_code: int | None,
    language: str,
    labels: Mapping[str, str],
    wait_s: float,
    from_hook: bool,
) -> int:
    """See the help text."""
    if from_hook:
        return record_from_hook(chosen, sys.stdin.buffer)
    ran = text_of([shlex.join(words)] if len(words) > 1 else words, "the command that was run")
    if not (question or "").strip():
        raise click.UsageError("the question is needed, or there is nothing to learn: --question 'TEXT'")
    events = block_events(
        block_id or f"cli-{secrets.token_hex(8)}",
        chosen.one_namespace(),
        question or "",
        Block(kind=BLOCK_KIND_CODE, language=language, contents=ran),
        proposed=None
        if proposed is None
        else Block(kind=BLOCK_KIND_CODE, language=language, contents=proposed),
        exit_code=exit_code,
    )
    for event in events:
        event.labels.update(labels)
    return send_and_tell(chosen, events, wait_s)


def block_events(
    block_id: str,
    namespace: str,
    question: str,
    ran: Block,
    *,
    proposed: Block | None,
    exit_code: int | None,
) -> list[BlockEvent]:
    """The run of a block, and before it the proposal, if there was one.

    Args:
        block_id: the block.
        namespace: its namespace.
        question: in prose.
        ran: what a person ran.
        proposed: what an assistant had proposed.
        exit_code: of the run, if known.
    """
    clock_us = increasing_clock_us()
    doc = Doc(blocks=[Block(kind=BLOCK_KIND_MARKUP, contents=question)])
    events = []
    if proposed is not None:
        generated = BlockEvent(block_id=block_id, namespace=namespace)
        generated.event_time.FromMicroseconds(clock_us())
        generated.generated.doc.CopyFrom(doc)
        generated.generated.block.CopyFrom(proposed)
        events.append(generated)
    executed = BlockEvent(block_id=block_id, namespace=namespace)
    executed.event_time.FromMicroseconds(clock_us())
    executed.executed.block.CopyFrom(ran)
    executed.executed.doc.CopyFrom(doc)
    if exit_code is not None:
        executed.executed.exit_code = exit_code
    return [*events, executed]
