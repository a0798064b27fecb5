"""How long to wait before following the Learner again.

A stream that had lived was cut by a restart or a network: the first attempt comes at once, spread a little.
What fails again, or failed from the start, waits longer each time, with full jitter: a thousand replicas that
lost one Learner must not come back together. While a caller waits for its write, no attempt is put off for
long: delays grow as long as the Learner is away, and soon are longer than anybody waits.
"""

from collections.abc import Callable
from typing import Final

STREAM_LIVED_S_MIN: Final = 10.0
"""A stream that lived this long was a good one: its end begins a new series of attempts."""
FIRST_DELAY_S_MAX: Final = 0.05
"""Spreads the first attempts after a good stream."""
DELAY_S_MIN: Final = 0.8
"""Upper end of the jitter after the first failure; it doubles with each that follows."""
DELAY_S_MAX: Final = 30.0
"""Where doubling ends."""
REFUSED_DELAY_S_MAX: Final = 30.0
"""A refusal needs a person, or an upgrade that takes minutes: half to all of this passes before a retry."""


class Reconnect:
    """The delays of one series of attempts after another."""

    def __init__(self, *, uniform: Callable[[float, float], float]) -> None:
        """Takes the source of randomness, such as `random.uniform`."""
        self._uniform = uniform
        self._failure_count = 0

    def delay_s(self, *, lived_s: float) -> float:
        """The delay after a stream ended.

        Args:
            lived_s: from its first message to its last one; 0 when there was none, and when what it
                brought had to be thrown away.
        """
        if lived_s >= STREAM_LIVED_S_MIN:
            self._failure_count = 0
            return self._uniform(0.0, FIRST_DELAY_S_MAX)
        ceiling_s = min(DELAY_S_MAX, DELAY_S_MIN * 2.0 ** min(self._failure_count, 16))
        self._failure_count += 1
        return self._uniform(0.0, ceiling_s)

    def hurried_delay_s(self) -> float:
        """The longest delay once a caller waits for what is to come: short, and spread all the same."""
        return self._uniform(0.0, DELAY_S_MIN)

    def refused_delay_s(self) -> float:
        """The delay after the Learner refused the call, or this service what it announced."""
        return self._uniform(REFUSED_DELAY_S_MAX / 2, REFUSED_DELAY_S_MAX)
