"""Stops asking a server that keeps failing, and finds out gently whether it is back.

    closed      every call is let through
    open        after `FAILURES_MAX` failures in a row, or as soon as the server names a time: calls fail at
                once, until a pause is over
    half open   then one call alone is let through; if it fails, the next pause is twice as long

Belongs to one event loop.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from errata.embedding.embedder import EmbedderUnavailableError
from errata.embedding.openai_answers import RequestFailedError

FAILURES_MAX: Final = 5
"""In a row: fewer happen to a server that is well."""

PAUSE_S_MIN: Final = 1.0
"""The first pause. A person who asked a question may still be there when it is over."""

PAUSE_S_MAX: Final = 60.0
"""Where doubling ends: what comes back is noticed within a minute."""


class CircuitOpenError(EmbedderUnavailableError):
    """The server is not asked for now, because of what it did last."""


class Circuit:
    """See the module."""

    def __init__(self, server: str, now_s: Callable[[], float]) -> None:
        """Starts closed.

        Args:
            server: names it in messages.
            now_s: a monotonic clock.
        """
        self._server = server
        self._now_s = now_s
        self._failure_count = 0
        self._pause_s = PAUSE_S_MIN
        self._paused_until_s = now_s()
        self._trial_under_way = False
        self._problem = ""

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Takes note of how the call in the block ends. Any end but `RequestFailedError` is an answer.

        Raises:
            CircuitOpenError: the call must not be made now.
        """
        left_s = self._paused_until_s - self._now_s()
        if left_s > 0:
            raise CircuitOpenError(f"{self._server}: {self._problem}; it is asked again in {left_s:.0f} s")
        if self._trial_under_way:
            raise CircuitOpenError(f"{self._server}: {self._problem}; another call tries it now")
        is_trial = self._failure_count >= FAILURES_MAX
        self._trial_under_way = is_trial
        try:
            yield
        except RequestFailedError as failed:
            self.failed(failed)
            raise
        except Exception:
            self._answered()
            raise
        else:
            self._answered()
        finally:
            if is_trial:
                self._trial_under_way = False

    def failed(self, failed: RequestFailedError) -> None:
        """Takes note of a failure, also of one that only several answers together show."""
        self._failure_count += 1
        self._problem = failed.problem
        pause_s = failed.pause_s
        if self._failure_count >= FAILURES_MAX:
            pause_s = max(pause_s, self._pause_s)
            self._pause_s = min(2 * self._pause_s, PAUSE_S_MAX)
        self._paused_until_s = max(self._paused_until_s, self._now_s() + pause_s)

    def _answered(self) -> None:
        self._failure_count = 0
        self._pause_s = PAUSE_S_MIN
