"""Tasks of one event loop that wait to be called, first come, first served.

No call is lost: a task that is cancelled after it was called, but before it could run, passes its call on.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable


class WaitingLine:
    """A line of waiting tasks. Calling one and leaving the line take constant time."""

    def __init__(self) -> None:
        # Invariant: a turn stands here until it is called, or until its task has left.
        self._turns: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self._on_the_way_count = 0

    def __len__(self) -> int:
        """Tasks that have not been called. One that was cancelled counts until it has run."""
        return len(self._turns)

    @property
    def on_the_way_count(self) -> int:
        """Tasks that were called and have not run yet."""
        return self._on_the_way_count

    def call_next(self) -> bool:
        """Calls the task that has waited longest; False when none waits."""
        while self._turns:
            turn, _ = self._turns.popitem(last=False)
            # A turn that is done already is that of a task that was cancelled and is about to leave.
            if not turn.done():
                turn.set_result(None)
                self._on_the_way_count += 1
                return True
        return False

    def call_all(self) -> None:
        """Calls every task that waits."""
        while self.call_next():
            pass

    async def wait(self, *, pass_on: Callable[[], None]) -> None:
        """Returns when called.

        Args:
            pass_on: called when this task was called and then cancelled: it will not act upon its call.
        """
        turn = asyncio.get_running_loop().create_future()
        self._turns[turn] = None
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._turns.pop(turn, None)
            else:
                self._on_the_way_count -= 1
                pass_on()
            raise
        self._on_the_way_count -= 1
