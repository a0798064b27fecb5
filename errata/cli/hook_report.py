"""What the shell hook reports: a command line that was run for a question that was open.

The hook writes fields, each ended by a zero byte, to the standard input of `errata record --from-hook`:
nothing of it shows in the list of processes. See `shell_hooks/core.sh`.
"""

import os
import re
from dataclasses import dataclass
from typing import BinaryIO, Final

import click

from errata.cli.asked import Asked, note_problem, read_asked, session_file
from errata.cli.connection import learner_of
from errata.cli.exit_codes import ExitCode
from errata.cli.shared_options import Chosen
from errata.v1.block_pb2 import BLOCK_KIND_CODE, BLOCK_KIND_MARKUP, BlockEvent
from errata.v1.learner_pb2 import RecordEventsRequest

_FIELD_COUNT: Final = 8
_REPORT_BYTES_MAX: Final = 1024 * 1024
"""As for an event. Longer command lines are passed over."""
_CODE: Final = re.compile(r"\d{1,3}", re.ASCII)
_SECONDS: Final = re.compile(r"(\d{1,11})[.,](\d{1,18})", re.ASCII)
_DIRECTORY_KEY: Final = "workingDirectory"
"""Of the metadata of the block that ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One command line, and the question it was run for."""

    asked: Asked
    command: str
    exit_code: int
    ran_us: int | None
    """When it ended, in microseconds since 1970, if the shell knows."""
    directory: str
    shell: str
    """The language of the command: `bash` or `zsh`."""
    teach: bool
    """Whether a success without a proposal counts as taught."""


def record_from_hook(chosen: Chosen, stream: BinaryIO) -> int:
    """Records what the hook wrote. Fails without a word but for a note that `errata doctor` shows."""
    path = session_file(os.environ)
    try:
        report = read_report(stream.read(_REPORT_BYTES_MAX + 1))
        if report is None:
            return ExitCode.USAGE
        with learner_of(chosen) as learner:
            request = RecordEventsRequest(events=report_events(report, chosen.one_namespace()))
            learner.RecordEvents(request, timeout=chosen.timeout_s)
    except click.ClickException as error:
        if path is not None:
            note_problem(path, error.format_message())
        return error.exit_code
    if path is not None:
        note_problem(path, None)
    return ExitCode.DONE


def read_report(content: bytes) -> Report | None:
    """The report; None when the content is none."""
    if len(content) > _REPORT_BYTES_MAX:
        return None
    fields = content.decode(errors="replace").split("\0")
    if len(fields) != _FIELD_COUNT + 1:
        return None
    question, block_id, found, command, code, directory, seconds, mode = fields[:_FIELD_COUNT]
    shell, _, teach = mode.partition("+")
    asked = (
        Asked(block_id=block_id, question=question, proposal="", language=shell, asked_us=0)
        if question
        else read_asked(found)
    )
    if asked is None or not command.strip() or not _CODE.fullmatch(code):
        return None
    return Report(
        asked=asked,
        command=command,
        exit_code=int(code),
        ran_us=_microseconds(seconds),
        directory=directory,
        shell=shell,
        teach=teach == "teach",
    )


def _microseconds(seconds: str) -> int | None:
    """What the shell wrote as seconds, with the decimal separator of its language."""
    match = _SECONDS.fullmatch(seconds)
    return int(match[1]) * 1_000_000 + int(match[2][:6].ljust(6, "0")) if match else None


def report_events(report: Report, namespace: str) -> list[BlockEvent]:
    """What the Learner is told: the proposal, if there was one, and the run; or what counts as taught."""
    asked = report.asked
    ran = BlockEvent(block_id=asked.block_id, namespace=namespace)
    if report.ran_us is None:
        ran.event_time.GetCurrentTime()
    else:
        ran.event_time.FromMicroseconds(report.ran_us)
    if report.teach and not asked.proposal and report.exit_code == 0:
        ran.taught.query.blocks.add(kind=BLOCK_KIND_MARKUP, contents=asked.question)
        ran.taught.answer.add(kind=BLOCK_KIND_CODE, language=report.shell, contents=report.command)
        return [ran]
    block = ran.executed.block
    block.kind = BLOCK_KIND_CODE
    block.language = report.shell
    block.contents = report.command
    block.metadata[_DIRECTORY_KEY] = report.directory
    ran.executed.exit_code = report.exit_code
    ran.executed.doc.blocks.add(kind=BLOCK_KIND_MARKUP, contents=asked.question)
    if not asked.proposal:
        return [ran]
    proposed = BlockEvent(block_id=asked.block_id, namespace=namespace)
    proposed.event_time.FromMicroseconds(asked.asked_us)
    proposed.generated.doc.CopyFrom(ran.executed.doc)
    proposed.generated.block.kind = BLOCK_KIND_CODE
    proposed.generated.block.language = asked.language
    proposed.generated.block.contents = asked.proposal
    return [proposed, ran]
