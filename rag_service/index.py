"""The examples that can be found, in memory: one writer applies updates, any number of threads search.

Exact: the answer is what scoring every row that passes would give; `scoring.py` has the rule and the proof.
Consistent: a search works on one published state from beginning to end; it sees all of an `apply` or none.
Never blocked: no search waits for the writer, and the writer waits for no search; see `generations.py`.
Complete: malformed examples are received, count in `count` and `digest`, and cannot be found.
"""

import contextlib
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from errata import digest
from errata.v1 import learner_pb2
from rag_service.diversity import diversified
from rag_service.filters import select
from rag_service.generations import Publication, PublishedState
from rag_service.held_state import HeldState
from rag_service.index_errors import DimensionError, IndexFullError, QueryLengthError, StaleUpdateError
from rag_service.query import Hit, IndexAnswer, IndexQuery
from rag_service.questions import QuestionRule, best_by_rule
from rag_service.ranking import BuildRanking, FloatRanking
from rag_service.row_columns import RowColumns
from rag_service.rows import Rows
from rag_service.scoring import DIMENSION_MAX
from rag_service.updates import encoded_key, read_updates
from rag_service.vectors import is_unit_length, length

__all__ = ["ExampleIndex", "Hit", "IndexAnswer", "IndexQuery", "Quarantined", "encoded_key"]

CAPACITY_MAX: Final = 4 * 1024 * 1024
"""Rows that an index reserves address space for: 6 GiB of it at 384 dimensions. Memory is used by the row."""
_DIVERSITY_POOL_MAX: Final = 1_000
"""Most rows that diversity chooses from; `SearchRequest.diversity` promises it."""
_DIVERSITY_POOL_FACTOR: Final = 10
"""It chooses from so many times the limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """An example that cannot be found because its last update was malformed."""

    key: bytes
    """See `encoded_key`."""
    revision: int
    reason: str
    """For people; holds nothing of the example's text."""


