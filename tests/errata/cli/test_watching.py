"""`errata watch` and `errata backfill` as programs: over a restart of the Learner, and ended by Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from errata.cli.exit_codes import ExitCode
from tests.e2e.services import free_address, learner_on, until
from tests.errata.cli.running import Cli

pytestmark = pytest.mark.slow


@contextmanager
def running(environ: Mapping[str, str], *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """`errata` as a program of its own; ended at the end."""
    program = subprocess.Popen(
        [sys.executable, "-m", "errata.cli", *arguments],
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield program
    finally:
        program.kill()
        program.communicate()


def line_of(program: "subprocess.Popen[str]", key: str) -> Any:
    """The next JSON line with a key."""
    assert program.stdout is not None
    for line in program.stdout:
        found = json.loads(line)
        if key in found:
            return found
    raise AssertionError(f"ended without {key}: {program.stderr.read() if program.stderr else ''}")


def test_a_watch_shows_what_changes_from_now_on_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    address = free_address()
    cli = Cli({"ERRATA_LEARNER": address})
    with ExitStack() as ending:
        with learner_on(tmp_path / "store", "--listen", address):
            cli.out("teach", "before", "true", "--id", "before")
            watch = ending.enter_context(running(cli.environ, "watch", "--json"))
            line_of(watch, "bookmark")
            cli.out("teach", "now", "true", "--id", "now")
            assert line_of(watch, "put")["put"]["id"] == "now"
        with learner_on(tmp_path / "store", "--listen", address):
            cli.out("teach", "later", "true", "--id", "later")
            cli.out("forget", "before", "--yes")
            assert line_of(watch, "put")["put"]["id"] == "later"
            assert line_of(watch, "deleted")["deleted"]["id"] == "before"
        watch.send_signal(signal.SIGINT)
        assert watch.wait(20) == ExitCode.INTERRUPTED


def test_ctrl_c_leaves_a_backfill_running_and_says_how_to_look_again(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "log.jsonl"
    log.parent.mkdir()
    rows = "".join(
        json.dumps({"question": f"q{number}", "generated": "g", "executed": f"e{number}"}) + "\n"
        for number in range(3_000)
    )
    Cli().out("events", "-", "--output", log, given=rows)
    with learner_on(tmp_path / "store", "--log-dir", str(log.parent)) as learner:
        cli = Cli({"ERRATA_LEARNER": learner.process.address})
        until(lambda: learner.status().example_count == 3_000, "the log is learned from")
        with running(cli.environ, "backfill", "--all", "--id", "long") as backfill:
            until(lambda: cli("backfill", "--id", "long", "--detach").exit_code == 0, "it has begun")
            # Or it might end before the signal comes.
            learner.process.freeze()
            backfill.send_signal(signal.SIGINT)
            _, said = backfill.communicate(timeout=20)
            learner.process.thaw()
        assert backfill.returncode == ExitCode.INTERRUPTED
        assert "look again with: errata backfill --id long" in said
        done = cli.json("backfill", "--id", "long")
        assert done["doneBlockCount"] == done["matchedBlockCount"] == 3_000
