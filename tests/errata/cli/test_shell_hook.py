"""The shell hook in real shells, on a terminal, with services that run."""

import os
import shutil
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.services import Services, until
from tests.errata.cli.running import Cli
from tests.errata.cli.terminal import Terminal

pytestmark = pytest.mark.slow

RC: Final = {
    # With a hook of somebody else that ends in a semicolon. The history keeps what begins with a space: that
    # such lines are not recorded is the hook's own doing.
    "bash": "PS1='<$?>$ '\nHISTCONTROL=\nPROMPT_COMMAND='true;'\n",
    "zsh": "PS1='<%?>$ '\nunsetopt zle prompt_cr prompt_sp\nsetopt interactive_comments\nHISTSIZE=100\n",
}
PROMPT_MS_MAX: Final = 100.0
"""Of the whole prompt, on a machine that runs other tests too; `errata` alone takes longer to start."""
RECORDING_S_MIN: Final = 8.0
"""Of a recording that nobody answers: --timeout is 10 s."""


@dataclass(frozen=True)
class Shells:
    """Opens shells with the hook, and asks the Learner what they recorded."""

    name: str
    home: Path
    cli: Cli

    @contextmanager
    def open(self, *flags: str, **changed: str) -> Iterator[Terminal]:
        """A shell at its prompt; `changed` are variables."""
        hook = f'eval "$(errata shell-hook {self.name} {" ".join(flags)})"\n'
        for file in (".bashrc", ".zshrc"):
            (self.home / file).write_text(RC[self.name] + hook)
        environ = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "TERM": "dumb",
            "XDG_RUNTIME_DIR": str(self.home / "run"),
            # For a zsh that lies elsewhere.
            **{name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
            **self.cli.environ,
            **changed,
        }
        bash = ["bash", "--noprofile", "--rcfile", str(self.home / ".bashrc"), "-i"]
        with Terminal(bash if self.name == "bash" else ["zsh", "-i"], environ, self.home) as terminal:
            terminal.prompted()
            yield terminal

    def blocks(self) -> list[dict[str, Any]]:
        """What was recorded, oldest first."""
        states = self.cli.json("blocks")["blocks"]
        return [self.cli.json("explain", state["key"]["id"]) for state in reversed(states)]

    def runs(self) -> list[tuple[str, str]]:
        """The last run of each block: what stood before it, and the command."""
        logs = [found["block"] for found in self.blocks()]
        return [
            (log["doc"]["blocks"][0]["contents"], log["executedBlock"]["contents"])
            for log in logs
            if "executedBlock" in log
        ]

    def wait_for(self, *runs: tuple[str, str]) -> None:
        """Waits until these are the runs."""
        until(lambda: self.runs() == list(runs), f"{runs} are recorded, not {self.runs()}")


@pytest.fixture(params=["bash", "zsh"])
def shells(request: pytest.FixtureRequest, services: Services, tmp_path: Path) -> Shells:
    name: str = request.param
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    namespace = f"{request.node.originalname.removeprefix('test_')[-58:]}-{name}"
    return Shells(name, tmp_path, Cli.at(services, namespace))


def test_a_comment_asks_and_the_first_command_that_succeeds_answers(shells: Shells) -> None:
    with shells.open() as shell:
        shell.enter("echo before")
        shell.enter("# how do I say hello?")
        assert shell.enter("false hello")[1] == 1
        assert "hello you" in shell.enter("echo hello   you | cat")[0]
        shell.enter("echo after")
        shells.wait_for(("how do I say hello?", "echo hello   you | cat"))
        [found] = shells.blocks()
    assert found["block"]["exitCode"] == 0
    assert found["block"]["executedBlock"]["language"] == shells.name
    assert found["block"]["executedBlock"]["metadata"] == {"workingDirectory": str(shells.home)}
    assert found["state"]["reason"] == "NOT_LEARNED_REASON_NOT_GENERATED"


