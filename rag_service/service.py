"""What RagService promises on the wire: checks a call, asks the parts, and translates what they say."""

import asyncio
from collections.abc import Callable, Collection
from concurrent.futures import Executor
from functools import partial
from typing import Final, TypeVar

import grpc

from errata.embedding import EmbedderError, EmbedderRejectedError
from errata.serving.server import Call
from errata.serving.statuses import StatusRule, StatusTable
from errata.v1 import learner_pb2, rag_pb2
from rag_service.answer import duration, encoded_response
from rag_service.errors import (
    IndexNotReadyError,
    NamespaceNotFollowedError,
    TokenLostError,
    TokenMalformedError,
    TokenNotReachedError,
)
from rag_service.index_errors import DimensionError
from rag_service.mirror import Mirror, Replica
from rag_service.progress import Progress
from rag_service.query import IndexAnswer
from rag_service.read_your_writes import Verdict
from rag_service.search_request import EmbeddedQuestion, Search, read_search
from rag_service.search_runner import SearchRunner

DEADLINE_MARGIN_S: Final = 0.05
"""A wait ends so long before the deadline of the call: the client gets our error, which says what was wanted,
and not DEADLINE_EXCEEDED, which says nothing."""
INLINE_QUERY_BYTES_MAX: Final = 4 * 1024
"""A question of so few bytes is redacted on the event loop, in less than 1 ms; one of 1 MiB takes 200 ms."""

Result = TypeVar("Result")

STATUSES: Final[StatusTable] = {
    IndexNotReadyError: StatusRule(grpc.StatusCode.UNAVAILABLE, learner_pb2.ERROR_REASON_INDEX_NOT_READY),
    TokenMalformedError: StatusRule(
        grpc.StatusCode.INVALID_ARGUMENT, learner_pb2.ERROR_REASON_TOKEN_MALFORMED
    ),
    TokenNotReachedError: StatusRule(
        grpc.StatusCode.FAILED_PRECONDITION,
        learner_pb2.ERROR_REASON_TOKEN_NOT_REACHED,
        lambda error: {"want": str(error.want), "applied": str(error.applied)},
    ),
    TokenLostError: StatusRule(
        grpc.StatusCode.FAILED_PRECONDITION,
        learner_pb2.ERROR_REASON_TOKEN_LOST,
        lambda error: {"want": str(error.want), "applied": str(error.applied)},
    ),
    NamespaceNotFollowedError: StatusRule(
        grpc.StatusCode.FAILED_PRECONDITION,
        learner_pb2.ERROR_REASON_NAMESPACE_NOT_FOLLOWED,
        lambda error: {"namespace": error.namespace},
    ),
    DimensionError: StatusRule(
        grpc.StatusCode.INVALID_ARGUMENT,
        learner_pb2.ERROR_REASON_INVALID_FIELD,
        lambda _: {"field": "embedding"},
    ),
    EmbedderError: StatusRule(grpc.StatusCode.UNAVAILABLE, learner_pb2.ERROR_REASON_EMBEDDER_UNAVAILABLE),
    EmbedderRejectedError: StatusRule(
        grpc.StatusCode.INVALID_ARGUMENT, learner_pb2.ERROR_REASON_EMBEDDER_REJECTED
    ),
}
"""What the errors of a call become, besides those that both services share."""


