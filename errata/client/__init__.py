"""The client of Errata: records what people run, finds it again, and writes it into prompts.

    from errata.client import Errata

    with Errata(learner="127.0.0.1:7411", rag="127.0.0.1:7412") as errata:
        errata.record_correction(
            question="Which process listens on port 80?",
            proposed="netstat -a",
            ran="ss -ltnp 'sport = :80'",
            exit_code=0,
            language="bash",
        )
        print(errata.few_shot("what is listening on port 80", max_tokens=1_000))

`AsyncErrata` is the same for asyncio. Both retry what may pass by itself within a deadline, raise errors as
types with data, and remember what they wrote, so that their searches see it. Needs grpcio and protobuf alone.
"""

from errata.client.aio import AsyncErrata
from errata.client.answers import Learned, Match, Recorded, SearchAnswer
from errata.client.blocking import Errata
from errata.client.blocks import Answer, Question, code, document, prose
from errata.client.errors import (
    CallError,
    ClosedError,
    DeadlineExceededError,
    DeniedError,
    EmbedderMismatchError,
    EmbedderRejectedError,
    ErrataError,
    Failure,
    ForkedError,
    InternalError,
    InvalidRequestError,
    NamespaceNotFollowedError,
    NotConfiguredError,
    NotFoundError,
    OtherLoopError,
    RateLimitedError,
    StoreFullError,
    TokenLostError,
    TokenMalformedError,
    TokenNotReachedError,
    TooLargeError,
    UnavailableError,
)
from errata.client.events import new_block_id, proposed, ran, taught
from errata.client.few_shot import CountTokens, few_shot_section
from errata.client.following import CaughtUp, Change, ExampleDeleted, ExamplePut, StartOver
from errata.client.search_requests import SearchQuestion
from errata.client.settings import Settings, WhenBehind
from errata.client.token_count import estimate_tokens

__all__ = [
    "Answer",
    "AsyncErrata",
    "CallError",
    "CaughtUp",
    "Change",
    "ClosedError",
    "CountTokens",
    "DeadlineExceededError",
    "DeniedError",
    "EmbedderMismatchError",
    "EmbedderRejectedError",
    "Errata",
    "ErrataError",
    "ExampleDeleted",
    "ExamplePut",
    "Failure",
    "ForkedError",
    "InternalError",
    "InvalidRequestError",
    "Learned",
    "Match",
    "NamespaceNotFollowedError",
    "NotConfiguredError",
    "NotFoundError",
    "OtherLoopError",
    "Question",
    "RateLimitedError",
    "Recorded",
    "SearchAnswer",
    "SearchQuestion",
    "Settings",
    "StartOver",
    "StoreFullError",
    "TokenLostError",
    "TokenMalformedError",
    "TokenNotReachedError",
    "TooLargeError",
    "UnavailableError",
    "WhenBehind",
    "code",
    "document",
    "estimate_tokens",
    "few_shot_section",
    "new_block_id",
    "proposed",
    "prose",
    "ran",
    "taught",
]
