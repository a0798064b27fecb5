"""Keeps both services running on ./.errata until Ctrl-C: `make run`.

Logs put into ./.errata/logs are learned from; what is learned stays in ./.errata/store. The services take
their usual ports, and log to this terminal.
"""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from learner_service.config import LearnerConfig
from rag_service.config import RagConfig

HOME: Final = Path(".errata")
END_S_MAX: Final = 15.0
"""From Ctrl-C to the end: what a service promises, and half as much again."""


def main() -> None:
    """Runs both services until one of them ends or somebody presses Ctrl-C; exits with the worse code."""
    logs = HOME / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    commands = (
        ["-m", "learner_service", "--store-dir", str(HOME / "store"), "--log-dir", str(logs)],
        ["-m", "rag_service"],
    )
    sys.stderr.write(
        f"Learner at {LearnerConfig().listen}, RAG service at {RagConfig().listen}; logs in {logs} are "
        "learned from; Ctrl-C ends both\n"
    )
    # In sessions of their own, so that Ctrl-C reaches this process alone: a second signal would force them.
    services = [subprocess.Popen([sys.executable, *command], start_new_session=True) for command in commands]
    signal.signal(signal.SIGTERM, lambda *_: _end(services))
    try:
        codes = [_wait_for_any(services)]
    except KeyboardInterrupt:
        codes = []
    _end(services)
    codes += [service.wait(END_S_MAX) for service in services]
    sys.exit(max(codes, key=abs))


def _wait_for_any(services: list["subprocess.Popen[bytes]"]) -> int:
    """Returns the exit code of the first service that ends."""
    while True:
        for service in services:
            try:
                return service.wait(0.2)
            except subprocess.TimeoutExpired:
                continue


def _end(services: list["subprocess.Popen[bytes]"]) -> None:
    for service in services:
        if service.poll() is None:
            service.terminate()


if __name__ == "__main__":
    main()
