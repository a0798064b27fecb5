"""Why nothing was learned from a block, and what to do about it, in sentences: one table of reasons.

A test holds that every NotLearnedReason is in it.
"""

from collections.abc import Mapping
from typing import Final

from errata.v1.example_pb2 import (
    EXAMPLE_ORIGIN_CORRECTION,
    EXAMPLE_ORIGIN_EXECUTION,
    EXAMPLE_ORIGIN_TAUGHT,
    ExampleOrigin,
)
from errata.v1.learner_pb2 import BlockState, NotLearnedReason

_PREFIX: Final = "NOT_LEARNED_REASON_"

SENTENCES: Final[Mapping[str, str]] = {
    "not-executed": "Nobody has run it. Once somebody does, it is looked at again.",
    "not-generated": (
        "No assistant proposed anything, and the policy of the Learner learns corrections only. Record what "
        "was proposed too (errata record --proposed), teach it (errata teach), or start errata-learner with "
        "--policy executions."
    ),
    "unchanged": (
        "It ran as it was proposed, and the policy of the Learner learns corrections only: the assistant "
        "knew it already."
    ),
    "failed": "Every run failed, or what last succeeded has failed since. A run that succeeds is learned.",
    "evaluation": "It belongs to an evaluation; nothing is ever learned from those.",
    "no-context": "Nothing precedes it, so there is no question to learn. Record it with its question.",
    "blank": "What ran is blank.",
    "forgotten": "It was forgotten (errata forget). That cannot be undone; teach it again under another ID.",
    "error": "Learning failed for good. Mend what the error names, then: errata reconcile",
    "too-large": "The example would be larger than 1 MiB. Record it with a shorter document.",
    "pending": "It waits for its turn. To have it now: errata reconcile",
}
"""By reason, as the command line writes it."""

_ORIGINS: Final[Mapping[ExampleOrigin.ValueType, str]] = {
    EXAMPLE_ORIGIN_CORRECTION: "correction",
    EXAMPLE_ORIGIN_EXECUTION: "execution",
    EXAMPLE_ORIGIN_TAUGHT: "taught",
}


def reason_name(reason: NotLearnedReason.ValueType) -> str:
    """A reason as the command line writes it, such as `not-executed`; empty when there is none."""
    name = NotLearnedReason.Name(reason) if reason in NotLearnedReason.values() else f"{_PREFIX}{reason}"
    name = name.removeprefix(_PREFIX)
    return "" if name == "UNSPECIFIED" else name.lower().replace("_", "-")


def reason_value(name: str) -> NotLearnedReason.ValueType:
    """The reason that `reason_name` writes so.

    Raises:
        ValueError: there is none.
    """
    return NotLearnedReason.Value(_PREFIX + name.upper().replace("-", "_"))


def origin_name(origin: ExampleOrigin.ValueType) -> str:
    """What an example was learned from, in a word."""
    return _ORIGINS.get(origin, "")


def verdict(state: BlockState) -> str:
    """What became of a block, in a sentence or two."""
    reason = reason_name(state.reason)
    because = SENTENCES.get(reason, f"Reason: {reason}." if reason else "")
    if not state.learned:
        said = f"Not learned ({reason}). {because}" if reason else "Not learned."
    elif reason:
        said = f"Learned; but the example could not be brought up to date ({reason}). {because}"
    else:
        said = "Learned."
    return f"{said} Last error: {state.last_error}" if state.last_error else said
