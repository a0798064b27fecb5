"""`errata examples`: what was learned."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import click

from errata.cli.connection import learner_of
from errata.cli.example_text import print_example
from errata.cli.json_text import to_json
from errata.cli.pages import entries
from errata.cli.printing import print_json, remark
from errata.cli.reading import read_labels, reads_all
from errata.cli.shared_options import Chosen, Command
from errata.cli.times import local_now
from errata.v1.example_pb2 import Example
from errata.v1.learner_pb2 import ListExamplesRequest
from errata.v1.learner_pb2_grpc import LearnerServiceStub

_HELP: Final = """Lists what was learned, the most recently changed first.

\b
Examples:
  errata examples
  errata examples --label team=infra --limit 200
  errata examples --all --json | jq -r '.examples[].answer[0].contents'

Without --namespace, the examples of every namespace. With --json: {"examples": [Example, ...], "more":
whether there are more than --limit}, without embeddings."""


@click.command(cls=Command, help=_HELP)
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only with this label; repeatable.",
    callback=reads_all(read_labels),
)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, metavar="N")
@click.option("--all", "without_limit", is_flag=True, help="All of them.")
@click.pass_obj
def examples(chosen: Chosen, labels: Mapping[str, str], limit: int, *, without_limit: bool) -> None:
    """See the help text."""
    request = ListExamplesRequest(namespaces=chosen.namespaces, labels=labels)
    with learner_of(chosen) as learner:
        # One more than is shown tells whether there are more.
        found = list(_examples(learner, request, None if without_limit else limit + 1, chosen.timeout_s))
    has_more = not without_limit and len(found) > limit
    shown = found[:limit] if has_more else found
    if chosen.as_json:
        print_json({"examples": [to_json(example) for example in shown], "more": has_more})
        return
    now = local_now()
    for example in shown:
        print_example(example, now, mark="")
    if has_more:
        remark(f"there are more; --limit {2 * limit} or --all shows them")
    elif not shown:
        remark("no such examples")


def _examples(
    learner: LearnerServiceStub, request: ListExamplesRequest, limit: int | None, timeout_s: float
) -> Iterator[Example]:
    def page(size: int, token: str) -> tuple[Sequence[Example], str]:
        request.page_size = size
        request.page_token = token
        response = learner.ListExamples(request, timeout=timeout_s)
        return response.examples, response.next_page_token

    return entries(page, limit)
