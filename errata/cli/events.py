"""`errata events`: makes a log of events, which the Learner follows, from a table of questions."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, Final, cast

import click
from google.protobuf import json_format
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from errata.cli.clock import increasing_clock_us
from errata.cli.output import whole_file
from errata.cli.rows import BadRow, Format, NumberedRow, Row, read_rows
from errata.cli.shared_options import Chosen, Command
from errata.serving.fields import InvalidFieldError, check_block_id
from errata.v1.block_pb2 import BLOCK_KIND_CODE, BLOCK_KIND_MARKUP, BlockEvent

_EVENT_BYTES_MAX: Final = 1024 * 1024
"""See BlockEvent: the Learner refuses larger ones."""

_HELP: Final = """Turns a table of questions into a log that the Learner learns from.

Each row says what was asked, what an assistant proposed, and what a person ran instead, and becomes two
events of one block: it was generated, then it was run with success. The Learner follows directories of such
logs (errata-learner --log-dir), so writing one into such a directory teaches it everything in it.

FILE holds JSON lines with the keys question, generated, executed and, if you like, id; or the same columns as
tab-separated text, with or without a first line that names them. `-` reads standard input.

\b
Examples:
  errata events history.jsonl --output logs/history.jsonl
  errata events history.tsv --limit 100 | head -2
  printf 'list files\\tdir\\tls -l\\n' | errata events - --namespace team-a

A row without an id gets one made from its text, so the same row always means the same block, and writing it
again teaches nothing twice. The log is JSON in any case; with --json so are the counts at the end. With
--output the log appears at once and whole; without, it goes to standard output."""


@click.command(cls=Command, help=_HELP)
@click.argument("file", type=click.File("rb"))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the log here, in one piece: whoever follows the directory never sees half of it.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "tsv"]),
    help="How FILE is written. Default: told by its first line.",
)
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="Stop after N rows.")
@click.option("--language", default="bash", show_default=True, help="Language of the commands.")
@click.option(
    "--skip-bad", is_flag=True, help="Pass over malformed rows and count them, instead of stopping."
)
@click.pass_obj
def events(
    chosen: Chosen,
    file: BinaryIO,
    output: Path | None,
    form: Format | None,
    limit: int | None,
    language: str,
    *,
    skip_bad: bool,
) -> None:
    """See the help text."""
    namespace = chosen.one_namespace()
    destination: AbstractContextManager[Callable[[bytes], object]] = (
        _standard_output() if output is None else whole_file(output)
    )
    clock_us = increasing_clock_us()
    file_name = getattr(file, "name", "<stdin>")
    row_count = skipped_count = 0
    with destination as write, _progress(file) as report:
        for numbered in read_rows(_reported(file, report), form):
            if limit is not None and row_count >= limit:
                break
            try:
                row = _good_row(file_name, numbered)
            except click.ClickException:
                if not skip_bad:
                    raise
                skipped_count += 1
                continue
            row_count += 1
            for event in row_events(row, namespace=namespace, language=language, clock_us=clock_us):
                write(json_format.MessageToJson(event, indent=None, ensure_ascii=False).encode() + b"\n")
    if chosen.as_json:
        counts = {"rowCount": row_count, "eventCount": 2 * row_count, "badRowCount": skipped_count}
        click.echo(json.dumps(counts), err=True)
        return
    where = "standard output" if output is None else str(output)
    skipped = f"; malformed rows passed over: {skipped_count:,}" if skipped_count else ""
    click.echo(f"rows: {row_count:,}, events: {2 * row_count:,}, written to {where}{skipped}", err=True)


def row_events(
    row: Row, *, namespace: str, language: str, clock_us: Callable[[], int]
) -> tuple[BlockEvent, BlockEvent]:
    """The proposal and the run that a row stands for.

    Args:
        row: the row.
        namespace: of the block.
        language: of the commands.
        clock_us: gives each event a time, microseconds since 1970; must increase with every call.
    """
    proposed = BlockEvent(block_id=row.id, namespace=namespace)
    proposed.event_time.FromMicroseconds(clock_us())
    proposed.generated.doc.blocks.add(kind=BLOCK_KIND_MARKUP, contents=row.question)
    proposed.generated.block.id = row.id
    proposed.generated.block.kind = BLOCK_KIND_CODE
    proposed.generated.block.language = language
    proposed.generated.block.contents = row.generated
    ran = BlockEvent(block_id=row.id, namespace=namespace)
    ran.event_time.FromMicroseconds(clock_us())
    ran.executed.block.CopyFrom(proposed.generated.block)
    ran.executed.block.contents = row.executed
    ran.executed.exit_code = 0
    return proposed, ran


def _good_row(file_name: str, numbered: NumberedRow) -> Row:
    where = f"{file_name}, line {numbered.line_number}"
    row = numbered.row
    if isinstance(row, BadRow):
        raise click.ClickException(f"{where}: {row.problem} (--skip-bad passes over such rows)")
    try:
        check_block_id("id", row.id)
    except InvalidFieldError as error:
        raise click.ClickException(f"{where}: {error} (--skip-bad passes over such rows)") from error
    size_bytes = sum(len(text.encode()) for text in (row.question, row.generated, row.executed))
    if size_bytes > _EVENT_BYTES_MAX // 2:
        raise click.ClickException(f"{where}: a row of {size_bytes:,} bytes makes too large an event")
    return row


@contextmanager
def _standard_output() -> Iterator[Callable[[bytes], object]]:
    yield sys.stdout.buffer.write
    sys.stdout.buffer.flush()


@contextmanager
def _progress(file: BinaryIO) -> Iterator[Callable[[int], None]]:
    """Shows how much of the file was read, on standard error, where somebody can see it."""
    console = Console(stderr=True)
    # Where the log itself goes to the terminal, a bar would be written over it.
    shown = console.is_terminal and not sys.stdout.isatty()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not shown) as progress:
        task = progress.add_task("reading", total=_size_bytes(file))
        yield lambda byte_count: progress.advance(task, byte_count)


def _size_bytes(file: BinaryIO) -> int | None:
    if not file.seekable():
        return None
    position = file.tell()
    size_bytes = file.seek(0, 2)
    file.seek(position)
    return size_bytes - position


def _reported(file: BinaryIO, report: Callable[[int], None]) -> Iterator[bytes]:
    for line in cast("Iterator[bytes]", file):
        report(len(line))
        yield line
