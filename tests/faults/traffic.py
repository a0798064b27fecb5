"""Writers that know what was acknowledged to them, and an asker that searches for it at once.

Each block has one writer, who sends its next event only when the last one was acknowledged, again and again
until it is. So of every block one knows exactly what it must be in the end, whatever died in between.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from errata.v1.block_pb2 import (
    BLOCK_KIND_CODE,
    BLOCK_KIND_MARKUP,
    Block,
    BlockEvent,
    BlockExecuted,
    Doc,
)
from errata.v1.learner_pb2 import ForgetExampleRequest, RecordEventsRequest
from errata.v1.rag_pb2 import SearchFilter, SearchRequest
from errata.v1.token_pb2 import StateToken
from tests.faults.validator import Key, Moment

if TYPE_CHECKING:
    from errata.v1.learner_pb2_grpc import LearnerServiceAsyncStub
    from errata.v1.rag_pb2_grpc import RagServiceAsyncStub

RETRY_S: Final = 0.05
CALL_S_MAX: Final = 3.0
"""A call that takes longer went to a process that is frozen or gone."""
LEARN_WAIT_S: Final = 2
FIRST_EVENT_S: Final = 1_700_000_000
PADDING: Final = "." * 16_000
"""So long that a few dozen examples are more than one message of a stream holds."""
FORGET_SHARE: Final = 0.03
"""Of the writes; the block is dead then, and another takes its place."""

TRANSIENT: Final = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
)
"""What dying processes and cut links answer; anything else is an error of the services."""


NEVER: Final = Moment(0, 0)


@dataclass(slots=True)
class Written:
    """What the Learner has acknowledged of one block."""

    number: int = 0
    """Of the write; 0 before the first."""
    moment: Moment = NEVER
    """Of its example, by the newest token."""
    forgotten: bool = False
    """True from when ForgetExample was first asked for."""


@dataclass
class Acknowledged:
    """Everything that was acknowledged, by block."""

    blocks: dict[Key, Written] = field(default_factory=dict)
    count: int = 0
    """Acknowledgements."""
    tokens: "asyncio.Queue[tuple[Key, int, bytes]]" = field(default_factory=lambda: asyncio.Queue(64))
    """The latest: block, number of the write, token."""

    def tell(self, write: tuple[Key, int, bytes]) -> None:
        """Notes the token of a write; when nobody takes them, the oldest is forgotten."""
        if self.tokens.full():
            self.tokens.get_nowait()
        self.tokens.put_nowait(write)

    def live(self) -> dict[Key, Written]:
        """The blocks that must have an example."""
        return {key: written for key, written in self.blocks.items() if not written.forgotten}


class Writer:
    """Writes to blocks of its own, one write after another."""

    def __init__(
        self,
        name: str,
        learner: "LearnerServiceAsyncStub",
        acknowledged: Acknowledged,
        *,
        chance: random.Random,
        namespaces: Sequence[str] = ("", "team"),
        block_count: int = 10,
        pause_s: float = 0.0,
    ) -> None:
        self._name = name
        self._learner = learner
        self._acknowledged = acknowledged
        self._chance = chance
        self._pause_s = pause_s
        self._namespaces = tuple(namespaces)
        self._made_count = 0
        self._keys = [self._new_key() for _ in range(block_count)]
        self._ending = False

    async def run(self) -> None:
        """Writes until `end`."""
        while not self._ending:
            place = self._chance.randrange(len(self._keys))
            key = self._keys[place]
            if self._chance.random() < FORGET_SHARE:
                await self._forget(key)
                self._keys[place] = self._new_key()
            else:
                await self._write(key)
            self._acknowledged.count += 1
            await asyncio.sleep(self._pause_s)

    def end(self) -> None:
        """Lets `run` return once the write that is under way has been acknowledged."""
        self._ending = True

    async def _write(self, key: Key) -> None:
        written = self._acknowledged.blocks.setdefault(key, Written())
        number = written.number + 1
        request = RecordEventsRequest(
            events=[run_event(key, number)], learn_wait=Duration(seconds=LEARN_WAIT_S)
        )
        while True:
            try:
                response = await self._learner.RecordEvents(request, timeout=CALL_S_MAX)
                break
            except grpc.aio.AioRpcError as error:
                await _survive(error)
        written.number = number
        if response.token:
            token = StateToken.FromString(response.token)
            written.moment = Moment(token.epoch, token.revision)
            self._acknowledged.tell((key, number, response.token))

    async def _forget(self, key: Key) -> None:
        # Noted first: whoever asks for the block meanwhile may find it or not.
        self._acknowledged.blocks.setdefault(key, Written()).forgotten = True
        request = ForgetExampleRequest(namespace=key[0], id=key[1])
        while True:
            try:
                await self._learner.ForgetExample(request, timeout=CALL_S_MAX)
                break
            except grpc.aio.AioRpcError as error:
                await _survive(error)

    def _new_key(self) -> Key:
        self._made_count += 1
        return self._chance.choice(self._namespaces), f"{self._name}-{self._made_count}"


class Asker:
    """Asks for what was just acknowledged, with its token: the answer must know it, or something newer."""

    def __init__(self, rag: "RagServiceAsyncStub", acknowledged: Acknowledged) -> None:
        self._rag = rag
        self._acknowledged = acknowledged
        self.answer_count = 0
        self.violations: list[str] = []

    async def run(self) -> None:
        """Asks until it is cancelled."""
        while True:
            key, number, token = await self._acknowledged.tokens.get()
            try:
                found = await self.number(key, token)
            except grpc.aio.AioRpcError as error:
                # Not reached in time is an honest answer while something is down; lost is not.
                if error.code() not in TRANSIENT and "TOKEN_NOT_REACHED" not in _reason(error):
                    self.violations.append(f"{key}: {error.code().name} {_reason(error)} {error.details()}")
                await asyncio.sleep(RETRY_S)
                continue
            self.answer_count += 1
            if not self._acknowledged.blocks[key].forgotten and found < number:
                self.violations.append(f"{key}: write {number} was acknowledged, found was {found}")

    async def number(self, key: Key, token: bytes = b"") -> int:
        """The number of the write that a search finds, of a state that has reached the token; 0 for none."""
        response = await self._rag.Search(
            SearchRequest(
                text=question(key), limit=1, filter=SearchFilter(namespaces=[key[0]]), min_token=token
            ),
            timeout=CALL_S_MAX,
        )
        if not response.results or response.results[0].example.id != key[1]:
            return 0
        return int(response.results[0].example.answer[0].contents.rpartition(" ")[2])


def question(key: Key) -> str:
    """What stands before a block, always: its words are those of no other block."""
    return f"how is {key[1]} done"


def contents(key: Key, number: int) -> str:
    """What the n-th run of a block ran."""
    return f"run-{key[1]} {PADDING} {number}"


def run_event(key: Key, number: int) -> BlockEvent:
    """The n-th run of a block, a second after the one before, so that the latest wins."""
    return BlockEvent(
        namespace=key[0],
        block_id=key[1],
        event_time=Timestamp(seconds=FIRST_EVENT_S + number),
        executed=BlockExecuted(
            block=Block(kind=BLOCK_KIND_CODE, language="bash", contents=contents(key, number)),
            exit_code=0,
            doc=Doc(blocks=[Block(kind=BLOCK_KIND_MARKUP, contents=question(key))]),
        ),
    )


async def _survive(error: grpc.aio.AioRpcError) -> None:
    if error.code() not in TRANSIENT:
        raise error
    await asyncio.sleep(RETRY_S)


def _reason(error: grpc.aio.AioRpcError) -> str:
    """Whatever the status carries besides its message, for a look into it."""
    values = [value for _, value in error.trailing_metadata() or ()]
    return " ".join(value.decode(errors="replace") if isinstance(value, bytes) else value for value in values)
