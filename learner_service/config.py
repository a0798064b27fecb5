"""The Learner's configuration; the only place where it reads flags and the environment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from errata.serving.settings import Program, read_config

PROGRAM: Final = Program(
    name="errata-learner",
    about=(
        "Learns from what people run instead of what an assistant proposes.\n\n"
        "Takes events over gRPC (RecordEvents) and from logs (--log-dir), keeps them in --store-dir, learns "
        "an example from each block that a person corrected, and announces every change to the RAG services "
        "that follow it. Stop it with SIGTERM or Ctrl-C; it goes on from where it was."
    ),
    examples=(
        "errata-learner",
        "errata-learner --store-dir /var/lib/errata --log-dir /var/log/assistant",
        "errata-learner --log-dir team-a=./logs/a --log-dir team-b=./logs/b",
        "ERRATA_STORE_DIR=/data ERRATA_LISTEN=0.0.0.0:7411 errata-learner",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerConfig:
    """What a Learner is told at its start; see `errata.serving.settings` for the flags."""

    listen: str = "127.0.0.1:7411"
    """HOST:PORT to answer at; port 0 takes a free one."""
    address_file: Path | None = None
    """Gets the address that was bound, once calls are answered."""
    store_dir: Path = Path(".errata/store")
    """Directory of the LMDB environment; made when absent."""
    store_bytes_max: int = 64 * 1024**3
    """Size that the store may grow to."""
    log_dirs: tuple[tuple[str, Path], ...] = ()
    """Namespace and directory of the logs to follow."""
    policy: str = "corrections"
    """What is learned from: `corrections` or `executions`."""
    redaction: str = "on"
    """Whether secrets are taken out of what comes in: `on` or `off`."""
    embedder: str = "minilm"
    """NAME[:ARGUMENT], checked for its form only."""
    reembed: bool = False
    """Whether every example is embedded anew when the store was filled with another embedder."""
    openai_base_url: str = "https://api.openai.com/v1"
    """Of the server that the embedder `openai` asks; without a slash at its end."""
    openai_api_key: str = field(default="", repr=False)
    """Empty for none."""
    openai_api_key_file: Path | None = None
    """Holds the key, instead of `openai_api_key`."""
    deletions_kept_s: int = 24 * 3_600
    """How long a deletion is remembered, in seconds."""
    deletions_kept_min: int = 100_000
    """Deletions that are remembered whatever their age."""
    deletions_kept_max: int = 1_000_000
    """Deletions that are remembered at most."""
    metrics_listen: str | None = None
    """HOST:PORT of the metrics; nowhere when None."""
    log_level: str = "info"
    """One of `errata.serving.logs.LEVELS`."""


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> LearnerConfig:
    """The configuration that flags and variables ask for.

    Args:
        argv: the flags, without the name of the program.
        environ: the environment variables.

    Raises:
        SystemExit: with 2 after a message on stderr, or with 0 after `--help` or `--version`.
    """
    return read_config(LearnerConfig, PROGRAM, argv, environ)
