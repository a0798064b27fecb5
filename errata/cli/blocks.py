"""`errata blocks`: blocks, and what was learned from each or why nothing was."""

from collections.abc import Iterator, Sequence
from typing import Final

import click

from errata.cli.connection import learner_of
from errata.cli.json_text import to_json
from errata.cli.learned import SENTENCES, reason_name, reason_value
from errata.cli.pages import entries
from errata.cli.printing import Column, print_json, print_table, remark
from errata.cli.shared_options import Chosen, Command
from errata.cli.times import local_now, since
from errata.v1.learner_pb2 import BlockState, ListBlocksRequest
from errata.v1.learner_pb2_grpc import LearnerServiceStub

_HELP: Final = """Lists blocks, the most recently changed first, and what was learned from each.

\b
Examples:
  errata blocks
  errata blocks --reason error --reason pending
  errata blocks --reason not-generated --all --json | jq -r '.blocks[].key.id'

Without --namespace, the blocks of every namespace. With --json: {"blocks": [BlockState, ...], "more": whether
there are more than --limit}."""


@click.command(cls=Command, help=_HELP)
@click.option(
    "--reason",
    "reasons",
    multiple=True,
    type=click.Choice(list(SENTENCES)),
    help="Only blocks with it; repeatable.",
)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, metavar="N")
@click.option("--all", "without_limit", is_flag=True, help="All of them.")
@click.pass_obj
def blocks(chosen: Chosen, reasons: Sequence[str], limit: int, *, without_limit: bool) -> None:
    """See the help text."""
    request = ListBlocksRequest(
        namespaces=chosen.namespaces, reasons=[reason_value(name) for name in reasons]
    )
    with learner_of(chosen) as learner:
        # One more than is shown tells whether there are more.
        found = list(_states(learner, request, None if without_limit else limit + 1, chosen.timeout_s))
    has_more = not without_limit and len(found) > limit
    states = found[:limit] if has_more else found
    if chosen.as_json:
        print_json({"blocks": [to_json(state) for state in states], "more": has_more})
        return
    now = local_now()
    print_table(
        [
            Column("block"),
            Column("namespace", optional=True),
            Column("changed", right=True),
            Column("learned"),
            Column("why not"),
            Column("last error", "cut", optional=True),
        ],
        [
            (
                state.key.id,
                state.key.namespace,
                since(state.modified_time.ToDatetime(tzinfo=now.tzinfo), now),
                "yes" if state.learned else "no",
                reason_name(state.reason),
                state.last_error,
            )
            for state in states
        ],
    )
    if has_more:
        remark(f"there are more; --limit {2 * limit} or --all shows them")
    elif not states:
        remark("no such blocks")


def _states(
    learner: LearnerServiceStub, request: ListBlocksRequest, limit: int | None, timeout_s: float
) -> Iterator[BlockState]:
    def page(size: int, token: str) -> tuple[Sequence[BlockState], str]:
        request.page_size = size
        request.page_token = token
        response = learner.ListBlocks(request, timeout=timeout_s)
        return response.blocks, response.next_page_token

    return entries(page, limit)
