"""How far the searched state has come, and the calls that wait for it to come further.

A waiting call costs a future and holds no thread. It is looked at again when something that decides about
tokens changes: the epochs of a Hello, or a bookmark.
"""

import asyncio

from errata.v1 import token_pb2
from rag_service.clock import Clock
from rag_service.read_your_writes import NO_EPOCHS, Epochs, Verdict, decide


class Progress:
    """What `read_your_writes.decide` needs to know, kept up to date, and its waiters.

    Used on one event loop.
    """

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        # Of the last Hello; None before the first one, and then what the state itself says counts.
        self._known: tuple[bytes, Epochs] | None = None
        self._own_store_id = b""
        self._own = NO_EPOCHS
        self._applied_revision = 0
        self._waiters: dict[asyncio.Future[None], token_pb2.StateToken] = {}
        self._somebody_waits = asyncio.Event()

    @property
    def store_id(self) -> bytes:
        """The store that is followed; empty before anything is known of it."""
        return self._own_store_id if self._known is None else self._known[0]

    @property
    def applied_revision(self) -> int:
        """Revision of the last bookmark of the searched state; 0 before the first."""
        return self._applied_revision

    @property
    def waiter_count(self) -> int:
        """Calls that wait now."""
        return len(self._waiters)

    async def somebody_waits(self) -> None:
        """Returns when a call waits."""
        await self._somebody_waits.wait()

    def hello(self, store_id: bytes, epochs: Epochs) -> None:
        """Takes in what a Hello says of the store and its history."""
        self._known = (store_id, epochs)
        self._wake()

    def bookmark(self, store_id: bytes, epochs: Epochs, revision: int) -> None:
        """Takes in that the searched state is exactly the store's at a revision.

        Args:
            store_id: of the Hello under which the bookmark came.
            epochs: of that Hello.
            revision: of the bookmark.
        """
        self._own_store_id = store_id
        self._own = epochs
        self._applied_revision = revision
        self._wake()

    def decide(self, token: token_pb2.StateToken) -> Verdict:
        """Tells whether the searched state reflects the token's change, now."""
        store_id, known = self._known if self._known is not None else (self._own_store_id, self._own)
        return decide(
            token,
            store_id=store_id,
            known=known,
            own=self._own,
            applied_revision=self._applied_revision,
        )

    async def wait_for(self, token: token_pb2.StateToken, max_wait_s: float) -> Verdict:
        """Waits until the token can be decided.

        The verdict holds when this returns: nothing else runs between the last look and the return.

        Args:
            token: the change that is waited for.
            max_wait_s: the longest wait, at least 0.

        Returns:
            The verdict; WAIT when the time ran out.
        """
        deadline_s = self._clock.monotonic_s() + max_wait_s
        while (verdict := self.decide(token)) is Verdict.WAIT:
            remaining_s = deadline_s - self._clock.monotonic_s()
            if remaining_s <= 0:
                break
            await self._wait_for_change(token, remaining_s)
        return verdict

    async def _wait_for_change(self, token: token_pb2.StateToken, max_wait_s: float) -> None:
        changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        alarm = asyncio.ensure_future(self._clock.sleep(max_wait_s))
        self._waiters[changed] = token
        self._somebody_waits.set()
        try:
            await asyncio.wait((changed, alarm), return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._waiters[changed]
            if not self._waiters:
                self._somebody_waits.clear()
            alarm.cancel()

    def _wake(self) -> None:
        for changed, token in self._waiters.items():
            if not changed.done() and self.decide(token) is not Verdict.WAIT:
                changed.set_result(None)
