"""From a failed call to a sentence that says what is wrong and what to do: one table of reasons.

A test holds that every ErrorReason is in it.
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import grpc

from errata.cli.exit_codes import CommandError, ExitCode
from errata.cli.shared_options import Chosen
from errata.cli.times import length
from errata.client.errors import Failure
from errata.serving.addresses import Address


class Peer(enum.Enum):
    """Who was called: its name, its program, the flag and the variable that say where it is."""

    LEARNER = ("Learner", "errata-learner", "--learner", "ERRATA_LEARNER")
    RAG = ("RAG service", "errata-rag", "--rag", "ERRATA_RAG")

    def __init__(self, title: str, program: str, flag: str, variable: str) -> None:
        self.title = title
        self.program = program
        self.flag = flag
        self.variable = variable

    def address(self, chosen: Chosen) -> Address:
        """Where it was looked for."""
        return chosen.learner if self is Peer.LEARNER else chosen.rag


@dataclass(frozen=True, slots=True)
class _Explained:
    """What to tell, and how to end."""

    exit_code: ExitCode
    tell: Callable[[Failure, Peer], str]


def _in(failed: Failure, key: str) -> str:
    return failed.metadata.get(key, "?")


REASONS: Final[Mapping[str, _Explained]] = {
    "INVALID_FIELD": _Explained(
        ExitCode.USAGE, lambda failed, peer: f"the {peer.title} refuses the request: {failed.message}"
    ),
    "TOO_LARGE": _Explained(
        ExitCode.USAGE, lambda failed, peer: f"too much for the {peer.title}: {failed.message}"
    ),
    "BLOCK_NOT_FOUND": _Explained(
        ExitCode.NOT_DONE,
        lambda failed, _: (
            f"{failed.message}. `errata blocks` lists the blocks there are; --namespace names another "
            "namespace"
        ),
    ),
    "BACKFILL_NOT_FOUND": _Explained(
        ExitCode.NOT_DONE,
        lambda failed, _: (
            f"the Learner knows no backfill {_in(failed, 'backfill_id')!r}: it never was, or it ended more "
            "than 30 days ago. Start one with: errata backfill --since 2h"
        ),
    ),
    "TOKEN_MALFORMED": _Explained(
        ExitCode.USAGE,
        lambda *_: (
            "the token cannot be read. Give --token as a command printed it with --json, whole, or leave it "
            "out"
        ),
    ),
    "TOKEN_NOT_REACHED": _Explained(
        ExitCode.NOT_NOW,
        lambda *_: (
            "the RAG service has not received the state that the token names. Wait longer with --timeout, or "
            "see with `errata doctor` why it lags; without --token it answers from what it has"
        ),
    ),
    "TOKEN_LOST": _Explained(
        ExitCode.NOT_NOW,
        lambda *_: (
            "the token is from a history that the store has lost, as after a restore of a backup. "
            "Leave out --token"
        ),
    ),
    "EMBEDDER_MISMATCH": _Explained(
        ExitCode.NOT_NOW,
        lambda failed, _: (
            f"the embedders differ: wanted {_in(failed, 'want')}, got {_in(failed, 'got')}. Start both "
            "services with the same --embedder, or the RAG service without one"
        ),
    ),
    "EMBEDDER_UNAVAILABLE": _Explained(
        ExitCode.UNREACHABLE,
        lambda failed, peer: (
            f"the {peer.title} cannot reach its embedder: {failed.message}. Look at --openai-base-url and "
            f"the key of {peer.program}, or try again later"
        ),
    ),
    "EMBEDDER_REJECTED": _Explained(
        ExitCode.NOT_DONE,
        lambda failed, _: f"the embedder refuses the text for good: {failed.message}. Ask with another text",
    ),
    "STORE_FULL": _Explained(
        ExitCode.NOT_NOW,
        lambda *_: (
            "the Learner's store is full; nothing was recorded. Make room on its disk, or start "
            "errata-learner with a larger --store-bytes-max. Searches go on"
        ),
    ),
    "INDEX_NOT_READY": _Explained(
        ExitCode.UNREACHABLE,
        lambda *_: (
            "the RAG service has not finished its first sync with the Learner. Try again in a moment; if it "
            "stays so, `errata doctor` says why"
        ),
    ),
    "UNAUTHENTICATED": _Explained(
        ExitCode.DENIED,
        lambda failed, peer: f"the {peer.title} does not know who calls: {failed.message}",
    ),
    "NAMESPACE_DENIED": _Explained(
        ExitCode.DENIED,
        lambda failed, _: (
            f"your credentials do not cover the namespace {_in(failed, 'namespace')!r}. Name one that they "
            "cover with --namespace, or use others"
        ),
    ),
    "RIGHT_MISSING": _Explained(
        ExitCode.DENIED,
        lambda failed, peer: (
            f"your credentials lack the right {_in(failed, 'right')!r}, which this needs. Ask whoever runs "
            f"the {peer.title}"
        ),
    ),
    "NAMESPACE_NOT_FOLLOWED": _Explained(
        ExitCode.NOT_NOW,
        lambda failed, _: (
            f"the RAG service does not follow the namespace {_in(failed, 'namespace')!r}. Ask one that "
            "does, or start errata-rag with that --namespace too"
        ),
    ),
    "REEMBEDDING": _Explained(
        ExitCode.UNREACHABLE,
        lambda failed, _: (
            "the Learner is embedding its store anew: "
            f"{_in(failed, 'done')} of {_in(failed, 'total')} done. Try again when it is through; searches "
            "go on"
        ),
    ),
    "RATE_LIMITED": _Explained(
        ExitCode.NOT_NOW,
        lambda failed, peer: f"the {peer.title} has too much to do at once: {failed.message}. Try again soon",
    ),
    "INTERNAL": _Explained(
        ExitCode.SERVICE_BUG,
        lambda failed, peer: (
            f"a bug in the {peer.title}: its log has it under request_id {_in(failed, 'request_id')}. "
            "Please report it with those lines"
        ),
    ),
}
"""By the name of the ErrorReason without its prefix."""


def command_error(error: grpc.RpcError, peer: Peer, chosen: Chosen) -> CommandError:
    """What a person is told of a failed call.

    Args:
        error: as a stub raised it.
        peer: who was called.
        chosen: where, and how long was waited.
    """
    failed = Failure.of(error, method="", target=str(peer.address(chosen)))
    explained = REASONS.get(failed.reason)
    if explained is not None:
        return CommandError(
            explained.tell(failed, peer),
            explained.exit_code,
            reason=failed.reason,
            metadata=failed.metadata,
        )
    return _without_reason(failed, peer, chosen)


def _without_reason(failed: Failure, peer: Peer, chosen: Chosen) -> CommandError:
    where = peer.address(chosen)
    match failed.code:
        case grpc.StatusCode.UNAVAILABLE:
            return CommandError(
                f"no {peer.title} answers at {where}: start it with {peer.program}, or say where it is with "
                f"{peer.flag} or {peer.variable}",
                ExitCode.UNREACHABLE,
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return CommandError(
                f"no answer from the {peer.title} at {where} within {length(chosen.timeout_s)}; wait longer "
                "with --timeout, or see with `errata doctor` what it is doing",
                ExitCode.LATE,
            )
        case grpc.StatusCode.UNIMPLEMENTED:
            return CommandError(
                f"what answers at {where} is no {peer.title}; say where it is with {peer.flag} or "
                f"{peer.variable}",
                ExitCode.UNREACHABLE,
            )
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            return CommandError(f"the {peer.title} at {where} refuses: {failed.message}", ExitCode.DENIED)
        case _:
            return CommandError(
                f"the {peer.title} at {where} failed: {failed.code.name}: {failed.message}", ExitCode.NOT_DONE
            )
