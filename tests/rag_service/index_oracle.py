"""What the index should answer, in plain Python, following the order of steps in rag.proto line by line.

Shares nothing with the index but the contract: no numpy, no bounds, every row scored, every question
looked at.
"""

import math
import struct
from dataclasses import dataclass
from hashlib import blake2b

from errata.v1.block_pb2 import BLOCK_KIND_CODE
from errata.v1.example_pb2 import Example
from errata.v1.learner_pb2 import ExampleUpdate
from rag_service.index import IndexQuery

Found = tuple[str, str, float]
"""Namespace, ID and score."""


def score(left: list[float], right: list[float]) -> float:
    """The cosine of two unit vectors of float32, as the float32 nearest to the exact sum."""
    exact = math.fsum(a * b for a, b in zip(left, right, strict=True))
    rounded: float = struct.unpack("<f", struct.pack("<f", exact))[0]
    return max(-1.0, min(1.0, rounded))


def elements(embedding: bytes) -> list[float]:
    return list(struct.unpack(f"<{len(embedding) // 4}f", embedding))


@dataclass
class Known:
    example: Example
    revision: int
    malformed: bool

    @property
    def key(self) -> bytes:
        return self.example.namespace.encode() + b"\0" + self.example.id.encode()

    @property
    def executed(self) -> int:
        return self.example.executed_time.seconds * 1_000_000_000 + self.example.executed_time.nanos

    @property
    def language(self) -> str:
        blocks = [block for block in self.example.answer if block.kind == BLOCK_KIND_CODE]
        return blocks[0].language if blocks else ""

    @property
    def question(self) -> tuple[str, str]:
        return " ".join(self.example.query_text.casefold().split()), self.language


class Oracle:
    """The state after some updates."""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.known: dict[bytes, Known] = {}
        self.received_revision = 0

    def apply(self, updates: list[ExampleUpdate]) -> None:
        for update in updates:
            self.received_revision = update.revision
            if update.HasField("put"):
                known = Known(update.put, update.revision, self._is_malformed(update.put.embedding))
                self.known[known.key] = known
            else:
                self.known.pop(update.deleted.namespace.encode() + b"\0" + update.deleted.id.encode(), None)

    @property
    def quarantined_count(self) -> int:
        return sum(known.malformed for known in self.known.values())

    @property
    def digest(self) -> bytes:
        """As WatchBookmark.digest defines it."""
        total = 0
        for key, known in self.known.items():
            hashed = blake2b(key + b"\0" + known.revision.to_bytes(8, "big"), digest_size=16).digest()
            total += int.from_bytes(hashed, "big")
        return (total % 2**128).to_bytes(16, "big")

    def search(self, query: IndexQuery) -> tuple[list[Found], int]:
        """The hits, and how many of the `limit` best were below `min_score`."""
        passed = [
            known
            for known in self.known.values()
            if not known.malformed and self._passes(known, query) and known.key not in query.exclude
        ]
        questions: dict[tuple[str, str], list[Known]] = {}
        for known in passed:
            questions.setdefault(known.question, []).append(known)
        kept: list[Known] = []
        for asked in questions.values():
            asked.sort(key=lambda known: (-known.executed, known.key))
            kept.extend(asked[: query.per_question_limit])
        wanted = [float(element) for element in query.embedding]
        ranked = [(score(elements(known.example.embedding), wanted), known) for known in kept]
        ranked.sort(key=lambda pair: (-pair[0], pair[1].key))
        low = [pair for pair in ranked if query.min_score is not None and pair[0] < query.min_score]
        below_count = sum(pair in low for pair in ranked[: query.limit])
        ranked = [pair for pair in ranked if pair not in low]
        if query.diversity > 0:
            ranked = self._diversified(ranked[: min(10 * query.limit, 1000)], query)
        hits = [(known.example.namespace, known.example.id, own) for own, known in ranked[: query.limit]]
        return hits, below_count

    def _is_malformed(self, embedding: bytes) -> bool:
        if len(embedding) != 4 * self.dimension:
            return True
        values = elements(embedding)
        if not all(map(math.isfinite, values)):
            return True
        return abs(math.sqrt(math.fsum(value * value for value in values)) - 1) > 1e-6

    def _passes(self, known: Known, query: IndexQuery) -> bool:
        return (
            known.example.namespace in (query.namespaces or ("",))
            and all(known.example.labels.get(key) == value for key, value in query.labels.items())
            and (not query.languages or known.language in query.languages)
            and (query.executed_since_ns is None or known.executed >= query.executed_since_ns)
        )

    def _diversified(self, pool: list[tuple[float, Known]], query: IndexQuery) -> list[tuple[float, Known]]:
        chosen = pool[:1]
        left = pool[1:]
        while left and len(chosen) < query.limit:

            def value(pair: tuple[float, Known]) -> float:
                own = elements(pair[1].example.embedding)
                nearest = max(score(own, elements(other.example.embedding)) for _, other in chosen)
                return (1.0 - query.diversity) * pair[0] - query.diversity * nearest

            # Of equal values, max takes the first: the one that scores better.
            best = max(left, key=value)
            left.remove(best)
            chosen.append(best)
        return chosen
