"""What is printed: nothing that a terminal would obey, whole rows for grep, colours for people alone."""

import re

import pytest

from errata.cli.printing import Column, on_one_line, plain, print_table, print_text, print_verbatim
from errata.cli.sizes import written_bytes


def test_control_characters_are_written_as_escapes() -> None:
    assert plain("a\x1b[31mb\x07\u202ec\td\n") == "a\\x1b[31mb\\x07\\u202ec\td\n"
    assert on_one_line("  a\n\n b\t\x1b ") == "a b \\x1b"


def test_markup_in_what_services_send_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_text("[bold]x[/bold] :smile:")
    print_table([Column("[red]t")], [["[link=http://x]y[/link]"]])
    out = capsys.readouterr().out
    assert "[bold]x[/bold] :smile:" in out
    assert "[link=http://x]y[/link]" in out
    assert "\x1b" not in out


def test_away_from_a_terminal_rows_are_neither_wrapped_nor_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    long = "word " * 200
    print_table([Column("id"), Column("text", "cut"), Column("other", "fold")], [["a", long, long]])
    assert capsys.readouterr().out.splitlines()[-1].count("word") == 400


def test_to_a_terminal_a_table_is_cut_to_its_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What makes any output count as a terminal's.
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    print_table([Column("id"), Column("text", "cut")], [["a-long-id", "word " * 20]])
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert all(len(line) <= 40 for line in lines)
    assert lines[-1].startswith("a-long-id")
    assert lines[-1].endswith("…")


def test_cells_align_under_their_titles(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([Column("id"), Column("n", right=True)], [["a", "1"], ["bbb", "1,000"]])
    title, _, first, second = capsys.readouterr().out.splitlines()
    assert len(title) == len(first) == len(second)


def test_what_people_copy_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_verbatim("for x in *; do\n  echo $x\ndone", indent=2)
    assert capsys.readouterr().out == "  for x in *; do\n    echo $x\n  done\n"


def test_sizes_are_written_in_the_unit_that_fits() -> None:
    sizes = [0, 1_023, 1_024, 1_536, 64 * 1024**3, 5_000 * 1024**4]
    assert [written_bytes(size) for size in sizes] == [
        "0 bytes", "1023 bytes", "1 KiB", "1.5 KiB", "64 GiB", "5000 TiB",
    ]  # fmt: skip
