"""An index that only holds what it receives: enough for the real `Mirror`, and cheap."""

from collections.abc import Callable, Sequence

from errata import digest
from errata.v1.learner_pb2 import ExampleUpdate
from learner_service.keys import BlockKey
from rag_service.index import Quarantined
from rag_service.index_errors import StaleUpdateError
from tests.model.oracle import TrueState


class HeldExamples:
    """Keeps those promises of `rag_service.index.ExampleIndex` that a mirror relies on."""

    def __init__(self, arriving: Callable[[], TrueState] = TrueState) -> None:
        """Holds nothing.

        Args:
            arriving: what was true where the changes that are applied now come from.
        """
        self.examples: dict[BlockKey, tuple[int, str]] = {}
        """Revision and text."""
        self.received_revision = 0
        self.source = TrueState()
        """What was true where the newest change came from."""
        self.quarantined_count = 0
        self.withheld_count = 0
        self._arriving = arriving
        self._digest = 0

    def copy(self, arriving: Callable[[], TrueState]) -> "HeldExamples":
        """The same examples, for another process."""
        copied = HeldExamples(arriving)
        copied.examples = dict(self.examples)
        copied.received_revision = self.received_revision
        copied.source = self.source
        copied._digest = self._digest
        return copied

    @property
    def count(self) -> int:
        return len(self.examples)

    @property
    def digest(self) -> bytes:
        return digest.encode(self._digest)

    def begin_filling(self) -> None:
        """Nothing here makes searches faster."""

    def end_filling(self) -> None:
        """Nothing here makes searches faster."""

    def apply(self, updates: Sequence[ExampleUpdate]) -> Sequence[Quarantined]:
        for update in updates:
            if update.revision <= self.received_revision:
                raise StaleUpdateError(revision=update.revision, received_revision=self.received_revision)
            self.received_revision = update.revision
            if update.HasField("put"):
                self._replace(
                    BlockKey(update.put.namespace, update.put.id), (update.revision, update.put.query_text)
                )
            else:
                self._replace(BlockKey(update.deleted.namespace, update.deleted.id), None)
        self.source = self._arriving()
        return ()

    def _replace(self, key: BlockKey, now: tuple[int, str] | None) -> None:
        before = self.examples.pop(key, None)
        if before is not None:
            self._digest = digest.subtract(self._digest, digest.row_hash(key.encode(), before[0]))
        if now is not None:
            self.examples[key] = now
            self._digest = digest.add(self._digest, digest.row_hash(key.encode(), now[0]))
