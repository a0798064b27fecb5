"""`errata reconcile`: learns from one block now."""

from collections.abc import Mapping
from typing import Any, Final

import click

from errata.cli.connection import learner_of
from errata.cli.exit_codes import ExitCode
from errata.cli.json_text import to_json
from errata.cli.learned import verdict
from errata.cli.printing import print_json, print_text
from errata.cli.reading import read_block_id, reads
from errata.cli.shared_options import Chosen, Command
from errata.v1.learner_pb2 import (
    RECONCILE_OUTCOME_CREATED,
    RECONCILE_OUTCOME_DELETED,
    RECONCILE_OUTCOME_FAILED,
    RECONCILE_OUTCOME_NOT_LEARNED,
    RECONCILE_OUTCOME_UNCHANGED,
    RECONCILE_OUTCOME_UPDATED,
    GetBlockRequest,
    ReconcileOutcome,
    ReconcileRequest,
)

_OUTCOMES: Final[Mapping[ReconcileOutcome.ValueType, str]] = {
    RECONCILE_OUTCOME_CREATED: "There was no example; now there is.",
    RECONCILE_OUTCOME_UPDATED: "The example changed.",
    RECONCILE_OUTCOME_UNCHANGED: "The example already was as it should be.",
    RECONCILE_OUTCOME_DELETED: "There was an example; the block no longer gives one.",
    RECONCILE_OUTCOME_NOT_LEARNED: "The block gives no example.",
    RECONCILE_OUTCOME_FAILED: "Learning failed for good; an example that there was stays.",
}

_HELP: Final = """Learns from one block now, instead of when its turn comes; also from one that had failed
for good.

\b
Examples:
  errata reconcile cell-1
  errata blocks --reason error --all --json | jq -r '.blocks[].key.id' | xargs -n1 errata reconcile

With --json: the ReconcileResponse, and the BlockState as "state". The exit code is 1 when learning failed."""


@click.command(cls=Command, help=_HELP)
@click.argument("block_id", metavar="BLOCK", callback=reads(read_block_id))
@click.pass_obj
def reconcile(chosen: Chosen, block_id: str) -> int:
    """See the help text."""
    namespace = chosen.one_namespace()
    request = ReconcileRequest(id=block_id, namespace=namespace)
    with learner_of(chosen) as learner:
        response = learner.Reconcile(request, timeout=chosen.timeout_s)
        block = learner.GetBlock(GetBlockRequest(id=block_id, namespace=namespace), timeout=chosen.timeout_s)
    if chosen.as_json:
        document: dict[str, Any] = to_json(response)
        print_json({**document, "state": to_json(block.state)})
    else:
        print_text(_OUTCOMES.get(response.outcome, f"Outcome {response.outcome}."))
        print_text(verdict(block.state))
    failed = response.outcome == RECONCILE_OUTCOME_FAILED
    return ExitCode.NOT_DONE if failed else ExitCode.DONE
