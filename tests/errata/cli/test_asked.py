"""The question that a shell session asked last, and what the hook reports."""

import json
import os
import stat
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from errata.cli.asked import Asked, note_problem, noted_problem, read_asked, remember, session_file
from errata.cli.hook_report import read_report, report_events

ASKED = Asked(
    block_id="shell-1", question="list files", proposal="dir", language="bash", asked_us=1_700_000_000_000_000
)


def report(**changed: str) -> bytes:
    fields = {
        "question": "list files",
        "id": "shell-2",
        "found": "",
        "command": "ls -l",
        "code": "0",
        "directory": "/srv",
        "seconds": "1700000001.25",
        "mode": "zsh+run",
    }
    return "".join(f"{value}\0" for value in {**fields, **changed}.values()).encode()


def test_a_question_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "errata" / "session-1"
    remember(path, ASKED)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert read_asked(path.read_text()) == ASKED


def test_a_link_that_somebody_else_put_there_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("untouched")
    (tmp_path / "session-1").symlink_to(target)
    remember(tmp_path / "session-1", ASKED)
    assert target.read_text() == "untouched"


def test_questions_of_sessions_long_gone_are_removed(tmp_path: Path) -> None:
    old, other = tmp_path / "session-old", tmp_path / "other"
    old.write_text("x")
    other.write_text("x")
    week_ago_s = time.time() - 8 * 86_400
    os.utime(old, (week_ago_s, week_ago_s))
    os.utime(other, (week_ago_s, week_ago_s))
    remember(tmp_path / "session-new", ASKED)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "session-new"]


def test_without_the_hook_there_is_no_session(tmp_path: Path) -> None:
    assert session_file({}) is None
    assert session_file({"ERRATA_SESSION": "relative"}) is None
    assert session_file({"ERRATA_SESSION": str(tmp_path / "s")}) == tmp_path / "s"


def test_what_is_no_question_is_none() -> None:
    wrong = json.dumps({**json.loads(json.dumps({"block_id": 1})), "question": "q"})
    assert [read_asked(text) for text in ("", "{", "[]", "{}", wrong, "[" * 10_000)] == [None] * 6


@given(st.binary(max_size=200))
def test_any_bytes_are_a_report_or_none(content: bytes) -> None:
    found = read_report(content)
    assert found is None or found.command.strip()


def test_a_command_without_a_proposal_is_a_run_with_its_directory() -> None:
    found = read_report(report(code="3"))
    assert found is not None
    [ran] = report_events(found, "team-a")
    assert (ran.block_id, ran.namespace) == ("shell-2", "team-a")
    assert ran.executed.block.contents == "ls -l"
    assert ran.executed.block.language == "zsh"
    assert ran.executed.block.metadata["workingDirectory"] == "/srv"
    assert ran.executed.exit_code == 3
    assert ran.event_time.ToMicroseconds() == 1_700_000_001_250_000
    assert ran.executed.doc.blocks[0].contents == "list files"


def test_after_a_search_the_best_answer_counts_as_proposed_when_it_was_shown() -> None:
    found = read_report(report(question="", found='{"block_id": "b", "question": "list files", '
        '"proposal": "dir", "language": "bash", "asked_us": 1700000000000000}'))  # fmt: skip
    assert found is not None
    proposed, ran = report_events(found, "")
    assert proposed.generated.block.contents == "dir"
    assert proposed.event_time.ToMicroseconds() == 1_700_000_000_000_000
    assert proposed.block_id == ran.block_id == "b"
    assert ran.event_time.ToMicroseconds() > proposed.event_time.ToMicroseconds()


def test_a_success_without_a_proposal_is_taught_where_that_is_asked_for() -> None:
    success, failed = read_report(report(mode="bash+teach")), read_report(report(mode="bash+teach", code="1"))
    assert success is not None
    assert failed is not None
    assert report_events(success, "")[0].taught.answer[0].contents == "ls -l"
    assert report_events(failed, "")[0].HasField("executed")


def test_the_time_is_read_with_any_separator_and_is_now_where_the_shell_knows_none() -> None:
    comma, none = read_report(report(seconds="1700000001,123456789")), read_report(report(seconds=""))
    assert comma is not None
    assert none is not None
    assert report_events(comma, "")[0].event_time.ToMicroseconds() == 1_700_000_001_123_456
    assert abs(report_events(none, "")[0].event_time.ToSeconds() - time.time()) < 60


def test_a_report_that_is_cut_or_too_large_is_passed_over() -> None:
    assert read_report(report()[:-1]) is None
    assert read_report(report(command=" ")) is None
    assert read_report(report(code="-1")) is None
    assert read_report(report(command="x" * 2_000_000)) is None


def test_why_the_hook_failed_is_noted_until_it_succeeds(tmp_path: Path) -> None:
    session = tmp_path / "errata" / "session-1"
    assert noted_problem(session) is None
    note_problem(session, "no Learner")
    noted = noted_problem(session)
    assert noted is not None
    assert noted[0] == "no Learner"
    note_problem(session, None)
    assert noted_problem(session) is None
