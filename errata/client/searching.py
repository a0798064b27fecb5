"""The operations that search, and how they see what the same client wrote."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from errata.client.answers import SearchAnswer
from errata.client.caller import Caller
from errata.client.errors import TokenLostError, TokenNotReachedError
from errata.client.few_shot import INTRODUCTION, CountTokens, check_max_tokens, few_shot_section
from errata.client.search_requests import SearchQuestion, duration, search_request
from errata.client.settings import WhenBehind
from errata.client.steps import Deadline, Method, Service, Steps, called
from errata.client.token_count import estimate_tokens
from errata.v1 import rag_pb2
from errata.v1.example_pb2 import ExampleKey
from errata.v1.rag_pb2_grpc import RagServiceStub

FEW_SHOT_LIMIT: Final = 10
"""Examples that are looked for; few prompts have room for more."""

SEARCH: Final[Method[rag_pb2.SearchRequest, rag_pb2.SearchResponse]] = Method(
    Service.RAG, RagServiceStub, "Search", rag_pb2.SearchResponse
)


class Searching(Caller):
    """Searches, each of which sees what the client wrote before it."""

    def search(
        self,
        question: SearchQuestion,
        *,
        selected_index: int | None = None,
        limit: int = 0,
        min_score: float | None = None,
        namespaces: Iterable[str] | None = None,
        labels: Mapping[str, str] | None = None,
        languages: Iterable[str] = (),
        executed_since: datetime | None = None,
        exclude: Iterable[str | ExampleKey] = (),
        diversity: float = 0.0,
        per_question_limit: int | None = None,
        min_token: bytes | None = None,
        deadline_s: float | None = None,
    ) -> Steps[SearchAnswer]:
        """Finds the examples nearest to a question, best first, and sees what this client wrote.

        What was not reached within `token_wait_s` is searched without, or raised; see `WhenBehind`. What a
        store has lost is not waited for again.

        Args:
            question: text, a document to be continued, or an embedding (float32, little-endian).
            selected_index: of a document, the block at the cursor, from 0; None is the last.
            limit: at most this many, 100 at most; 0 means 3.
            min_score: leaves out what scores less, in [-1, 1].
            namespaces: whose examples are searched, at most 16; None is that of the settings.
            labels: that an example must have.
            languages: of which one must be that of the answer; none takes all.
            executed_since: leaves out what was run or taught before, with a time zone.
            exclude: examples to leave out, by ID in the namespace of the settings, or by key; at most 100.
            diversity: trades likeness for variety, in [0, 1].
            per_question_limit: at most this many with the same question and language; None means 1.
            min_token: what must be seen, instead of what this client wrote; empty does not wait.
            deadline_s: of the whole call.

        Raises:
            TokenNotReachedError: by the settings, when what was written is not reached in time.
            TokenLostError: by the settings, when the store has lost it.
            NamespaceNotFollowedError: the RAG service does not follow one of the namespaces.
        """
        own = self._settings.namespace
        request = search_request(
            question,
            selected_index=selected_index,
            limit=limit,
            min_score=min_score,
            namespaces=(own,) if namespaces is None else namespaces,
            labels=labels,
            languages=languages,
            executed_since=executed_since,
            exclude=exclude,
            exclude_namespace=own,
            diversity=diversity,
            per_question_limit=per_question_limit,
        )
        return (yield from self._searched(request, min_token, self._deadline(deadline_s)))

    def few_shot(
        self,
        question: SearchQuestion,
        *,
        max_tokens: int,
        best_last: bool = True,
        count_tokens: CountTokens = estimate_tokens,
        introduction: str = INTRODUCTION,
        selected_index: int | None = None,
        limit: int = FEW_SHOT_LIMIT,
        min_score: float | None = None,
        namespaces: Iterable[str] | None = None,
        labels: Mapping[str, str] | None = None,
        languages: Iterable[str] = (),
        executed_since: datetime | None = None,
        exclude: Iterable[str | ExampleKey] = (),
        diversity: float = 0.0,
        deadline_s: float | None = None,
    ) -> Steps[str]:
        """The examples nearest to a question as a section of a prompt; empty when nothing was found.

        Args:
            question: as in `search`.
            max_tokens: of the whole section, by `count_tokens`.
            best_last: whether the best example stands last, next to the question that follows, or first.
            count_tokens: the tokenizer of the model in use; the default counts rather too many than too few.
            introduction: stands above the examples; `{place}` in it becomes `last` or `first`.
            selected_index: as in `search`.
            limit: at most this many examples.
            min_score: as in `search`, as are the others.
            namespaces: see there.
            labels: see there.
            languages: see there.
            executed_since: see there.
            exclude: see there.
            diversity: see there.
            deadline_s: of the whole call.

        Raises:
            ValueError: `max_tokens` is less than 1.
            CallError: as in `search`.
        """
        check_max_tokens(max_tokens)
        answer = yield from self.search(
            question,
            selected_index=selected_index,
            limit=limit,
            min_score=min_score,
            namespaces=namespaces,
            labels=labels,
            languages=languages,
            executed_since=executed_since,
            exclude=exclude,
            diversity=diversity,
            deadline_s=deadline_s,
        )
        return few_shot_section(
            answer.matches,
            max_tokens=max_tokens,
            best_last=best_last,
            count_tokens=count_tokens,
            introduction=introduction,
        )

    def _searched(
        self, request: rag_pb2.SearchRequest, min_token: bytes | None, deadline: Deadline
    ) -> Steps[SearchAnswer]:
        token = self._own_writes.newest() if min_token is None else min_token
        raises = self._settings.when_behind is WhenBehind.RAISE
        sees_own_writes = True
        while True:
            try:
                response = yield from self._search_with(request, token, deadline, may_go_on=not raises)
            except TokenNotReachedError as error:
                lost = isinstance(error, TokenLostError)
                if lost and min_token is None and token:
                    self._own_writes.forget(token)
                # Without a token there is nothing to go on without.
                if raises or not token:
                    raise
                sees_own_writes = False
                token = self._own_writes.newest() if lost and min_token is None else b""
            else:
                return SearchAnswer.of(response, sees_own_writes=sees_own_writes)

    def _search_with(
        self, request: rag_pb2.SearchRequest, token: bytes, deadline: Deadline, *, may_go_on: bool
    ) -> Steps[rag_pb2.SearchResponse]:
        request.min_token = token
        if token:
            # Where the search may go on without, it needs time for that.
            longest_s = deadline.remaining_s() / 2 if may_go_on else deadline.remaining_s()
            request.max_wait.CopyFrom(duration(min(self._settings.token_wait_s, longest_s)))
        return called(SEARCH, request, deadline, self._uniform)
