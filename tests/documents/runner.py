"""Runs a document: its blocks in order, in a folder of its own, against services of its own.

The services are started as the document starts them, by a line that begins with `errata-learner` or
`errata-rag`; one of its kind that runs is ended first. A document that starts none finds both as `make run`
leaves them. Only addresses are replaced. Programs on the path are those of the project.
"""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from scripts.processes import Process, start
from tests.documents.document import Block, prints
from tests.e2e.services import check_no_bug, free_address

ROOT: Final = Path(__file__).resolve().parent.parent.parent

BLOCK_S_MAX: Final = 120.0
"""Of one block. Those that load a model twice take seconds, on a machine that runs other tests too."""
UNTIL_S_MAX: Final = 120.0
"""Of a block that is run until it prints what is shown; a RAG service may find its Learner 30 s late."""

GO_WORDS: Final = ("grpcurl", "errata-client", "go ")

_MODULES: Final = {"errata-learner": "learner_service", "errata-rag": "rag_service"}
_FOLDERS: Final = ("clients", "gen", "data")
_FILES: Final = ("go.mod", "go.sum")


class BlockFailedError(AssertionError):
    """A block did not do what its document says."""


class Runner:
    """What a document is run with; use it in a `with` block."""

    def __init__(self, folder: Path, programs: Sequence[Path]) -> None:
        """Copies of the project what documents name.

        Args:
            folder: empty; becomes the current one.
            programs: folders of further programs.
        """
        self._folder = folder
        self._addresses = {
            written: free_address()
            for written in (
                *("127.0.0.1:7411", "127.0.0.1:7412"),
                # Of metrics.
                *("127.0.0.1:9411", "127.0.0.1:9412"),
            )
        }
        self._path = os.pathsep.join(
            [*map(str, programs), str(Path(sys.executable).parent), os.environ["PATH"]]
        )
        self._running: dict[str, Process] = {}
        self._closing = ExitStack()
        self._started = False
        for name in _FOLDERS:
            shutil.copytree(ROOT / name, folder / name)
        for name in _FILES:
            shutil.copy(ROOT / name, folder)

    def __enter__(self) -> Self:
        self._closing.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        for program in list(self._running):
            if not any(error):
                self._stop(program)
        self._closing.close()

    def run(self, block: Block) -> None:
        """Runs one block.

        Raises:
            BlockFailedError: it ended or printed otherwise than the document says.
        """
        for word in block.words:
            if word.startswith("stop "):
                self._stop(f"errata-{word.removeprefix('stop ')}")
        text = self._here(block.text)
        # What must fail is nothing that could be left running.
        as_it_stands = block.language != "sh" or "fails" in block.words
        for is_service, part in [(False, text)] if as_it_stands else _parts(text):
            if is_service:
                self._start(part)
            else:
                self._run(block, part)

    def _here(self, text: str) -> str:
        """A text of the document with the addresses of these services."""
        for written, address in self._addresses.items():
            text = text.replace(written, address)
        return text

    def _run(self, block: Block, text: str) -> None:
        if not self._started:
            (self._folder / ".errata" / "logs").mkdir(parents=True)
            self._start("errata-learner --store-dir .errata/store --log-dir .errata/logs")
            self._start(f"errata-rag --learner {self._addresses['127.0.0.1:7411']}")
        command = self._command(block, text)
        deadline_s = time.monotonic() + UNTIL_S_MAX
        while problem := self._problem(block, command):
            if "until" not in block.words or time.monotonic() > deadline_s:
                raise BlockFailedError(f"line {block.line}: {problem}")
            time.sleep(0.1)

    def _command(self, block: Block, text: str) -> list[str]:
        if block.language == "sh":
            return ["bash", "-euo", "pipefail", "-c", text]
        if block.language == "python":
            script = self._folder / f"line_{block.line}.py"
            script.write_text(text)
            return [sys.executable, str(script)]
        package = self._folder / f"line_{block.line}"
        package.mkdir()
        (package / "main.go").write_text(text)
        program = shutil.which("go")
        assert program is not None
        return [program, "run", f"./{package.name}"]

    def _problem(self, block: Block, command: list[str]) -> str:
        """Runs a command once; what is wrong with how it went, or nothing."""
        ended = subprocess.run(
            command,
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BLOCK_S_MAX,
            check=False,
        )
        if (ended.returncode != 0) != ("fails" in block.words):
            return f"ended with {ended.returncode}:\n{block.text}{ended.stdout}"
        if block.expected is not None and not prints(self._here(block.expected), ended.stdout):
            return f"printed\n{ended.stdout}instead of\n{block.expected}"
        return ""

    @property
    def _environment(self) -> dict[str, str]:
        # The width of whose terminal this may be decides how some programs break lines; pytest sets it.
        mine = {name for name in os.environ if name.startswith("ERRATA_")} | {"COLUMNS", "LINES"}
        kept = {name: value for name, value in os.environ.items() if name not in mine}
        return {
            **kept,
            "PATH": self._path,
            "ERRATA_LEARNER": self._addresses["127.0.0.1:7411"],
            "ERRATA_RAG": self._addresses["127.0.0.1:7412"],
        }

    def _start(self, line: str) -> None:
        """Starts a service by a line such as `ERRATA_POLICY=executions errata-learner --store-dir store`."""
        words = shlex.split(line)
        program = next(index for index, word in enumerate(words) if word in _MODULES)
        environ = dict(word.split("=", 1) for word in words[:program])
        name, flags = words[program], words[program + 1 :]
        self._stop(name)
        if "--listen" not in flags:
            flags += ["--listen", self._addresses[f"127.0.0.1:{7411 if name == 'errata-learner' else 7412}"]]
        process = start(_MODULES[name], *flags, environ=environ, folder=self._folder)
        self._running[name] = self._closing.enter_context(process)
        self._started = True

    def _stop(self, name: str) -> None:
        process = self._running.pop(name, None)
        if process is not None:
            if process.terminate() != 0:
                raise BlockFailedError(f"{name} ended badly:\n{process.stderr}")
            check_no_bug(process)


def needs_go(block: Block) -> bool:
    """Tells whether a block runs what comes with Go."""
    return block.language == "go" or any(word in block.text for word in GO_WORDS)


def _parts(text: str) -> list[tuple[bool, str]]:
    """The text of a block in parts, each a line that starts a service, or else, and then False, a script."""
    parts: list[tuple[bool, str]] = []
    for line in text.replace("\\\n", " ").splitlines(keepends=True):
        words = [word for word in line.split() if "=" not in word]
        is_service = bool(words) and words[0] in _MODULES and not {"--help", "--version"} & set(words)
        if parts and not is_service and not parts[-1][0]:
            parts[-1] = (False, parts[-1][1] + line)
        else:
            parts.append((is_service, line))
    return parts
