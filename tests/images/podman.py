"""Containers of the built images as a deployment runs them: read-only, unprivileged, on their own network.

    with Podman() as podman:
        learner = podman.run(LEARNER_IMAGE, name="learner", volumes={"store": STATE_DIR}, ports=(7411,))
        learner.wait_until_healthy()
        learner.address(7411)                                   # "127.0.0.1:41234"

Whatever was made is removed at the end, by its name.
"""

import json
import os
import resource
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

LEARNER_IMAGE: Final = os.environ.get("LEARNER_IMAGE", "localhost/errata-learner:latest")
RAG_IMAGE: Final = os.environ.get("RAG_IMAGE", "localhost/errata-rag:latest")
LEARNER_PORT: Final = 7411
RAG_PORT: Final = 7412

START_S_MAX: Final = 120.0
"""Until a container is healthy, on a machine that does other things too."""
COMMAND_S_MAX: Final = 120.0

STATE_DIR: Final = "/var/lib/errata"
"""Where both images keep what is to outlive a container."""

HARDENED: Final = (
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
)


_PODMAN: Final = shutil.which("podman") or "podman"


class PodmanError(Exception):
    """A command of podman failed; the message has what it wrote."""


@dataclass(frozen=True)
class Ended:
    """How a container ended that was asked to."""

    exit_code: int
    seconds: float


class Container:
    """One container, by its name."""

    def __init__(self, podman: "Podman", name: str) -> None:
        self.name = name
        self._podman = podman

    def address(self, port: int) -> str:
        """Where a published port is reached from this machine."""
        return self._podman.output("port", self.name, f"{port}/tcp").splitlines()[0]

    def execute(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Runs a command inside, and says how it went."""
        return self._podman.command("exec", self.name, *command)

    def wait_until_healthy(self) -> None:
        """Returns once its health check says so: podman's own, run now, as timers need systemd."""
        deadline_s = time.monotonic() + START_S_MAX
        while self._podman.command("healthcheck", "run", self.name).returncode != 0:
            state = self.inspect()["State"]
            if not state["Running"] or time.monotonic() > deadline_s:
                raise PodmanError(f"{self.name} did not become healthy:\n{self.logs()}")
            time.sleep(0.2)

    def stop(self) -> Ended:
        """Sends SIGTERM; SIGKILL only 30 s later."""
        begin_s = time.monotonic()
        self._podman.output("stop", "--time", "30", self.name)
        seconds = time.monotonic() - begin_s
        return Ended(self.inspect()["State"]["ExitCode"], seconds)

    def start(self) -> None:
        """Starts it again."""
        self._podman.output("start", self.name)

    def wait(self) -> int:
        """The exit code, once it has ended by itself."""
        return int(self._podman.output("wait", self.name))

    def remove(self) -> None:
        """Ends and removes it; named volumes stay."""
        self._podman.output("rm", "--force", "--time", "30", self.name)

    def inspect(self) -> Any:
        """What podman knows of it."""
        return json.loads(self._podman.output("inspect", self.name))[0]

    def logs(self) -> str:
        """What it has written."""
        done = self._podman.command("logs", self.name)
        return done.stdout + done.stderr


class Podman:
    """Runs containers on one network, and removes all that it made at the end of the `with` block."""

    def __init__(self) -> None:
        self._run_id = f"errata-test-{secrets.token_hex(4)}"
        self._resources = ExitStack()
        self._environ = dict(os.environ)

    def __enter__(self) -> Self:
        folder = Path(self._resources.enter_context(tempfile.TemporaryDirectory(prefix="errata-images-")))
        settings = folder / "containers.conf"
        settings.write_text(self._settings())
        self._environ["CONTAINERS_CONF"] = str(settings)
        self.output("network", "create", self._run_id)
        self._resources.callback(self.command, "network", "rm", "--force", self._run_id)
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    @property
    def environ(self) -> Mapping[str, str]:
        """For other programs that call podman."""
        return self._environ

    def run(
        self,
        image: str,
        *command: str,
        name: str,
        entrypoint: str = "",
        environ: Mapping[str, str] | None = None,
        volumes: Mapping[str, str] | None = None,
        ports: Sequence[int] = (),
    ) -> Container:
        """Starts a container, hardened as compose.yaml does it.

        Args:
            image: by its name.
            command: the flags of the service, or of `entrypoint`.
            name: by which others of this network reach it.
            entrypoint: another program than the service.
            environ: its variables.
            volumes: where each named volume, or path with its options, is mounted.
            ports: published at free ports of loopback.
        """
        flags = [*HARDENED, f"--network={self._run_id}", f"--network-alias={name}"]
        flags += [f"--env={key}={value}" for key, value in (environ or {}).items()]
        flags += [f"--publish=127.0.0.1::{port}" for port in ports]
        flags += [f"--entrypoint={entrypoint}"] if entrypoint else []
        for source, target in (volumes or {}).items():
            flags.append(f"--volume={self._mounted(source)}:{target}")
        full_name = f"{self._run_id}-{name}-{secrets.token_hex(2)}"
        self._resources.callback(self.command, "rm", "--force", "--volumes", "--time", "0", full_name)
        self.output("run", "--detach", f"--name={full_name}", *flags, image, *command)
        return Container(self, full_name)

    def output(self, *arguments: str) -> str:
        """What a command of podman wrote to stdout.

        Raises:
            PodmanError: it failed.
        """
        done = self.command(*arguments)
        if done.returncode != 0:
            raise PodmanError(f"podman {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Runs a command of podman, and says how it went."""
        return subprocess.run(
            [_PODMAN, *arguments],
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=COMMAND_S_MAX,
            check=False,
        )

    def _mounted(self, source: str) -> str:
        if "/" in source:
            return source
        volume = f"{self._run_id}-{source}"
        if self.command("volume", "exists", volume).returncode != 0:
            self.output("volume", "create", volume)
            self._resources.callback(self.command, "volume", "rm", "--force", volume)
        return volume

    @staticmethod
    def _settings() -> str:
        # Podman raises limits, which a machine that is a container itself does not allow.
        limits = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
        own = [f'"{name}={min(4_096, resource.getrlimit(limit)[1])}"' for name, limit in limits.items()]
        text = f"[containers]\ndefault_ulimits = [{', '.join(own)}]\n"
        # Where there is a choice: crun wants more of cgroups than such a machine has.
        return text + ('[engine]\nruntime = "runc"\n' if shutil.which("runc") else "")
