"""Each command against services that run."""

import json
from pathlib import Path

import pytest

from errata.cli.exit_codes import ExitCode
from scripts.processes import start
from tests.e2e.services import Services, free_address, until
from tests.errata.cli.running import Cli

pytestmark = pytest.mark.slow

NOTEBOOK = """\
# Ports

Which process listens on port 80?

```bash
netstat -a
```

List the largest files.
"""


def correct(cli: Cli, block_id: str, question: str, ran: str) -> str:
    """Records a correction that is learned; returns the token with which a search sees it."""
    recorded = cli.json("record", "-q", question, "--proposed", f"not {ran}", "--id", block_id, ran)
    assert recorded["state"]["learned"]
    token: str = recorded["token"]
    return token


def test_a_correction_that_is_recorded_is_found(cli: Cli) -> None:
    token = correct(cli, "found", "which process listens on port 80?", "ss -ltnp 'sport = :80'")
    shown = cli.out("search", "what", "listens on port 80", "--token", token)
    assert "which process listens on port 80?" in shown
    assert "       ss -ltnp 'sport = :80'\n" in shown
    assert "found in a_correction_that_is_recorded_is_found: correction" in shown
    answer = cli.json("search", "what listens on port 80", "--token", token)
    assert answer["results"][0]["example"]["id"] == "found"
    assert f"{answer['results'][0]['score']:5.2f}" in shown


def test_a_search_writes_the_section_of_a_prompt_within_its_tokens(cli: Cli) -> None:
    for number in range(8):
        token = correct(
            cli, f"b{number}", f"how do I restart server {number}", f"systemctl restart web{number}"
        )
    section = cli.out("search", "restart server 3", "--prompt", 200, "--token", token)
    assert section.rstrip().endswith("```bash\nsystemctl restart web3\n```")
    small = cli.json("search", "restart server 3", "--prompt", 130, "--token", token)
    assert 0 < small["tokens"] <= 130
    assert len(small["prompt"]) < len(section)
    assert cli.out("search", "restart server 3", "--prompt", 1) == ""


def test_a_search_reads_the_question_at_the_cursor_of_a_notebook(cli: Cli, tmp_path: Path) -> None:
    correct(cli, "port", "Which process listens on port 80?", "ss -ltnp")
    token = correct(cli, "files", "List the largest files.", "du -ah | sort -h")
    path = tmp_path / "ports.md"
    path.write_text(NOTEBOOK)
    by_cursor = {
        line: cli.json("search", path, "--cursor", line, "--token", token, "--limit", 1) for line in (3, 9)
    }
    assert by_cursor[3]["queryText"] == "# Ports\n\nWhich process listens on port 80?"
    assert by_cursor[9]["queryText"] == "List the largest files."
    assert by_cursor[9]["results"][0]["example"]["id"] == "files"
    assert cli.json("search", path)["queryText"] == by_cursor[9]["queryText"]


def test_a_search_that_finds_nothing_is_done_and_says_so(cli: Cli) -> None:
    result = cli("search", "anything at all")
    assert (result.exit_code, result.stdout) == (ExitCode.DONE, "")
    assert "nothing found" in result.stderr