class RagServicer:
    """Answers the calls of RagService from a mirror."""

    def __init__(
        self,
        *,
        mirror: Mirror,
        progress: Progress,
        workers: Executor,
        namespaces: Collection[str],
        version: str,
        redaction: bool = True,
    ) -> None:
        """Answers from what there is.

        Args:
            mirror: holds the state that is searched.
            progress: says what that state has reached.
            workers: run long searches and the redaction of long questions.
            namespaces: the ones that are followed; all of them when empty.
            version: of the program.
            redaction: False leaves secrets in questions.
        """
        self._mirror = mirror
        self._progress = progress
        self._workers = workers
        self._searches = SearchRunner(workers)
        self._namespaces = tuple(namespaces)
        self._version = version
        self._redaction = redaction

    async def search(self, request: rag_pb2.SearchRequest, call: Call) -> bytes:
        """Finds the examples nearest to a question; an encoded SearchResponse.

        Raises:
            InvalidFieldError, TooLargeError, TokenMalformedError: the request breaks the contract.
            NamespaceNotFollowedError: it names a namespace that is not followed.
            IndexNotReadyError: there is nothing to answer from yet.
            DimensionError: the embedding has another dimension than the index.
            TokenLostError, TokenNotReachedError: `min_token` will never be reached, or was not in time.
            EmbedderError: the question cannot be embedded now, or for good.
        """
        search = read_search(request)
        for namespace in search.namespaces:
            if self._namespaces and namespace not in self._namespaces:
                raise NamespaceNotFollowedError(namespace)
        _check_dimension(search, self._ready())
        query_text = await self._query_text(search)
        await self._reach(search, call)
        # Taken right after the verdict, with nothing in between: this state has reached the token.
        replica = self._ready()
        if isinstance(search.question, EmbeddedQuestion):
            answer = await self._searches.search(replica.index, search.index_query(search.question.embedding))
        elif query_text:
            embedding = await replica.source.embedder.query(query_text)
            answer = await self._searches.search(replica.index, search.index_query(embedding))
        else:
            answer = _nothing_found(replica)
        return encoded_response(
            answer.hits,
            rag_pb2.SearchResponse(
                below_min_score_count=answer.below_min_score_count,
                token=replica.token(answer.received_revision),
                query_text=query_text,
                degraded=self._mirror.degraded(replica),
                staleness=duration(self._mirror.staleness_s(replica)),
            ),
        )

    async def get_index_status(
        self, _: rag_pb2.GetIndexStatusRequest, __: Call
    ) -> rag_pb2.GetIndexStatusResponse:
        """Describes the index and how fresh it is; most of it is unset before the first sync."""
        status = rag_pb2.GetIndexStatusResponse(
            version=self._version,
            state=self._mirror.state,
            store_id=self._progress.store_id,
            applied_revision=self._progress.applied_revision,
            namespaces=self._namespaces,
        )
        replica = self._mirror.live
        if replica is not None:
            index = replica.index
            status.example_count = index.count
            status.dimension = index.dimension
            status.embedder_fingerprint = replica.source.embedder.fingerprint
            status.staleness.CopyFrom(duration(self._mirror.staleness_s(replica)))
            status.embedding_bytes = index.embedding_bytes
            status.quarantined_example_count = index.quarantined_count
        return status

    def _ready(self) -> Replica:
        replica = self._mirror.live
        if replica is None:
            raise IndexNotReadyError
        return replica

    async def _reach(self, search: Search, call: Call) -> None:
        """Returns when the searched state has reached the wanted token."""
        token = search.min_token
        if token is None:
            return
        max_wait_s = search.max_wait_s
        if call.time_remaining_s is not None:
            max_wait_s = min(max_wait_s, max(0.0, call.time_remaining_s - DEADLINE_MARGIN_S))
        verdict = await self._progress.wait_for(token, max_wait_s)
        if verdict is Verdict.LOST:
            raise TokenLostError(want=token.revision, applied=self._progress.applied_revision)
        if verdict is Verdict.WAIT:
            raise TokenNotReachedError(want=token.revision, applied=self._progress.applied_revision)

    async def _query_text(self, search: Search) -> str:
        """The text that a question is embedded as; empty for a blank one, and for one that is a vector."""
        question = search.question
        if isinstance(question, EmbeddedQuestion):
            return ""
        if question.size_bytes <= INLINE_QUERY_BYTES_MAX:
            return question.query(redaction=self._redaction).text
        return (await self._in_worker(partial(question.query, redaction=self._redaction))).text

    async def _in_worker(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._workers, work)


def _nothing_found(replica: Replica) -> IndexAnswer:
    return IndexAnswer(hits=(), below_min_score_count=0, received_revision=replica.index.received_revision)


def _check_dimension(search: Search, replica: Replica) -> None:
    question, dimension = search.question, replica.index.dimension
    if isinstance(question, EmbeddedQuestion) and question.embedding.size != dimension:
        raise DimensionError(want=dimension, got=question.embedding.size)
