"""`errata teach`: states a question and its answer, which every policy learns."""

import secrets
from collections.abc import Mapping
from typing import Final

import click

from errata.cli.clock import increasing_clock_us
from errata.cli.reading import read_block_id, read_labels, read_wait_s, reads, reads_all, text_of
from errata.cli.sending import send_and_tell
from errata.cli.shared_options import Chosen, Command
from errata.v1.block_pb2 import BLOCK_KIND_CODE, BLOCK_KIND_MARKUP, BlockEvent

_HELP: Final = """States a question and its answer.

Every policy learns it, and a later run of the block does not replace it; teaching the same --id again does.
ANSWER may be `-` for standard input.

\b
Examples:
  errata teach 'what listens on port 80?' "ss -ltnp 'sport = :80'"
  errata teach 'back up the database' - --label team=infra < backup.sh
  errata teach 'rows by day' 'select ...' --language sql --id rows-by-day

With --json: blockId, state (BlockState), token (for `errata search --token`)."""


@click.command(cls=Command, help=_HELP)
@click.argument("question")
@click.argument("answer")
@click.option(
    "--id",
    "block_id",
    metavar="ID",
    callback=reads(read_block_id),
    help="The block. Default: a new one; to replace an answer, name it.",
)
@click.option("--language", default="bash", show_default=True, metavar="NAME", help="Of the answer.")
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
@click.pass_obj
def teach(
    chosen: Chosen,
    question: str,
    answer: str,
    block_id: str | None,
    language: str,
    labels: Mapping[str, str],
    wait_s: float,
) -> int:
    """See the help text."""
    if not question.strip():
        raise click.UsageError("the question is blank")
    event = taught_event(
        block_id or f"cli-{secrets.token_hex(8)}",
        chosen.one_namespace(),
        question,
        text_of([answer], "the answer"),
        language=language,
    )
    event.labels.update(labels)
    return send_and_tell(chosen, [event], wait_s)


def taught_event(block_id: str, namespace: str, question: str, answer: str, *, language: str) -> BlockEvent:
    """What a person taught, as an event of now."""
    event = BlockEvent(block_id=block_id, namespace=namespace)
    event.event_time.FromMicroseconds(increasing_clock_us()())
    event.taught.query.blocks.add(kind=BLOCK_KIND_MARKUP, contents=question)
    event.taught.answer.add(kind=BLOCK_KIND_CODE, language=language, contents=answer)
    return event
