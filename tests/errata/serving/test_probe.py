"""The probe, asking real servers on loopback and real processes."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from errata.serving.metrics import RpcMetrics, new_registry
from errata.serving.probe import NotServingError, ProbeConfig, address_of, ask, parse
from errata.serving.server import GrpcServer, Service
from scripts.processes import start
from tests.errata.serving.sample_service import NAME, SERVICE, STATUSES, SampleServicer

SAMPLE = "tests.errata.serving.sample_service"


@pytest.fixture
async def server() -> AsyncIterator[GrpcServer]:
    server = GrpcServer(
        services=[Service(SERVICE, SampleServicer())], statuses=STATUSES, metrics=RpcMetrics(new_registry())
    )
    yield server
    await server.drain(grace_s=0)


def probe(*flags: str, environ: Mapping[str, str] | None = None) -> tuple[int, str]:
    """The exit code of a probe and what it wrote to stderr."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("ERRATA_")}
    done = subprocess.run(
        [sys.executable, "-m", "errata.serving.probe", *flags],
        env={**variables, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stderr


async def test_a_server_that_serves_is_said_to(server: GrpcServer) -> None:
    address = await server.start("127.0.0.1:0")
    await server.set_serving(NAME, True)
    await asyncio.to_thread(ask, address)


async def test_a_server_that_answers_but_does_not_serve_is_not_serving(server: GrpcServer) -> None:
    address = await server.start("127.0.0.1:0")
    with pytest.raises(NotServingError, match="answers, but is NOT_SERVING"):
        await asyncio.to_thread(ask, address)


def test_a_port_at_which_nobody_listens_is_not_serving() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(NotServingError, match="gives no answer: UNAVAILABLE"):
            ask(f"127.0.0.1:{taken.getsockname()[1]}")


def test_a_server_that_never_answers_is_not_serving_once_the_time_is_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        begin_s = time.monotonic()
        with pytest.raises(NotServingError, match="gives no answer: DEADLINE_EXCEEDED"):
            ask(f"127.0.0.1:{mute.getsockname()[1]}", answer_s_max=0.2)
    assert time.monotonic() - begin_s < 2


@pytest.mark.parametrize(
    ("listen", "asked"),
    [
        ("0.0.0.0:7411", "127.0.0.1:7411"),
        ("[::]:7411", "[::1]:7411"),
        ("10.1.2.3:7411", "10.1.2.3:7411"),
        ("localhost:7411", "localhost:7411"),
    ],
)
def test_an_address_of_every_interface_is_asked_on_loopback(listen: str, asked: str) -> None:
    assert address_of(parse([], {"ERRATA_LISTEN": listen})) == asked


def test_the_address_file_of_the_service_goes_before_the_address_that_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "address"
    path.write_text("0.0.0.0:43211\n")
    config = parse(["--address-file", str(path)], {"ERRATA_LISTEN": "0.0.0.0:0"})
    assert address_of(config) == "127.0.0.1:43211"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (ProbeConfig(), "set ERRATA_LISTEN"),
        (ProbeConfig(listen="0.0.0.0:0"), "--address-file"),
        (ProbeConfig(address_file=Path("/nowhere/address")), "cannot read --address-file /nowhere/address"),
    ],
    ids=["nothing", "port 0", "no file"],
)
def test_an_address_that_is_not_known_is_not_serving(config: ProbeConfig, said: str) -> None:
    with pytest.raises(NotServingError, match=said):
        address_of(config)


@pytest.mark.slow
def test_the_exit_code_says_what_was_found() -> None:
    with start(SAMPLE) as process:
        assert probe(environ={"ERRATA_LISTEN": process.address}) == (0, "")
    code, said = probe("--listen", process.address)
    assert code == 1
    assert said.startswith(f"errata-probe: {process.address} gives no answer: UNAVAILABLE")
    assert said.count("\n") == 1


@pytest.mark.slow
def test_a_wrong_flag_is_no_answer_of_the_service() -> None:
    code, said = probe("--listen", "7411")
    assert code == 2
    assert "--listen" in said
