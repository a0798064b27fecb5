"""`errata status`: the state of both services."""

from datetime import datetime
from typing import Any, Final

import click

from errata.cli.connection import learner_of, rag_of
from errata.cli.exit_codes import CommandError
from errata.cli.json_text import to_json
from errata.cli.printing import Column, print_fields, print_json, print_table, print_text
from errata.cli.shared_options import Chosen, Command
from errata.cli.sizes import written_bytes
from errata.cli.times import length, local_now, since
from errata.v1.learner_pb2 import GetStatusRequest, GetStatusResponse
from errata.v1.rag_pb2 import INDEX_STATE_SYNCING, GetIndexStatusRequest, GetIndexStatusResponse, IndexState

_HELP: Final = """Shows the state of both services.

\b
Examples:
  errata status
  errata status --json | jq .learner.queuedBlockCount

With --json: {"learner": GetStatusResponse, "rag": GetIndexStatusResponse}; a service that does not answer has
{"error": ...} instead. If one does not answer, the other is shown all the same, and the exit code is 3."""


@click.command(cls=Command, help=_HELP)
@click.pass_obj
def status(chosen: Chosen) -> int:
    """See the help text."""
    learner = _asked_learner(chosen)
    rag = _asked_rag(chosen)
    errors = [each for each in (learner, rag) if isinstance(each, CommandError)]
    if chosen.as_json:
        print_json({"learner": _as_json(learner), "rag": _as_json(rag)})
    else:
        now = local_now()
        print_text(f"Learner at {chosen.learner}", "bold")
        if isinstance(learner, CommandError):
            print_text(learner.message, "red", indent=2)
        else:
            _show_learner(learner, now)
        print_text()
        print_text(f"RAG service at {chosen.rag}", "bold")
        if isinstance(rag, CommandError):
            print_text(rag.message, "red", indent=2)
        else:
            head = None if isinstance(learner, CommandError) else learner.head_revision
            _show_rag(rag, head)
    return max((error.exit_code for error in errors), default=0)


def _asked_learner(chosen: Chosen) -> GetStatusResponse | CommandError:
    try:
        with learner_of(chosen) as learner:
            return learner.GetStatus(GetStatusRequest(), timeout=chosen.timeout_s)
    except CommandError as error:
        return error


def _asked_rag(chosen: Chosen) -> GetIndexStatusResponse | CommandError:
    try:
        with rag_of(chosen) as rag:
            return rag.GetIndexStatus(GetIndexStatusRequest(), timeout=chosen.timeout_s)
    except CommandError as error:
        return error


def _as_json(answer: GetStatusResponse | GetIndexStatusResponse | CommandError) -> dict[str, Any]:
    if isinstance(answer, CommandError):
        return {"error": {"message": answer.message, "reason": answer.reason, "exitCode": answer.exit_code}}
    return to_json(answer)


def _show_learner(answer: GetStatusResponse, now: datetime) -> None:
    started = answer.start_time.ToDatetime(tzinfo=now.tzinfo)
    waited_s = answer.oldest_queued_age.ToTimedelta().total_seconds()
    waiting = f"{answer.queued_block_count:,}"
    if answer.queued_block_count:
        waiting += f", the oldest for {length(waited_s)}"
    failed = f"{answer.failed_block_count:,}"
    if answer.failed_block_count:
        failed += "; see: errata blocks --reason error"
    print_fields(
        [
            ("  version", f"{answer.version}, started {since(started, now)}"),
            ("  blocks", f"{answer.block_count:,}"),
            ("  examples", f"{answer.example_count:,} (policy {answer.policy})"),
            ("  waiting", waiting),
            ("  failed", failed),
            ("  store", f"{written_bytes(answer.store_bytes)} of {written_bytes(answer.store_bytes_max)}"),
            ("  revision", f"{answer.head_revision:,}"),
            ("  embedder", answer.embedder_fingerprint),
        ]
    )
    if answer.watchers:
        print_text()
        print_table(
            [Column("watcher", "cut"), Column("behind by", right=True)],
            [(f"  {each.watcher}", f"{each.lag_revision_count:,}") for each in answer.watchers],
        )
    if answer.log_files:
        print_text()
        print_table(
            [Column("log file", "cut"), Column("read", right=True), Column("bad lines", right=True)],
            [
                (
                    f"  {each.path}",
                    f"{written_bytes(each.offset_bytes)} of {written_bytes(each.size_bytes)}",
                    f"{each.malformed_line_count:,}",
                )
                for each in answer.log_files
            ],
        )


def _show_rag(answer: GetIndexStatusResponse, head_revision: int | None) -> None:
    state = IndexState.Name(answer.state).removeprefix("INDEX_STATE_").lower()
    staleness = length(answer.staleness.ToTimedelta().total_seconds())
    fresh = f"known to be up to date {staleness} ago"
    if answer.state == INDEX_STATE_SYNCING:
        fresh = "answers no search before its first sync"
    revision = f"{answer.applied_revision:,}"
    if head_revision is not None and head_revision > answer.applied_revision:
        revision += f", {head_revision - answer.applied_revision:,} behind the Learner"
    print_fields(
        [
            ("  version", answer.version),
            ("  state", f"{state}, {fresh}"),
            ("  examples", f"{answer.example_count:,}"),
            (
                "  unusable",
                f"{answer.quarantined_example_count:,}" if answer.quarantined_example_count else "",
            ),
            ("  namespaces", ", ".join(repr(name) for name in answer.namespaces) or "all"),
            ("  memory", f"{written_bytes(answer.embedding_bytes)} of embeddings"),
            ("  revision", revision),
            ("  embedder", answer.embedder_fingerprint),
        ]
    )
