"""`errata explain`: what is known of a block, what was learned from it, and if nothing, why."""

from datetime import datetime
from typing import Final

import click

from errata.cli.connection import learner_of
from errata.cli.json_text import to_json
from errata.cli.learned import origin_name, verdict
from errata.cli.printing import print_fields, print_json, print_text, print_verbatim
from errata.cli.reading import read_block_id, reads
from errata.cli.shared_options import Chosen, Command
from errata.cli.times import local_now, since
from errata.v1.block_pb2 import (
    EXECUTION_STATUS_FAILED,
    SUGGESTION_STATUS_ACCEPTED,
    SUGGESTION_STATUS_REJECTED,
    Block,
    BlockLog,
)
from errata.v1.learner_pb2 import GetBlockRequest, GetBlockResponse

_HELP: Final = """Says what was learned from a block, or why nothing was, and what to do about it.

\b
Examples:
  errata explain cell-1
  errata explain cell-1 --namespace team-a --json | jq .state.reason

With --json: the GetBlockResponse. The exit code is 0 for a block that is known, whatever was learned."""


@click.command(cls=Command, help=_HELP)
@click.argument("block_id", metavar="BLOCK", callback=reads(read_block_id))
@click.pass_obj
def explain(chosen: Chosen, block_id: str) -> None:
    """See the help text."""
    request = GetBlockRequest(id=block_id, namespace=chosen.one_namespace())
    with learner_of(chosen) as learner:
        response = learner.GetBlock(request, timeout=chosen.timeout_s)
    if chosen.as_json:
        print_json(to_json(response))
    else:
        _show(response, local_now())


def _show(response: GetBlockResponse, now: datetime) -> None:
    block, state = response.block, response.state
    where = f" in {block.namespace}" if block.namespace else ""
    print_text(f"Block {block.id}{where}", "bold")
    print_text(verdict(state))
    print_text()
    changed = since(state.modified_time.ToDatetime(tzinfo=now.tzinfo), now)
    print_fields(
        [
            ("changed", changed),
            ("labels", ", ".join(f"{key}={value}" for key, value in sorted(block.labels.items()))),
            ("suggestion", _suggestion(block)),
            ("last run", _last_run(block)),
            ("failed attempts", str(state.failed_attempt_count or "")),
        ]
    )
    asked = "\n\n".join(each.contents for each in block.doc.blocks)
    _show_part("Stood before it", asked)
    _show_block("Proposed", block.generated_block if block.HasField("generated_block") else None)
    _show_block("Run", block.executed_block if block.HasField("executed_block") else None)
    _show_block("Last success", block.succeeded_block if block.HasField("succeeded_block") else None)
    if response.HasField("example"):
        example = response.example
        answer = "\n\n".join(each.contents for each in example.answer)
        _show_part(f"Learned as ({origin_name(example.origin)})", f"{example.query_text}\n→ {answer}")


def _show_block(title: str, block: Block | None) -> None:
    if block is not None:
        _show_part(title, block.contents)


def _show_part(title: str, text: str) -> None:
    if text.strip():
        print_text()
        print_text(title, "bold")
        print_verbatim(text, indent=2)


def _suggestion(block: BlockLog) -> str:
    said = {SUGGESTION_STATUS_ACCEPTED: "accepted", SUGGESTION_STATUS_REJECTED: "rejected"}
    return said.get(block.suggestion_status, "")


def _last_run(block: BlockLog) -> str:
    if not block.HasField("executed_block"):
        return ""
    ended = "failed" if block.execution_status == EXECUTION_STATUS_FAILED else "did not fail"
    return f"{ended}, exit code {block.exit_code}" if block.HasField("exit_code") else ended
