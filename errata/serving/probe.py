"""Asks a service on this machine whether it serves: `errata-probe`, for the health check of a container.

Takes the settings by which the service was started, so that in its container nothing needs to be said twice.
Kubernetes asks over gRPC by itself and needs no probe.

    0   every service of the server serves
    1   not so, or no answer within `ANSWER_S_MAX`; a line on stderr says which
    2   a flag or a variable is wrong; see `settings`

Imports little, because it runs every few seconds.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # the package ships no types

from errata.serving.addresses import parse_address
from errata.serving.channel import channel_options
from errata.serving.settings import Program, read_config

ANSWER_S_MAX: Final = 3.0
"""Connecting included. A server that takes longer for this serves nobody else either."""

PROGRAM: Final = Program(
    name="errata-probe",
    about=(
        "Asks a service on this machine whether it serves; exits with 0 if it does, with 1 if not.\n\n"
        "Give it the address that the service was given, or the file that the service writes it to; the file "
        "goes first."
    ),
    examples=(
        "errata-probe --listen 127.0.0.1:7411",
        "ERRATA_LISTEN=0.0.0.0:7412 errata-probe",
    ),
)

# An address that means every interface is reached on loopback.
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here


class NotServingError(Exception):
    """The service does not serve, or cannot be asked; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeConfig:
    """What a probe is told: the settings of the service of the same names."""

    listen: str = ""
    """HOST:PORT of the service."""
    address_file: Path | None = None
    """Holds that address; goes before `listen`, whose port may be 0."""


def main() -> None:
    """Runs one probe and exits as the module says."""
    config = parse(sys.argv[1:], os.environ)
    try:
        ask(address_of(config))
    except NotServingError as error:
        sys.exit(f"{PROGRAM.name}: {error}")


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> ProbeConfig:
    """The configuration that flags and variables ask for.

    Args:
        argv: the flags, without the name of the program.
        environ: the environment variables.

    Raises:
        SystemExit: with 2 after a message on stderr, or with 0 after `--help` or `--version`.
    """
    return read_config(ProbeConfig, PROGRAM, argv, environ)


def address_of(config: ProbeConfig) -> str:
    """Where the service can be asked, as HOST:PORT.

    Raises:
        NotServingError: nothing says where, or the file cannot be read.
    """
    written = config.listen
    if config.address_file is not None:
        try:
            written = config.address_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise NotServingError(f"cannot read --address-file {config.address_file}: {error}") from error
    if not written:
        raise NotServingError("nothing says where the service listens; set ERRATA_LISTEN, or give --listen")
    try:
        address = parse_address(written, port_min=1)
    except ValueError as error:
        raise NotServingError(
            f"{error} (for port 0, give the service and the probe --address-file)"
        ) from error
    return str(address._replace(host=_LOOPBACK.get(address.host, address.host)))


def ask(address: str, *, answer_s_max: float = ANSWER_S_MAX) -> None:
    """Returns when the whole server at an address serves.

    Args:
        address: HOST:PORT.
        answer_s_max: the longest time to wait.

    Raises:
        NotServingError: it does not serve, or did not answer in time.
    """
    with grpc.insecure_channel(address, options=channel_options()) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        # As a future, which has the code of a failure as well as the answer.
        call = health.Check.future(health_pb2.HealthCheckRequest(), timeout=answer_s_max)
        if call.exception() is not None:
            raise NotServingError(f"{address} gives no answer: {call.code().name}: {call.details()}")
        answer = call.result()
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        raise NotServingError(f"{address} answers, but is {status}")


if __name__ == "__main__":
    main()