class ExampleIndex:
    """The live examples of a stream of updates, and the nearest of them to a question.

    `apply` is called by one thread at a time; everything else by any number of threads, at any time.
    """

    def __init__(
        self,
        *,
        dimension: int,
        capacity_max: int = CAPACITY_MAX,
        build_ranking: BuildRanking = FloatRanking,
    ) -> None:
        """An empty index.

        Args:
            dimension: of the embeddings, at least 1, at most `DIMENSION_MAX`.
            capacity_max: most rows: live examples, and replaced ones that a search may still see.
            build_ranking: how rows are ranked; the answers are the same by any of them.

        Raises:
            AddressSpaceError: the system does not give the address space for `capacity_max` rows.
        """
        if not 1 <= dimension <= DIMENSION_MAX:
            raise ValueError(f"dimension {dimension} is not in 1 to {DIMENSION_MAX}")
        self.dimension: Final = dimension
        self._rows = Rows(dimension=dimension, capacity=capacity_max)
        self._publication = Publication()
        self._ranking = build_ranking(self._rows)
        # The writer's own; searches see them through the published state.
        self._live_count = 0
        self._digest = 0
        self._quarantine: dict[bytes, int] = {}
        """Revision by key."""
        self._withheld: dict[bytes, int] = {}
        """Revision by key; see `fill`."""

    @property
    def count(self) -> int:
        """Live examples, quarantined ones included."""
        return self._publication.current.example_count

    @property
    def digest(self) -> bytes:
        """Digest of the live examples, quarantined ones included, as a bookmark has it: 16 bytes."""
        return digest.encode(self._publication.current.digest)

    @property
    def quarantined_count(self) -> int:
        """Live examples that cannot be found because their last update was malformed."""
        return self._publication.current.quarantined_count

    @property
    def withheld_count(self) -> int:
        """Live examples that cannot be found because they are known to be deleted; see `fill`."""
        return self._publication.current.withheld_count

    @property
    def received_revision(self) -> int:
        """Newest change received; 0 when none."""
        return self._publication.current.received_revision

    @property
    def embedding_bytes(self) -> int:
        """Memory held by the embeddings."""
        return self._publication.current.row_count * self._rows.embeddings.strides[0]

    def apply(self, updates: Sequence[learner_pb2.ExampleUpdate]) -> Sequence[Quarantined]:
        """Takes in changes; searches that begin when it returns see all of them, earlier ones none.

        Deleting an example that is not there changes nothing but the received revision.

        Args:
            updates: in order of revision, each newer than what was received.

        Returns:
            The examples that these updates made impossible to find, for the log.

        Raises:
            StaleUpdateError: an update is not newer than the one before it; nothing was applied.
            IndexFullError: there is no room for them; nothing was applied.
        """
        received_revision = self._check_order(updates)
        changes = read_updates(updates, self.dimension)
        puts, malformed = changes.puts, changes.malformed
        self._make_room(len(puts.keys))
        generation = self._publication.current.generation + 1
        malformed_keys = [each.key for each in malformed]
        for key in self._held(itertools.chain(puts.keys, malformed_keys, changes.deleted)):
            self._take_away(key, generation)
        self._ranking.wrote(self._rows.put(puts, generation))
        self._live_count += len(puts.keys)
        self._quarantine.update((each.key, each.revision) for each in malformed)
        added = digest.total(puts.keys, puts.revisions)
        added += digest.total(malformed_keys, [each.revision for each in malformed])
        self._digest = digest.add(self._digest, added)
        self._publish(received_revision)
        return [Quarantined(key=key, revision=revision, reason=reason) for key, revision, reason in malformed]

    def fill(
        self,
        columns: RowColumns,
        *,
        quarantined: Mapping[bytes, int],
        withheld: Collection[bytes],
        received_revision: int,
        read_embeddings: Callable[[NDArray[np.float32]], None],
    ) -> None:
        """Takes in a whole state, where nothing has been applied yet; one that fails is not to be used.

        Args:
            columns: the examples that could be found then.
            quarantined: revision by key of those that could not.
            withheld: keys of examples that have been deleted since. They cannot be found, but count in
                `count` and `digest` until an update deletes or replaces them.
            received_revision: newest change that the state reflects.
            read_embeddings: puts the embeddings into the array that it is given, one row an example.

        Raises:
            ValueError: these do not fit each other.
            IndexFullError: there is no room for them.
        """
        count = len(columns.keys)
        if self._publication.current.generation:
            raise ValueError("the index is not empty")
        if self._rows.room < count:
            raise IndexFullError(capacity=self._rows.capacity, want=count - self._rows.room)
        self._ranking.expect(count)
        read_embeddings(self._rows.embeddings[:count])
        generation = self._publication.current.generation + 1
        self._rows.fill(columns, generation)
        self._ranking.wrote(range(count))
        self._live_count = count
        self._quarantine = dict(quarantined)
        revisions = zip(columns.keys, columns.revisions.tolist(), strict=True)
        for key, revision in itertools.chain(revisions, quarantined.items()):
            self._digest = digest.add(self._digest, digest.row_hash(key, revision))
        for key in withheld:
            revision = self._withhold(key, generation)
            if revision is not None:
                self._withheld[key] = revision
        self._publish(received_revision)

    def begin_filling(self) -> None:
        """Takes in that no search comes until `end_filling`: what would make it faster can wait."""
        self._ranking.begin_filling()

    def end_filling(self) -> None:
        """Takes in that searches come from now on."""
        self._ranking.end_filling()

    def keys(self) -> set[bytes]:
        """The keys of the live examples, quarantined ones included. Nothing may be applied meanwhile."""
        held = self.hold()
        try:
            return {*map(self._rows.keys.__getitem__, held.numbers().tolist()), *self._quarantine}
        finally:
            held.release()

    def hold(self) -> HeldState:
        """The state as it is now, for any thread to read. Nothing may be applied during the call."""
        return HeldState(rows=self._rows, publication=self._publication, quarantined=dict(self._quarantine))

    def search(self, query: IndexQuery) -> IndexAnswer:
        """The examples nearest to a question, in the order of steps of `RagService.Search`.

        Raises:
            DimensionError: the query has another dimension than the index.
            QueryLengthError: it is not a unit vector.
        """
        if query.embedding.shape != (self.dimension,):
            raise DimensionError(want=self.dimension, got=query.embedding.size)
        query_length = length(query.embedding)
        if not is_unit_length(query_length):
            raise QueryLengthError(query_length)
        state = self._publication.take()
        try:
            return self._answer(query, state)
        finally:
            self._publication.give_back(state)

    def _answer(self, query: IndexQuery, state: PublishedState) -> IndexAnswer:
        rows = self._rows
        selection = select(rows, state, query, list_share=self._ranking.list_share)
        rule = QuestionRule(rows, selection, query.per_question_limit)
        pool_size = min(_DIVERSITY_POOL_FACTOR * query.limit, _DIVERSITY_POOL_MAX) if query.diversity else 0
        with contextlib.closing(self._ranking.scan(selection, query.embedding)) as scan:
            ranked = best_by_rule(scan, rule, max(query.limit, pool_size))
        found = ranked
        if query.min_score is not None:
            found = [candidate for candidate in ranked if candidate.score >= query.min_score]
        below_count = min(len(ranked), query.limit) - min(len(found), query.limit)
        if query.diversity:
            found = diversified(
                found[:pool_size], rows.embeddings, count=query.limit, diversity=query.diversity
            )
        return IndexAnswer(
            hits=[Hit(rows.examples[candidate.row], candidate.score) for candidate in found[: query.limit]],
            below_min_score_count=below_count,
            received_revision=state.received_revision,
        )

    def _check_order(self, updates: Sequence[learner_pb2.ExampleUpdate]) -> int:
        received_revision = self.received_revision
        for revision in [update.revision for update in updates]:
            if revision <= received_revision:
                raise StaleUpdateError(revision=revision, received_revision=received_revision)
            received_revision = revision
        return received_revision

    def _make_room(self, count: int) -> None:
        """Frees what can be freed, and sees to it that so many rows can be put."""
        self._reclaim()
        if self._rows.room < count:
            # Rows that are cleared become free with a later generation: let it come now.
            self._publish(self.received_revision)
            self._reclaim()
        if self._rows.room < count:
            raise IndexFullError(capacity=self._rows.capacity, want=count - self._rows.room)

    def _reclaim(self) -> None:
        self._rows.reclaim(
            oldest_seen=self._publication.oldest_seen(),
            next_generation=self._publication.current.generation + 1,
        )

    def _held(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of the keys that may have something to take away: in a first sync none."""
        wanted = list(keys)
        hidden = (self._quarantine.keys() & wanted) | (self._withheld.keys() & wanted)
        return self._rows.known(wanted) | hidden

    def _take_away(self, key: bytes, generation: int) -> None:
        """Removes an example, quarantined or not, from the state that is being prepared."""
        revision = self._withhold(key, generation)
        if revision is None:
            revision = self._withheld.pop(key, None)
        if revision is not None:
            self._digest = digest.subtract(self._digest, digest.row_hash(key, revision))

    def _withhold(self, key: bytes, generation: int) -> int | None:
        """Removes an example that is not withheld from all but the digest; returns its revision."""
        revision = self._quarantine.pop(key, None)
        row = self._rows.live(key)
        if row is not None:
            revision = self._rows.revision(row)
            self._rows.end(row, generation)
            self._live_count -= 1
        return revision

    def _publish(self, received_revision: int) -> None:
        self._publication.publish(
            PublishedState(
                generation=self._publication.current.generation + 1,
                row_count=self._rows.row_count,
                received_revision=received_revision,
                example_count=self._live_count + len(self._quarantine) + len(self._withheld),
                quarantined_count=len(self._quarantine),
                withheld_count=len(self._withheld),
                digest=self._digest,
            )
        )
