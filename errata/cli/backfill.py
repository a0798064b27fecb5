"""`errata backfill`: learns again from everything that changed since a time, and shows how far that is."""

import secrets
import time
from datetime import datetime
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from errata.cli.connection import learner_of
from errata.cli.exit_codes import ExitCode
from errata.cli.json_text import to_json
from errata.cli.printing import print_json, print_text, remark
from errata.cli.reading import read_moment, reads
from errata.cli.shared_options import Chosen, Command
from errata.cli.times import length, local_now
from errata.serving.fields import InvalidFieldError, check_backfill_id
from errata.v1.learner_pb2 import BackfillRequest, GetBackfillRequest, GetBackfillResponse
from errata.v1.learner_pb2_grpc import LearnerServiceStub

_POLL_S: Final = 0.25

_HELP: Final = """Learns again from every block that changed since a time, and shows how far that is.

The work is the Learner's: it goes on when this ends, also with Ctrl-C, and over a restart of the Learner.
Look again with --id. A block whose example is as it should be stays untouched.

\b
Examples:
  errata backfill --since 2h
  errata backfill --since '2026-11-20 14:00' --namespace team-a
  errata backfill --all --dry-run
  errata backfill --id cli-20261125-191500-3f9a

Without --namespace, every namespace. With --json: backfillId, and the fields of GetBackfillResponse; of a dry
run, matchedBlockCount. The exit code is 1 when learning from some block failed for good."""


@click.command(cls=Command, help=_HELP)
@click.option(
    "--since",
    "since_time",
    metavar="TIME",
    callback=reads(read_moment),
    help="Such as 30m, 2h, 7d, yesterday, 2026-11-20.",
)
@click.option("--all", "everything", is_flag=True, help="From every block.")
@click.option(
    "--id",
    "backfill_id",
    metavar="ID",
    help="Without --since and --all, looks at a backfill; else names the new one.",
)
@click.option("--dry-run", is_flag=True, help="Count the blocks and do nothing else.")
@click.option("--detach", is_flag=True, help="Do not wait for the end.")
@click.pass_obj
def backfill(
    chosen: Chosen,
    since_time: datetime | None,
    backfill_id: str | None,
    *,
    everything: bool,
    dry_run: bool,
    detach: bool,
) -> int:
    """See the help text."""
    if since_time is not None and everything:
        raise click.UsageError("--since and --all exclude each other")
    starts = since_time is not None or everything
    if not starts and backfill_id is None:
        raise click.UsageError("say since when with --since 2h, or --all; or which one to look at with --id")
    if dry_run and not starts:
        raise click.UsageError("--dry-run counts what --since or --all would take; add one of them")
    name = backfill_id or _new_id(local_now())
    _check_id(name)
    request = None
    if starts:
        request = BackfillRequest(
            namespaces=chosen.namespaces, dry_run=dry_run, backfill_id="" if dry_run else name
        )
        if since_time is not None:
            request.start_time.FromDatetime(since_time)
    try:
        with learner_of(chosen) as learner:
            if request is not None:
                response = learner.Backfill(request, timeout=chosen.timeout_s)
                if dry_run:
                    return _tell_count(chosen, response.matched_block_count)
            return _follow(chosen, learner, name, detach=detach)
    except KeyboardInterrupt:
        if not dry_run:
            remark(f"the backfill goes on in the Learner; look again with: {_look_again(name)}")
        return ExitCode.INTERRUPTED


def _look_again(backfill_id: str) -> str:
    return f"errata backfill --id {backfill_id}"


def _new_id(now: datetime) -> str:
    """Chosen here, not by the Learner: so the backfill can be looked at also when the answer is lost."""
    return f"cli-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _check_id(backfill_id: str) -> None:
    try:
        check_backfill_id("--id", backfill_id)
    except InvalidFieldError as error:
        raise click.UsageError(str(error)) from error


def _tell_count(chosen: Chosen, block_count: int) -> int:
    if chosen.as_json:
        print_json({"matchedBlockCount": block_count})
    else:
        print_text(f"Blocks that match: {block_count:,}. Nothing was done.")
    return ExitCode.DONE


def _follow(chosen: Chosen, learner: LearnerServiceStub, backfill_id: str, *, detach: bool) -> int:
    request = GetBackfillRequest(backfill_id=backfill_id)
    state = learner.GetBackfill(request, timeout=chosen.timeout_s)
    with _bar(shown=not detach) as bar:
        task = bar.add_task(backfill_id, total=state.matched_block_count)
        while not detach and not state.HasField("end_time"):
            bar.update(task, completed=state.done_block_count, total=state.matched_block_count)
            time.sleep(_POLL_S)
            state = learner.GetBackfill(request, timeout=chosen.timeout_s)
    if chosen.as_json:
        print_json({"backfillId": backfill_id, **to_json(state)})
    else:
        _tell(state, _look_again(backfill_id))
    return ExitCode.NOT_DONE if state.failed_block_count else ExitCode.DONE


def _bar(*, shown: bool) -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal))


def _tell(state: GetBackfillResponse, look_again: str) -> None:
    done = f"{state.done_block_count:,} of {state.matched_block_count:,} blocks"
    if state.HasField("end_time"):
        took_s = (state.end_time.ToDatetime() - state.start_time.ToDatetime()).total_seconds()
        print_text(
            f"Done in {length(took_s)}: {done}; examples changed: {state.changed_block_count:,}; "
            f"failed for good: {state.failed_block_count:,}"
        )
    else:
        print_text(f"Running: {done}. Look again with: {look_again}")
    if state.failed_block_count:
        remark("what failed, and why: errata blocks --reason error")
