"""How long a key that failed waits before it is tried again: twice as long with each failure, up to a cap.

    delay_s(n) = min(delay_s_min · 2ⁿ, delay_s_max)        n = failures before this one

Each key has its own count, so a key that always fails slows down nobody but itself. There is no jitter: keys
that failed together come back together, and are one batch for the embedder.
"""

import math
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

RETRY_DELAY_S_MIN: Final = 0.1
"""The first wait. Long enough for a connection to be made anew, too short for a person to notice."""

RETRY_DELAY_S_MAX: Final = 60.0
"""The longest wait, and so the longest that learning stands still after an outage has ended."""


class ExponentialBackoff(Generic[K]):
    """Counts the failures of each key since it was last forgotten.

    A count is kept until `forget`; whoever gives up on a key forgets it too, or its count stays for ever.
    """

    def __init__(
        self, *, delay_s_min: float = RETRY_DELAY_S_MIN, delay_s_max: float = RETRY_DELAY_S_MAX
    ) -> None:
        if not 0 < delay_s_min <= delay_s_max < math.inf:
            raise ValueError(f"want 0 < delay_s_min <= delay_s_max, got {delay_s_min} and {delay_s_max}")
        self._delay_s_min = delay_s_min
        self._delay_s_max = delay_s_max
        # Holds no zeros: failures[k] >= 1.
        self._failures: dict[K, int] = {}

    def delay_s(self, failure_count: int) -> float:
        """The wait after a failure that `failure_count` others came before; counts nothing."""
        try:
            return min(math.ldexp(self._delay_s_min, failure_count), self._delay_s_max)
        except OverflowError:
            return self._delay_s_max

    def next_delay_s(self, key: K) -> float:
        """Counts one more failure of the key, and returns how long to wait after it."""
        failure_count = self._failures.get(key, 0)
        self._failures[key] = failure_count + 1
        return self.delay_s(failure_count)

    def failure_count(self, key: K) -> int:
        """Failures of the key since it was last forgotten."""
        return self._failures.get(key, 0)

    def forget(self, key: K) -> None:
        """Starts the key over: its next failure is its first. Does nothing for a key without failures."""
        self._failures.pop(key, None)
