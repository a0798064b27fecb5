"""`errata search`: finds what people ran for a question like the one asked."""

import os
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click

from errata.cli.asked import Asked, remember, session_file
from errata.cli.connection import rag_of
from errata.cli.example_text import print_example
from errata.cli.json_text import to_json
from errata.cli.notebook import read_notebook
from errata.cli.printing import print_json, remark
from errata.cli.reading import read_labels, read_moment, read_token, reads, reads_all, text_of
from errata.cli.shared_options import Chosen, Command
from errata.cli.times import length, local_now
from errata.client.answers import Match
from errata.client.few_shot import few_shot_section
from errata.client.token_count import estimate_tokens
from errata.v1.block_pb2 import Doc
from errata.v1.rag_pb2 import SearchRequest, SearchResponse

_MARKDOWN: Final = (".md", ".markdown")
_LIMIT: Final = 3
_PROMPT_LIMIT: Final = 20
"""The tokens are the bound there; more examples than these seldom help."""

_HELP: Final = """Finds what people ran for a question like yours, best first.

TEXT is the question; `-` reads it from standard input. Of a Markdown notebook, the question is what stands at
the cursor and the prose before it, as an editor would ask; the cursor is a line, by default the last.

\b
Examples:
  errata search what is listening on port 80
  errata search runbook.md --cursor 42
  errata search 'restart nginx' --limit 10 --min-score 0.6 --language bash
  errata search 'restart nginx' --prompt 1000 >> prompt.md
  errata search 'restart nginx' --json | jq -r '.results[0].example.answer[0].contents'

The score is the cosine of the angle between the question asked and the one that was learned from: 1 is the
same. In a shell with the hook (errata shell-hook), the best answer counts as proposed for what you run next.

With --json: the SearchResponse; its token makes another search see at least the same state. With --prompt
too: {"prompt": ..., "tokens": an estimate that is rather too high}."""


@click.command(cls=Command, help=_HELP)
@click.argument("words", nargs=-1, required=True, metavar="TEXT... | NOTEBOOK.md")
@click.option(
    "--cursor", type=click.IntRange(min=1), metavar="LINE", help="Where the cursor is in NOTEBOOK.md."
)
@click.option(
    "--limit",
    type=click.IntRange(1, 100),
    metavar="N",
    help="At most this many. [default: 3; with --prompt 20]",
)
@click.option(
    "--prompt",
    "prompt_tokens",
    type=click.IntRange(min=1),
    metavar="TOKENS",
    help="Print the best that fit as a section of a prompt, and nothing else.",
)
@click.option("--min-score", type=click.FloatRange(-1, 1), metavar="X", help="Leave out what scores less.")
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only with this label; repeatable.",
    callback=reads_all(read_labels),
)
@click.option(
    "--language", "languages", multiple=True, metavar="NAME", help="Only answers in it; repeatable."
)
@click.option(
    "--since",
    "since_time",
    metavar="TIME",
    callback=reads(read_moment),
    help="Only what was run since, such as 7d or 2026-11-20.",
)
@click.option(
    "--diversity", type=click.FloatRange(0, 1), default=0.0, metavar="X", help="Variety instead of likeness."
)
@click.option(
    "--per-question", type=click.IntRange(min=1), metavar="N", help="Answers of one question. [default: 1]"
)
@click.option(
    "--token",
    metavar="TOKEN",
    callback=reads(read_token),
    help="Wait for a state, as a command printed it with --json.",
)
@click.pass_obj
def search(
    chosen: Chosen,
    *,
    words: Sequence[str],
    cursor: int | None,
    limit: int | None,
    prompt_tokens: int | None,
    min_score: float | None,
    labels: Mapping[str, str],
    languages: Sequence[str],
    since_time: datetime | None,
    diversity: float,
    per_question: int | None,
    token: bytes | None,
) -> None:
    """See the help text."""
    request = SearchRequest(
        limit=limit or (_LIMIT if prompt_tokens is None else _PROMPT_LIMIT),
        diversity=diversity,
        min_score=min_score,
        per_question_limit=per_question,
    )
    _ask(request, words, cursor)
    request.filter.namespaces.extend(chosen.namespaces)
    request.filter.labels.update(labels)
    request.filter.languages.extend(languages)
    if since_time is not None:
        request.filter.executed_since.FromDatetime(since_time)
    if token is not None:
        request.min_token = token
        request.max_wait.FromMicroseconds(round(chosen.timeout_s * 1_000_000))
    with rag_of(chosen) as rag:
        response = rag.Search(request, timeout=chosen.timeout_s)
    if prompt_tokens is not None:
        _print_prompt(response, prompt_tokens, as_json=chosen.as_json)
        return
    if chosen.as_json:
        print_json(to_json(response))
        return
    _show(response)
    # Only for a person who sees the proposals: not for a script that runs in the same session.
    path = session_file(os.environ)
    if path is not None and sys.stdout.isatty():
        _remember(path, response)


def _ask(request: SearchRequest, words: Sequence[str], cursor: int | None) -> None:
    path = Path(words[0])
    is_notebook = len(words) == 1 and path.suffix.lower() in _MARKDOWN and path.is_file()
    if cursor is None and not is_notebook:
        request.text = text_of(words, "the question")
        return
    if len(words) != 1:
        raise click.UsageError("--cursor needs one notebook: errata search NOTEBOOK.md --cursor LINE")
    doc, selected_index = _notebook(path, cursor)
    request.doc.CopyFrom(doc)
    if selected_index is not None:
        request.selected_index = selected_index


def _notebook(path: Path, cursor: int | None) -> tuple[Doc, int | None]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{path} is not UTF-8: byte {error.start} is not; save it as UTF-8") from error
    notebook = read_notebook(text)
    return notebook.doc, None if cursor is None else notebook.index_at(cursor)


def _print_prompt(response: SearchResponse, tokens_max: int, *, as_json: bool) -> None:
    """Writes the examples as a section of a prompt; nothing when there are none, as callers append it."""
    matches = [Match(result.example, result.score) for result in response.results]
    section = few_shot_section(matches, max_tokens=tokens_max)
    if as_json:
        print_json({"prompt": section, "tokens": estimate_tokens(section)})
    else:
        click.echo(section, nl=False)


def _show(response: SearchResponse) -> None:
    now = local_now()
    for result in response.results:
        print_example(result.example, now, mark=f"{result.score:.2f}")
    if not response.query_text:
        remark("nothing was asked: the question is blank, or the notebook has no prose before the cursor")
    elif not response.results:
        below = response.below_min_score_count
        remark(f"nothing found{f'; {below} scored less than --min-score' if below else ''}")
    if response.omitted_result_count:
        remark(f"left out for their size: {response.omitted_result_count}; ask with a smaller --limit")
    if response.degraded:
        staleness = length(response.staleness.ToTimedelta().total_seconds())
        remark(
            f"the RAG service last heard {staleness} ago that it is up to date: newer answers may be missing"
        )


def _remember(path: Path, response: SearchResponse) -> None:
    if not response.query_text:
        return
    best: dict[str, Any] = {"proposal": "", "language": ""}
    if response.results and response.results[0].example.answer:
        block = response.results[0].example.answer[0]
        best = {"proposal": block.contents, "language": block.language}
    asked = Asked(
        block_id=f"shell-{secrets.token_hex(8)}",
        question=response.query_text,
        asked_us=time.time_ns() // 1_000,
        **best,
    )
    remember(path, asked)
