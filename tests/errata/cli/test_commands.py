"""The command line as a whole: its commands, the options of every command, and how it ends."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from errata.cli.commands import COMMANDS, errata
from errata.cli.exit_codes import MEANINGS, ExitCode
from errata.cli.shared_options import Chosen, Command
from tests.errata.cli.running import Cli

DOCUMENTATION = Path(__file__).parents[3] / "docs" / "cli.md"
NAMES = [name for section in COMMANDS.values() for name in section]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_says_what_it_does_with_an_example(name: str) -> None:
    shown = Cli().out(name, "--help")
    assert shown.count(f"errata {name}") >= 2
    assert "Options of every command" in shown
    assert all(flag in shown for flag in ("--learner", "--rag", "--namespace", "--json", "--timeout"))


def test_the_help_lists_every_command_and_every_exit_code() -> None:
    shown = Cli().out("--help")
    assert all(f"  {name} " in shown for name in NAMES)
    assert set(MEANINGS) == set(ExitCode)
    assert all(meaning in shown for meaning in MEANINGS.values())


def test_the_documentation_lists_every_command_and_every_exit_code() -> None:
    text = DOCUMENTATION.read_text()
    assert [name for name in NAMES if f"errata {name}" not in text and f"`{name}`" not in text] == []
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", text, re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == dict(MEANINGS)


def test_the_help_imports_neither_grpc_nor_protobuf_nor_rich() -> None:
    program = (
        "import sys, atexit\n"
        "atexit.register(lambda: sys.stderr.write(' '.join(sys.modules)))\n"
        "from errata.cli.__main__ import main\n"
        "sys.argv = ['errata', '--help']\n"
        "main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in ended.stderr.split()}
    assert "click" in loaded
    assert not loaded & {"grpc", "rich", "numpy"}
    assert "google.protobuf" not in ended.stderr.split()


def test_a_command_that_does_not_exist_names_what_was_meant() -> None:
    result = Cli()("serch", "x")
    assert result.exit_code == ExitCode.USAGE
    assert "Did you mean search" in result.stderr


def chosen_by(*arguments: str, environ: Mapping[str, str] | None = None) -> Chosen:
    """What the options say to a command."""
    seen: list[Chosen] = []

    @click.command("look", cls=Command)
    @click.pass_obj
    def look(chosen: Chosen) -> None:
        seen.append(chosen)

    class WithLook(type(errata)):  # type: ignore[misc]  # the class of the group is private
        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
            del ctx, cmd_name
            return look

    group: Any = WithLook(params=errata.params, callback=lambda: None)
    from click.testing import CliRunner  # noqa: PLC0415 - of this helper alone

    result = CliRunner(env=environ or {}).invoke(group, [*arguments])
    assert result.exit_code == 0, result.output
    return seen[0]


def test_the_options_of_every_command_stand_before_its_name_or_after_it() -> None:
    before = chosen_by(
        "--learner", "a:1", "--rag", "b:2", "--namespace", "n", "--timeout", "2m", "--json", "look"
    )
    after = chosen_by(
        "look", "--learner", "a:1", "--rag", "b:2", "--namespace", "n", "--timeout", "2m", "--json"
    )
    assert before == after
    assert (str(after.learner), str(after.rag)) == ("a:1", "b:2")
    assert (after.namespaces, after.timeout_s, after.as_json) == (("n",), 120.0, True)


def test_what_stands_later_goes_before_what_stands_earlier_and_both_before_the_variable() -> None:
    environ = {"ERRATA_LEARNER": "variable:1", "ERRATA_NAMESPACE": ",team-a", "ERRATA_RAG": ""}
    assert str(chosen_by("look", environ=environ).learner) == "variable:1"
    assert str(chosen_by("--learner", "flag:1", "look", environ=environ).learner) == "flag:1"
    assert str(chosen_by("--learner", "flag:1", "look", "--learner", "b:1", environ=environ).learner) == "b:1"
    assert chosen_by("look", environ=environ).namespaces == ("", "team-a")
    assert chosen_by("look", "--namespace", "x", environ=environ).namespaces == ("x",)
    assert str(chosen_by("look", environ=environ).rag) == "127.0.0.1:7412"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("status", "--learner", "localhost"), "has no port; write HOST:PORT"),
        (("status", "--timeout", "soon"), "such as 2h"),
        (("status", "--timeout", "0"), "more than 0"),
        (("blocks", "--namespace", "Team A"), "a namespace is up to 63"),
        (("explain", ""), "1 to 255 bytes"),
        (("explain", "a\tb"), "control characters"),
        (("explain", "x", "--namespace", "a", "--namespace", "b"), "one namespace at a time"),
        (("record", "ls"), "the question is needed"),
        (("record", "-q", "q"), "the command that was run is needed"),
        (("record", "-q", "q", "ls", "--label", "team"), "write KEY=VALUE"),
        (("teach", " ", "ls"), "the question is blank"),
        (("search", " "), "the question is needed"),
        (("search", "a", "b", "--cursor", "3"), "--cursor needs one notebook"),
        (("search", "missing.md", "--cursor", "3"), "cannot be read"),
        (("search", "q", "--since", "soon"), "write how long ago"),
        (("search", "q", "--token", "%"), "give it as it was printed"),
        (("blocks", "--reason", "bored"), "not-executed"),
        (("backfill",), "--since 2h, or --all"),
        (("backfill", "--all", "--since", "2h"), "exclude each other"),
        (("backfill", "--id", "x", "--dry-run"), "add one of them"),
        (("backfill", "--id", "A B"), "a backfill ID is"),
        (("forget", "x"), "add --yes"),
        (("shell-hook", "fish"), "'bash', 'zsh'"),
    ],
)
def test_a_slip_of_the_pen_is_told_with_the_way_out(arguments: tuple[str, ...], says: str) -> None:
    result = Cli()(*arguments)
    assert result.exit_code == ExitCode.USAGE
    assert says in result.stderr
    assert says in Cli().error(*arguments)["message"]


def test_what_is_not_utf8_is_refused_wherever_it_comes_from() -> None:
    argument = Cli()("teach", "q", "a\udcff")
    assert argument.exit_code == ExitCode.USAGE
    assert "is not UTF-8" in argument.stderr
    program = [sys.executable, "-m", "errata.cli", "teach", "q", "-"]
    given = subprocess.run(program, input=b"ls \xff", capture_output=True, check=False)
    assert given.returncode == ExitCode.USAGE
    assert b"standard input is not UTF-8: byte 3" in given.stderr


def test_who_has_read_enough_ends_the_command_without_a_word(tmp_path: Path) -> None:
    row = {"question": "q", "generated": "g", "executed": "e"}
    rows = "".join(json.dumps({**row, "executed": f"e{number}"}) + "\n" for number in range(20_000))
    (tmp_path / "rows.jsonl").write_text(rows)
    script = f"{sys.executable} -m errata.cli events rows.jsonl 2>stderr | head -1 >first"
    subprocess.run(["/bin/sh", "-c", script], cwd=tmp_path, check=True)
    assert (tmp_path / "first").read_text().startswith("{")
    assert (tmp_path / "stderr").read_text() == ""
