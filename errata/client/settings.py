"""What can be set of a client."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

LEARNER_VARIABLE: Final = "ERRATA_LEARNER"
"""Address of the Learner; the same variable tells a RAG service whom to follow."""
RAG_VARIABLE: Final = "ERRATA_RAG"
"""Address of the RAG service."""
LEARNER_DEFAULT: Final = "127.0.0.1:7411"
RAG_DEFAULT: Final = "127.0.0.1:7412"


class WhenBehind(Enum):
    """What a search does when the RAG service has not received, in time, what the client wrote."""

    SEARCH = "search"
    """Searches what there is; the answer says so in `sees_own_writes`."""
    RAISE = "raise"
    """Raises TokenNotReachedError, or TokenLostError when the write is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of a client; each call may choose another deadline, wait or namespace."""

    namespace: str = ""
    """Whose blocks are recorded, and whose examples are searched. Empty is the default namespace."""
    deadline_s: float = 10.0
    """The longest that a call takes, waits and retries included."""
    learn_wait_s: float = 5.0
    """How long recording waits until the blocks are learned from; 0 does not wait, and then searches of this
    client do not wait for them either."""
    token_wait_s: float = 2.0
    """How long a search waits for what this client wrote; at most half of its deadline where it may go on
    without."""
    when_behind: WhenBehind = WhenBehind.SEARCH
    metadata: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Sent with every call, keys in lower case, such as `("authorization", "Bearer …")`."""

    def __post_init__(self) -> None:
        """Checks the times.

        Raises:
            ValueError: one of them is no time; names it.
        """
        for name in ("learn_wait_s", "token_wait_s"):
            check_seconds(name, getattr(self, name))
        check_deadline(self.deadline_s)


def check_seconds(name: str, seconds: float) -> None:
    """Passes a length of time.

    Raises:
        ValueError: it is negative, or no number; names it.
    """
    if not (seconds >= 0 and math.isfinite(seconds)):
        raise ValueError(f"{name}: a number of seconds, at least 0, got {seconds}")


def check_deadline(deadline_s: float) -> None:
    """Passes the time that a call may take.

    Raises:
        ValueError: it is not above 0, or no number.
    """
    if not (deadline_s > 0 and math.isfinite(deadline_s)):
        raise ValueError(f"deadline_s: a number of seconds above 0, got {deadline_s}")


def addresses_from(environ: Mapping[str, str] = os.environ) -> tuple[str | None, str | None]:
    """The addresses of the Learner and of the RAG service.

    A variable that is not set means the address at which the service listens by default; an empty one means
    that the service is not used.
    """
    return (
        environ.get(LEARNER_VARIABLE, LEARNER_DEFAULT) or None,
        environ.get(RAG_VARIABLE, RAG_DEFAULT) or None,
    )
