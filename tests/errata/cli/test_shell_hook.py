"""The shell hook in real shells, on a terminal, with services that run."""

import os
import shutil
import sys
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
ERRATA: Final = """#!/bin/sh
echo "$*" >>"$HOME/started"
case "$*" in *--from-hook*) [ -p "$HOME/gate" ] && read -r _ <"$HOME/gate" ;; esac
exec PYTHON -m errata.cli "$@"
"""
"""Says that it was started, and holds back what is recorded where a test has a gate."""


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
            "PATH": f"{self._programs()}:{os.environ['PATH']}",
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

    def _programs(self) -> Path:
        folder = self.home / "bin"
        folder.mkdir(exist_ok=True)
        program = folder / "errata"
        program.write_text(ERRATA.replace("PYTHON", sys.executable))
        program.chmod(0o755)
        return folder

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
        """Waits until these are the runs, and all of them were looked at by the Learner."""
        until(lambda: self.runs() == list(runs), f"{runs} are recorded")
        until(lambda: not any(found["state"]["pending"] for found in self.blocks()), "none waits")


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


def test_a_search_after_a_space_asks_nothing(shells: Shells) -> None:
    shells.cli.out("teach", "find it", "true known", "--id", "known")
    with shells.open() as shell:
        shell.enter(" errata search find it")
        shell.enter("echo private")
        shell.enter("# asked in the open")
        shell.enter("echo public")
        shells.wait_for(("asked in the open", "echo public"))


def test_a_search_by_any_name_asks(shells: Shells) -> None:
    token = shells.cli.json("teach", "find it", "true known", "--id", "known")["token"]
    with shells.open() as shell:
        shell.enter("alias ask='command errata search'")
        shell.enter(f"ask find it --token {token}")
        shell.enter("true better")
        shells.wait_for(("find it", "true better"))


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
    gate = shells.home / "gate"
    os.mkfifo(gate)
    with shells.open() as shell:
        shell.enter("# a question")
        # Comes back at once, although the recording waits at the gate.
        shell.enter("echo answered")
        assert shells.runs() == []
        gate.write_text("go on\n")
        shells.wait_for(("a question", "echo answered"))


def test_without_a_question_no_program_is_started(shells: Shells) -> None:
    with shells.open() as shell:
        for line in ("echo one", "# asked", "#", "echo two", "", " echo three", "# asked again", "true four"):
            shell.enter(line)
        shells.wait_for(("asked again", "true four"))
    started = (shells.home / "started").read_text().splitlines()
    assert started == [f"shell-hook {shells.name}", "record --from-hook"]


def test_forgetting_asks_and_does_nothing_when_told_no(shells: Shells) -> None:
    shells.cli.out("teach", "keep it", "true kept", "--id", "kept")
    with shells.open() as shell:
        # What is typed ahead answers the question.
        shown, code = shell.enter("errata forget kept\nn")
        assert "This cannot be undone" in shown
        assert "nothing was forgotten" in shown
        assert code == 1
    assert shells.cli.json("explain", "kept")["state"]["learned"] is True
