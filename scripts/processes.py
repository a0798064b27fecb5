"""Services as real child processes, for tests that start, stop, freeze and kill them.

    with start("learner_service", "--store-dir", str(tmp_path / "store")) as learner:
        async with learner.channel() as channel: ...
        assert learner.terminate() == 0

    async with start("rag_service", "--learner", learner.address, until="listening") as rag: ...

A process listens at a port of its own choice, unless `--listen` is among the flags: to start one again where
it was, pass `--listen` and the `address` of the last. It runs in a temporary directory unless told where, and
sees no `ERRATA_*` variable but those passed to `start`. However a test ends, its processes end, each by its
PID; when a test fails, what they wrote to stderr is shown.

The plain methods block and are for synchronous code and for what takes no time; `async` code that shares its
event loop with what the process waits for uses the methods that end in `_async`.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias

import grpc
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]  # the package ships no types

from errata.serving.channel import channel_options

START_S_MAX: Final = 60.0
"""Until a process serves: it loads a model, on a machine that runs other tests too."""
TERMINATE_S_MAX: Final = 15.0
"""From SIGTERM to the end: what a service promises, and half as much again."""

_POLL_S: Final = 0.01
_SHOWN_LOG_LINES: Final = 60
_ROOT: Final = Path(__file__).resolve().parent.parent

Until: TypeAlias = Literal["serving", "listening", "running"]


class ProcessEndedError(Exception):
    """A process ended that should be running; the message has the end of what it wrote to stderr."""


class Process:
    """A service as a child process; made by `start`, and running within its `with` block."""

    def __init__(
        self,
        module: str,
        flags: tuple[str, ...],
        *,
        until: Until,
        environ: Mapping[str, str],
        start_s_max: float,
        folder: Path | None,
    ) -> None:
        self.module = module
        self._flags = flags
        self._until: Until = until
        self._environ = environ
        self._start_s_max = start_s_max
        self._folder = folder
        self._address = ""
        self._popen: subprocess.Popen[bytes] | None = None
        self._resources = contextlib.ExitStack()
        self._directory = Path()

    @property
    def address(self) -> str:
        """Where it answers, as HOST:PORT; known once it listens."""
        if not self._address:
            self._wait_for_address(time.monotonic() + self._start_s_max)
        return self._address

    @property
    def pid(self) -> int:
        """Its process ID."""
        return self._running.pid

    @property
    def stderr_path(self) -> Path:
        """The file that takes what it writes to stderr; gone after the `with` block."""
        return self._directory / "stderr"

    @property
    def stderr(self) -> str:
        """What it has written to stderr."""
        return self.stderr_path.read_text(errors="replace")

    @property
    def exit_code(self) -> int | None:
        """How it ended, negative for a signal; None while it runs."""
        return self._running.poll()

    def channel(self) -> grpc.aio.Channel:
        """A channel to it, for the caller to close."""
        return grpc.aio.insecure_channel(self.address, options=channel_options())

    def sync_channel(self) -> grpc.Channel:
        """The same for synchronous code."""
        return grpc.insecure_channel(self.address, options=channel_options())

    def wait_until_serving(self, service: str = "", seconds: float = START_S_MAX) -> None:
        """Returns once its health is SERVING.

        Args:
            service: full name of one service; the whole server when empty.
            seconds: the longest wait.

        Raises:
            ProcessEndedError: it ended.
            TimeoutError: it did not come to serve in time.
        """
        deadline_s = time.monotonic() + seconds
        with self.sync_channel() as channel:
            watch = channel.unary_stream(
                "/grpc.health.v1.Health/Watch",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            while True:
                # In slices, to notice soon that the process has ended.
                left_s = deadline_s - time.monotonic()
                try:
                    for response in watch(
                        health_pb2.HealthCheckRequest(service=service), timeout=max(0.0, min(left_s, 1.0))
                    ):
                        if response.status == health_pb2.HealthCheckResponse.SERVING:
                            return
                except grpc.RpcError:
                    pass
                self._check(deadline_s, "serve")
                time.sleep(_POLL_S)

    async def wait_until_serving_async(self, service: str = "", seconds: float = START_S_MAX) -> None:
        """The same without blocking the event loop."""
        await asyncio.to_thread(self.wait_until_serving, service, seconds)

    def wait_for_stderr(self, text: str, seconds: float = START_S_MAX) -> None:
        """Returns once it has written the text to stderr.

        Raises:
            ProcessEndedError: it ended without.
            TimeoutError: it did not in time.
        """
        deadline_s = time.monotonic() + seconds
        while text not in self.stderr:
            # Looked at again after the end is seen: the text may have been the last thing that it wrote.
            if self.exit_code is not None and text in self.stderr:
                return
            self._check(deadline_s, f"say {text!r}")
            time.sleep(_POLL_S)

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal to it, and to nothing else. Without effect once it has ended."""
        self._running.send_signal(number)

    def terminate(self, seconds: float = TERMINATE_S_MAX) -> int:
        """Asks it to end, as `docker stop` does, and waits.

        Returns:
            The exit code.

        Raises:
            TimeoutError: it is still there after the time; it is killed then.
        """
        self.send_signal(signal.SIGTERM)
        return self.wait(seconds)

    async def terminate_async(self, seconds: float = TERMINATE_S_MAX) -> int:
        """The same without blocking the event loop."""
        return await asyncio.to_thread(self.terminate, seconds)

    def kill(self) -> None:
        """Ends it with SIGKILL, and waits until it is gone."""
        self._running.kill()
        self._running.wait()

    def freeze(self) -> None:
        """Stops it from running (SIGSTOP): its connections stay open and nothing answers."""
        self.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it run on."""
        self.send_signal(signal.SIGCONT)

    def wait(self, seconds: float = TERMINATE_S_MAX) -> int:
        """Waits for it to end by itself.

        Returns:
            The exit code, negative for a signal.

        Raises:
            TimeoutError: it is still there after the time; it is killed then.
        """
        try:
            return self._running.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimeoutError(
                f"{self.module} had not ended after {seconds:g} s\n{self._log_end()}"
            ) from None

    async def wait_async(self, seconds: float = TERMINATE_S_MAX) -> int:
        """The same without blocking the event loop."""
        return await asyncio.to_thread(self.wait, seconds)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as resources:
            self._start(resources)
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self,
        error_class: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            # pytest shows it with the failure.
            sys.stderr.write(f"--- {self.module} (pid {self.pid}) wrote:\n{self._log_end()}\n")
        self._resources.close()

    async def __aenter__(self) -> Self:
        starting = asyncio.ensure_future(asyncio.to_thread(self.__enter__))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # The thread goes on, and what it starts would have nobody to end it.
            await starting
            self._resources.close()
            raise

    async def __aexit__(
        self,
        error_class: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.__exit__, error_class, error, traceback)

    @property
    def _running(self) -> "subprocess.Popen[bytes]":
        if self._popen is None:
            raise RuntimeError(f"{self.module} is not started: use it in a `with` block")
        return self._popen

    def _start(self, resources: contextlib.ExitStack) -> None:
        self._directory = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="errata-")))
        flags = list(self._flags)
        if "--listen" not in flags:
            flags += ["--listen", "127.0.0.1:0"]
        flags += ["--address-file", str(self._directory / "address")]
        deadline_s = time.monotonic() + self._start_s_max
        with self.stderr_path.open("wb") as stderr:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", self.module, *flags],
                cwd=self._folder or self._directory,
                env=_environment(self._environ),
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                # Ctrl-C at the terminal goes to pytest, which ends them in its own order.
                start_new_session=True,
            )
        resources.callback(self._end)
        if self._until != "running":
            self._wait_for_address(deadline_s)
        if self._until == "serving":
            self.wait_until_serving(seconds=deadline_s - time.monotonic())

    def _end(self) -> None:
        if self.exit_code is not None:
            return
        self.thaw()
        with contextlib.suppress(TimeoutError):
            self.terminate()

    def _wait_for_address(self, deadline_s: float) -> None:
        path = self._directory / "address"
        while not path.exists():
            self._check(deadline_s, "listen")
            time.sleep(_POLL_S)
        self._address = path.read_text().strip()

    def _check(self, deadline_s: float, what: str) -> None:
        if self.exit_code is not None:
            raise ProcessEndedError(
                f"{self.module} ended with {self.exit_code} and did not {what}\n{self._log_end()}"
            )
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{self.module} did not {what} in time\n{self._log_end()}")

    def _log_end(self) -> str:
        return "\n".join(self.stderr.splitlines()[-_SHOWN_LOG_LINES:])


def start(
    module: str,
    *flags: str,
    until: Until = "serving",
    environ: Mapping[str, str] | None = None,
    start_s_max: float = START_S_MAX,
    folder: Path | None = None,
) -> Process:
    """A service to be run as `python -m module flags...` within a `with` or `async with` block.

    Args:
        module: such as `learner_service`.
        flags: besides `--address-file`, and `--listen` where the port does not matter.
        until: what entering the block waits for: that every service is SERVING, that the address is known,
            or nothing.
        environ: variables besides those of this process, such as `ERRATA_POLICY`.
        start_s_max: the longest time that entering may take.
        folder: where it runs; a temporary directory when None.
    """
    return Process(module, flags, until=until, environ=environ or {}, start_s_max=start_s_max, folder=folder)


def _environment(added: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ERRATA_")}
    return {**kept, "PYTHONPATH": str(_ROOT), **added}
