"""What the logs of Foyle and of RunMe have in common: lines are of traces, and traces may be evaluations."""

import re
from typing import Final

from learner_service.analyzer.records import MalformedLineError

TRACE_ID_BYTES_MAX: Final = 128
"""As in BlockGenerated; real ones have 26 or 32."""

# Any line of a trace may say that the trace is an evaluation; that it is none is said by every line.
_EVALUATION: Final = re.compile(rb'"eval_?[Mm]ode"\s*:\s*true')


def marks_evaluation(line: bytes) -> bool:
    """True when the line may say that its trace is an evaluation. Decided on bytes."""
    return b'"eval' in line and _EVALUATION.search(line) is not None


def read_trace_id(written: str) -> str:
    """The ID of a trace as a line has it; empty when there is none, which is also written as zeros.

    Raises:
        MalformedLineError: it is too long.
        UnicodeError: it has half of a surrogate pair.
    """
    if len(written.encode()) > TRACE_ID_BYTES_MAX:
        raise MalformedLineError("a trace ID that is too long")
    return written if written.strip("0-") else ""
