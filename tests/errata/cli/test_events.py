"""`errata events`: from a table of questions to a log that the Learner follows."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from errata.cli.clock import increasing_clock_us
from errata.cli.commands import errata
from errata.cli.output import whole_file
from errata.cli.rows import BadRow, NumberedRow, Row, read_rows
from errata.v1.block_pb2 import BLOCK_KIND_CODE, BLOCK_KIND_MARKUP, BlockEvent

Run = Callable[..., Result]

ROWS = [
    {"id": "a", "question": "list files", "generated": "dir", "executed": "ls -l"},
    {"question": "disk use", "generated": "df", "executed": "du -sh *\n"},
]
NL2BASH = Path(__file__).parents[3] / "data" / "nl2bash" / "learn.jsonl"


@pytest.fixture
def run() -> Run:
    def invoke(*arguments: object, given: str = "") -> Result:
        return CliRunner().invoke(errata, ["events", *map(str, arguments)], input=given)

    return invoke


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def parsed(log: str) -> list[BlockEvent]:
    return [json_format.Parse(line, BlockEvent()) for line in log.splitlines()]


def test_a_row_becomes_a_proposal_and_a_run(run: Run, table: Path) -> None:
    result = run(table)
    assert result.exit_code == 0
    proposed, ran, *others = parsed(result.stdout)
    assert len(others) == 2
    assert (proposed.block_id, ran.block_id) == ("a", "a")
    [asked] = proposed.generated.doc.blocks
    assert (asked.kind, asked.contents) == (BLOCK_KIND_MARKUP, "list files")
    block = proposed.generated.block
    assert (block.kind, block.language, block.contents) == (BLOCK_KIND_CODE, "bash", "dir")
    assert (ran.executed.block.kind, ran.executed.block.contents) == (BLOCK_KIND_CODE, "ls -l")
    assert (ran.executed.HasField("exit_code"), ran.executed.exit_code) == (True, 0)


def test_times_increase_from_line_to_line(run: Run, table: Path) -> None:
    times_us = [event.event_time.ToMicroseconds() for event in parsed(run(table).stdout)]
    assert len(times_us) == 4
    assert all(earlier < later for earlier, later in pairwise(times_us))


def test_a_row_without_an_id_gets_the_same_one_every_time(run: Run, table: Path) -> None:
    first, second = parsed(run(table).stdout), parsed(run(table).stdout)
    assert first[2].block_id == second[2].block_id
    assert first[2].block_id.startswith("row-")


def test_namespace_and_language_are_as_asked_for(run: Run, table: Path) -> None:
    for event in parsed(run(table, "--namespace", "team-a", "--language", "fish").stdout):
        assert event.namespace == "team-a"
        assert (event.generated.block.language or event.executed.block.language) == "fish"


def test_a_limit_ends_the_log(run: Run, table: Path) -> None:
    assert len(parsed(run(table, "--limit", 1).stdout)) == 2
    assert parsed(run(table, "--limit", 0).stdout) == []


@pytest.mark.parametrize(
    "text",
    [
        "list files\tdir\tls\n",
        "question\tgenerated\texecuted\nlist files\tdir\tls\n",
        "Executed\tid\tQuestion\tGenerated\r\nls\t\tlist files\tdir\r\n",
        "\ufefflist files\tdir\tls",
    ],
)
def test_tab_separated_text_is_taken_with_and_without_a_header(run: Run, text: str) -> None:
    proposed, ran = parsed(run("-", given=text).stdout)
    assert proposed.generated.doc.blocks[0].contents == "list files"
    assert (proposed.generated.block.contents, ran.executed.block.contents) == ("dir", "ls")


def test_quotes_and_backslashes_of_tab_separated_text_are_kept(run: Run) -> None:
    _, ran = parsed(run("-", given='"q"\tx\techo "a\\tb" \'c\'\tid-1\n').stdout)
    assert ran.executed.block.contents == "echo \"a\\tb\" 'c'"
    assert ran.block_id == "id-1"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"question": "q", "generated": "g"}', "executed is missing"),
        ('{"question": " ", "generated": "g", "executed": "e"}', "question is missing or blank"),
        ('{"question": 7, "generated": "g", "executed": "e"}', "question is not a string"),
        ('{"question": "q", "generated": "g", "executed": "e", "id": "a\\u0000"}', "control characters"),
        ('{"question": "\\ud800", "generated": "g", "executed": "e"}', "surrogate"),
        ('{"question": "q"', "not valid JSON"),
        ("[]", "not a JSON object"),
    ],
)
def test_a_malformed_row_is_named_by_its_line(run: Run, table: Path, line: str, says: str) -> None:
    with table.open("a") as file:
        file.write(f"\n{line}\n")
    result = run(table)
    assert result.exit_code == 1
    assert f"{table}, line 4: " in result.stderr
    assert says in result.stderr


def test_a_row_too_large_for_an_event_is_malformed(run: Run) -> None:
    result = run("-", given=f"q\tg\t{'x' * 600_000}\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "line 1: a row of 600,002 bytes" in result.stderr


def test_malformed_rows_can_be_passed_over(run: Run) -> None:
    result = run("-", "--skip-bad", given="q\tg\nq\tg\te\ta\tb\nq\tg\te\n")
    assert result.exit_code == 0
    assert len(parsed(result.stdout)) == 2
    assert "passed over: 2" in result.stderr


def test_a_file_is_written_whole(run: Run, table: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    result = run(table, "--output", logs / "log.jsonl")
    assert (result.exit_code, result.stdout) == (0, "")
    assert len(parsed((logs / "log.jsonl").read_text())) == 4
    assert names(logs) == ["log.jsonl"]


def test_until_it_is_whole_a_file_is_hidden_and_the_old_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("old")
    with whole_file(path) as write:
        write(b"new")
        [hidden] = [name for name in names(tmp_path) if name != path.name]
        assert hidden.startswith(".")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["log.jsonl"]


def test_a_malformed_row_leaves_no_file_behind(run: Run, tmp_path: Path) -> None:
    result = run("-", "--output", tmp_path / "log.jsonl", given="q\tg\te\nq\n")
    assert result.exit_code == 1
    assert names(tmp_path) == []


def test_a_directory_that_does_not_exist_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "log.jsonl"
    with pytest.raises(click.ClickException, match="cannot be written") as caught, whole_file(path):
        pass
    assert str(path) in caught.value.message


def test_a_namespace_that_is_none_is_refused(run: Run, table: Path) -> None:
    result = run(table, "--namespace", "Team A")
    assert result.exit_code == 2
    assert "--namespace" in result.stderr


def test_the_counts_at_the_end_are_json_where_that_is_asked_for(run: Run, table: Path) -> None:
    result = run(table, "--json")
    assert len(parsed(result.stdout)) == 4
    assert json.loads(result.stderr) == {"rowCount": 2, "eventCount": 4, "badRowCount": 0}


def test_the_help_shows_how(run: Run) -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert "errata events history.jsonl --output" in result.stdout


def test_the_command_runs_as_a_program(table: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "errata.cli", "events", table], capture_output=True, text=True, check=True
    )
    assert len(parsed(done.stdout)) == 4


def test_the_real_table_is_taken_whole() -> None:
    with NL2BASH.open("rb") as file:
        rows = [each.row for each in read_rows(file, None)]
    assert len(rows) == 10_594
    assert not [row for row in rows if isinstance(row, BadRow)]
    assert len({row.id for row in rows if isinstance(row, Row)}) == len(rows)


@given(content=st.one_of(st.binary(max_size=200), st.text("qge\t{}\"'\n", max_size=60).map(str.encode)))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_rows_or_bad_rows(content: bytes) -> None:
    numbered: list[NumberedRow] = list(read_rows(io.BytesIO(content), None))
    lines = content.split(b"\n")
    for each in numbered:
        assert lines[each.line_number - 1].strip()
        if isinstance(each.row, Row):
            assert each.row.id


def test_a_clock_that_goes_back_still_gives_later_times() -> None:
    walls = iter([5, 3, 3, 9])
    now_us = increasing_clock_us(lambda: next(walls))
    assert [now_us() for _ in range(4)] == [5, 6, 7, 9]