def test_a_notebook_without_a_question_asks_nothing_and_says_so(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "empty.md"
    path.write_text("\n")
    result = cli("search", path)
    assert (result.exit_code, result.stdout) == (ExitCode.DONE, "")
    assert "nothing was asked" in result.stderr


def test_a_search_is_narrowed_by_its_filters(cli: Cli) -> None:
    cli.out("teach", "rows by day", "select 1", "--language", "sql", "--label", "team=data", "--id", "sql")
    token = cli.json("teach", "rows by day", "wc -l", "--id", "sh")["token"]

    def found(*flags: object) -> set[str]:
        answer = cli.json("search", "rows by day", "--token", token, "--per-question", 9, *flags)
        return {result["example"]["id"] for result in answer["results"]}

    assert found() == {"sql", "sh"}
    assert found("--language", "sql") == found("--label", "team=data") == {"sql"}
    assert found("--since", "1h") == {"sql", "sh"}
    assert found("--since", "2100-01-01") == set()
    shown = cli("search", "rows by night", "--token", token, "--min-score", 0.999)
    assert "scored less than --min-score" in shown.stderr


def test_a_run_that_failed_is_recorded_and_says_why_nothing_is_learned(cli: Cli) -> None:
    shown = cli.out(
        "record", "-q", "restart it", "--exit-code", 1, "--id", "f", "--", "systemctl", "restart", "a b"
    )
    assert "Not learned (failed)" in shown
    block = cli.json("explain", "f")["block"]
    assert block["executedBlock"]["contents"] == "systemctl restart 'a b'"
    assert block["exitCode"] == 1


def test_what_is_taught_is_read_from_standard_input_too(cli: Cli) -> None:
    taught = cli.json("teach", "back it up", "-", "--id", "t", given="tar cf x.tar x\nsync\n")
    assert taught["state"]["learned"]
    explained = cli.out("explain", "t")
    assert "Learned as (taught)" in explained
    assert "  tar cf x.tar x\n  sync\n" in explained or "→ tar cf x.tar x\n  sync\n" in explained


def test_a_block_is_explained_with_what_was_proposed_run_and_learned(cli: Cli) -> None:
    correct(cli, "cell-1", "which user am I", "id -un")
    shown = cli.out("explain", "cell-1")
    for part in (
        "Block cell-1",
        "Learned.",
        "Proposed\n  not id -un",
        "Run\n  id -un",
        "Learned as (correction)",
    ):
        assert part in shown
    assert cli.json("explain", "cell-1")["state"]["learned"] is True


def test_blocks_are_listed_by_reason(cli: Cli) -> None:
    correct(cli, "good", "a question", "true")
    cli.out("record", "-q", "another", "--id", "alone", "true")
    cli.out("record", "-q", "a third", "--exit-code", 3, "--id", "bad", "false")
    listed = cli.json("blocks", "--reason", "not-generated", "--reason", "failed")
    assert [block["key"]["id"] for block in listed["blocks"]] == ["bad", "alone"]
    assert listed["more"] is False
    assert cli.json("blocks", "--limit", 2)["more"] is True
    rows = cli.out("blocks").splitlines()
    assert [row.split()[0] for row in rows[2:]] == ["bad", "alone", "good"]
    assert "not-generated" in rows[3]
    assert "there are more" in cli("blocks", "--limit", 1).stderr
    assert len(cli.json("blocks", "--all")["blocks"]) == 3


def test_examples_are_listed_with_question_and_answer(cli: Cli) -> None:
    cli.out("teach", "how to list", "ls -l", "--id", "one", "--label", "team=a")
    cli.out("teach", "how to count", "wc -l", "--id", "two")
    assert [example["id"] for example in cli.json("examples")["examples"]] == ["two", "one"]
    assert [example["id"] for example in cli.json("examples", "--label", "team=a")["examples"]] == ["one"]
    shown = cli.out("examples", "--limit", 1)
    assert "how to count" in shown
    assert "wc -l" in shown
    assert "how to list" not in shown


def test_a_block_is_reconciled_at_once(cli: Cli) -> None:
    correct(cli, "now", "what time is it", "date")
    again = cli.json("reconcile", "now")
    assert again["outcome"] == "RECONCILE_OUTCOME_UNCHANGED"
    assert again["state"]["learned"] is True
    assert "already was as it should be" in cli.out("reconcile", "now")


def test_what_is_forgotten_is_gone_for_good(cli: Cli) -> None:
    correct(cli, "secret", "log in as root", "su -")
    forgotten = cli.json("forget", "secret", "never-seen", "--yes")["forgotten"]
    assert [each["id"] for each in forgotten] == ["secret", "never-seen"]
    assert cli.json("search", "log in as root", "--token", forgotten[0]["token"])["results"] == []
    assert "Not learned (forgotten)" in cli.out("explain", "secret")
    assert cli.json("examples")["examples"] == []


def test_a_backfill_ends_and_can_be_looked_at_again(cli: Cli) -> None:
    for number in range(3):
        correct(cli, f"b{number}", f"question {number}", f"echo {number}")
    assert cli.json("backfill", "--since", "1h", "--dry-run") == {"matchedBlockCount": 3}
    done = cli.json("backfill", "--since", "1h", "--id", "by-name")
    assert done["backfillId"] == "by-name"
    assert (done["matchedBlockCount"], done["doneBlockCount"], done["failedBlockCount"]) == (3, 3, 0)
    assert cli.json("backfill", "--id", "by-name") == done
    assert "3 of 3 blocks" in cli.out("backfill", "--id", "by-name")
    assert cli.json("backfill", "--since", "2100-01-01", "--dry-run") == {"matchedBlockCount": 0}


def test_a_backfill_that_is_not_waited_for_is_named(cli: Cli) -> None:
    correct(cli, "only", "a question", "true")
    started = cli.json("backfill", "--all", "--detach")
    assert started["backfillId"].startswith("cli-")
    until(lambda: "endTime" in cli.json("backfill", "--id", started["backfillId"]), "the backfill has ended")


def test_everything_there_is_is_watched_from_the_start_as_json_lines(cli: Cli) -> None:
    correct(cli, "one", "first question", "true")
    correct(cli, "two", "second question", "false")
    lines = [json.loads(line) for line in cli.out("watch", "--all", "--count", 2, "--json").splitlines()]
    assert [line["put"]["id"] for line in lines if "put" in line] == ["one", "two"]
    assert [line["put"]["embedding"] for line in lines if "put" in line] == ["", ""]
    shown = cli.out("watch", "--all", "--count", 2)
    assert "+ two (correction): second question → false" in shown


def test_the_state_of_both_services_is_shown(cli: Cli, services: Services) -> None:
    shown = cli.out("status")
    assert f"Learner at {services.learner.process.address}" in shown
    assert "policy corrections" in shown
    status = cli.json("status")
    assert status["learner"]["storeId"] == status["rag"]["storeId"]
    assert isinstance(status["learner"]["blockCount"], int)


def test_of_two_services_of_which_one_is_away_the_other_is_shown(cli: Cli) -> None:
    result = cli("status", "--rag", "127.0.0.1:1")
    assert result.exit_code == ExitCode.UNREACHABLE
    assert "policy corrections" in result.stdout
    assert "start it with errata-rag" in result.stdout


def test_of_an_index_that_syncs_no_age_is_told() -> None:
    with start("rag_service", "--learner", free_address(), until="listening") as waiting:
        cli = Cli({"ERRATA_LEARNER": free_address(), "ERRATA_RAG": waiting.address})
        shown = cli("status").stdout
        error = cli.error("search", "a question")
        found = json.loads(cli("doctor", "--json").stdout)["findings"]
    assert "syncing, answers no search before its first sync" in shown
    assert (error["reason"], error["exitCode"]) == ("INDEX_NOT_READY", ExitCode.UNREACHABLE)
    failed = {finding["check"] for finding in found if finding["severity"] == "failure"}
    assert failed == {"learner", "rag", "index", "search"}
