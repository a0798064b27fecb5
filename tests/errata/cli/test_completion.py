"""Completion of the command line, by the real shells."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.errata.cli.running import Cli

pytestmark = pytest.mark.slow


def completed(line: str) -> list[str]:
    """What bash would offer for a line, by the script that `errata completion bash` prints."""
    words = line.split(" ")
    program = Cli().out("completion", "bash") + (
        f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}\n"
        "_errata_completion errata\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    # nosort is known to interactive bash alone.
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    bash = shutil.which("bash")
    assert bash is not None
    ended = subprocess.run(
        [bash, "--norc", "-c", program], env=environ, capture_output=True, text=True, check=True
    )
    return ended.stdout.split()


def test_bash_completes_commands_options_and_their_values() -> None:
    assert completed("errata ba") == ["backfill"]
    assert set(completed("errata re")) == {"record", "reconcile"}
    assert completed("errata backfill --si") == ["--since"]
    assert completed("errata search --name") == ["--namespace"]
    assert set(completed("errata blocks --reason no")) == {"not-executed", "not-generated", "no-context"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_takes_the_script_without_a_word(shell: str, tmp_path: Path) -> None:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / "completion"
    # What compinit defines, which takes files outside of the tests.
    stub = "compdef() { :; }\n" if shell == "zsh" else ""
    script.write_text(stub + Cli().out("completion", shell))
    ended = subprocess.run([path, str(script)], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
