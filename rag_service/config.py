"""The RAG service's configuration; the only place where it reads flags and the environment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from errata.serving.settings import Program, read_config

PROGRAM: Final = Program(
    name="errata-rag",
    about=(
        "Finds the examples nearest to a question, from memory.\n\n"
        "Follows a Learner (--learner), holds the embeddings of its examples in memory and answers Search. "
        "Keeps answering while the Learner is away. Holds nothing that cannot be had again: start as many as "
        "needed, stop them with SIGTERM or Ctrl-C. With --snapshot-dir one starts from what it held last."
    ),
    examples=(
        "errata-rag",
        "errata-rag --learner learner.internal:7411 --namespace team-a --namespace ''",
        "errata-rag --snapshot-dir /var/lib/errata-rag",
        "errata-rag --listen 127.0.0.1:0 --address-file ./rag.address",
        "ERRATA_LEARNER=learner:7411 ERRATA_LISTEN=0.0.0.0:7412 errata-rag",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RagConfig:
    """What a RAG service is told at its start; see `errata.serving.settings` for the flags."""

    listen: str = "127.0.0.1:7412"
    """HOST:PORT to answer at; port 0 takes a free one."""
    address_file: Path | None = None
    """Gets the address that was bound, once calls are answered."""
    learner: str = "127.0.0.1:7411"
    """HOST:PORT of the Learner to follow."""
    namespaces: tuple[str, ...] = ()
    """The namespaces to follow; all of them when empty."""
    redaction: str = "on"
    """Whether secrets are taken out of questions: `on` or `off`, as in the Learner."""
    embedder: str | None = None
    """NAME[:ARGUMENT], checked for its form only; the one that the Learner announces when None."""
    openai_base_url: str = "https://api.openai.com/v1"
    """Of the server that the embedder `openai` asks; without a slash at its end."""
    openai_api_key: str = field(default="", repr=False)
    """Empty for none."""
    openai_api_key_file: Path | None = None
    """Holds the key, instead of `openai_api_key`."""
    snapshot_dir: Path | None = None
    """Directory of the snapshot to start from; none is kept when None."""
    metrics_listen: str | None = None
    """HOST:PORT of the metrics; nowhere when None."""
    log_level: str = "info"
    """One of `errata.serving.logs.LEVELS`."""


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> RagConfig:
    """The configuration that flags and variables ask for.

    Args:
        argv: the flags, without the name of the program.
        environ: the environment variables.

    Raises:
        SystemExit: with 2 after a message on stderr, or with 0 after `--help` or `--version`.
    """
    return read_config(RagConfig, PROGRAM, argv, environ)