def test_what_is_run_instead_of_the_best_answer_of_a_search_is_learned(shells: Shells) -> None:
    token = shells.cli.json("teach", "say hello loudly", "echo HELLO", "--id", "known")["token"]
    with shells.open() as shell:
        shown, _ = shell.enter(f"errata search say hello loudly --token {token}")
        assert "echo HELLO" in shown
        shell.enter("cd .")
        shell.enter("echo 'HELLO!'")
        shells.wait_for(("say hello loudly", "echo 'HELLO!'"))
        found = shells.blocks()[-1]
    assert found["block"]["generatedBlock"]["contents"] == "echo HELLO"
    assert found["state"]["learned"] is True
    assert found["example"]["origin"] == "EXAMPLE_ORIGIN_CORRECTION"


def test_without_a_question_and_after_a_space_nothing_is_recorded(shells: Shells) -> None:
    with shells.open() as shell:
        for line in (
            "echo unasked",
            "#echo commented out",
            "echo unasked too",
            "# a question",
            " echo secret",
            "",
        ):
            shell.enter(line)
        shell.enter("#")
        shell.enter("echo closed by hand")
        shell.enter("# another question")
        shell.enter("echo answer")
        shells.wait_for(("another question", "echo answer"))


def test_a_question_stays_open_for_five_commands_at_most(shells: Shells) -> None:
    with shells.open() as shell:
        shell.enter("# what works?")
        for number in range(7):
            shell.enter(f"false {number}")
        shell.enter("# the next question")
        shell.enter("true yes")
        # Each is recorded in the background: the latest may come first.
        until(lambda: ("the next question", "true yes") in shells.runs(), "the last is recorded")
        until(lambda: ("what works?", "false 4") in shells.runs(), "the fifth is recorded")


def test_a_success_without_a_proposal_is_taught_where_that_is_asked_for(shells: Shells) -> None:
    with shells.open("--teach") as shell:
        shell.enter("# how do I greet")
        shell.enter("echo hi")
        until(lambda: len(shells.cli.json("examples")["examples"]) == 1, "an example is learned")
    [example] = shells.cli.json("examples")["examples"]
    assert (example["queryText"], example["answer"][0]["contents"]) == ("how do I greet", "echo hi")


def test_a_command_with_quotes_lines_and_backslashes_arrives_as_it_was_typed(shells: Shells) -> None:
    command = r"""printf '%s\n' "a  b" $'\t' 'c\\d' "$HOME" ; true '%5d' é"""
    with shells.open() as shell:
        shell.enter("# print it")
        shell.enter(command)
        shells.wait_for(("print it", command))


def test_switched_off_in_a_shell_it_records_nothing_there(shells: Shells) -> None:
    with shells.open() as shell:
        shell.enter("unset ERRATA_SESSION")
        shell.enter("# a question")
        shell.enter("echo off")
    with shells.open() as shell:
        shell.enter("# asked later")
        shell.enter("echo on")
        shells.wait_for(("asked later", "echo on"))


def test_without_a_learner_the_prompt_comes_all_the_same_and_doctor_tells_why(shells: Shells) -> None:
    with shells.open(ERRATA_LEARNER="127.0.0.1:1") as shell:
        shell.enter("# a question")
        written, code = shell.enter("false lost")
        assert "errata" not in written
        assert code == 1
        note = shells.home / "run" / "errata" / "hook-problem"
        until(note.exists, "the problem is noted")
        shown, _ = shell.enter("errata doctor")
    assert "the shell hook could not record a command" in shown
    assert "no Learner answers at 127.0.0.1:1" in shown


def test_the_prompt_waits_for_no_recording(shells: Shells) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with shells.open(ERRATA_LEARNER=address) as shell:
            shell.enter("# a question")
            begun_s = time.monotonic()
            shell.enter("true")
            took_s = time.monotonic() - begun_s
    assert took_s < RECORDING_S_MIN


def test_a_prompt_without_a_question_takes_no_time_to_speak_of(shells: Shells) -> None:
    took_ms = []
    with shells.open() as shell:
        for number in range(20):
            begun_s = time.monotonic()
            shell.enter(f"true {number}")
            took_ms.append(1_000 * (time.monotonic() - begun_s))
    assert statistics.median(took_ms) < PROMPT_MS_MAX
