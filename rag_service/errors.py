"""What the RAG service's own parts raise. `service.py` holds the one table that turns these into a Status."""


class RagError(Exception):
    """Any error that the RAG service raises on purpose."""


class SearchError(RagError):
    """Why a call cannot be answered."""


class IndexNotReadyError(SearchError):
    """The first sync has not finished: there is nothing to answer from yet."""

    def __init__(self) -> None:
        super().__init__("the index has not finished its first sync with the Learner; try again soon")


class TokenMalformedError(SearchError):
    """A token cannot be read."""

    def __init__(self, field: str) -> None:
        super().__init__(
            f"{field}: not a token of this system; send back a token as it was received, or none"
        )
        self.field = field


class TokenNotReachedError(SearchError):
    """The index did not reach the wanted state in time; a retry may find it there."""

    def __init__(self, *, want: int, applied: int) -> None:
        super().__init__(
            f"min_token: revision {want} was not reached within the wait; the index is at {applied}"
        )
        self.want = want
        self.applied = applied


class TokenLostError(SearchError):
    """The wanted state belongs to a history that the store has lost; no wait will reach it."""

    def __init__(self, *, want: int, applied: int) -> None:
        super().__init__(
            f"min_token: revision {want} is from a history that the store has lost, as after a restore; "
            f"drop the token (the index is at {applied})"
        )
        self.want = want
        self.applied = applied


class NamespaceNotFollowedError(SearchError):
    """A search names a namespace whose examples this service does not receive."""

    def __init__(self, namespace: str) -> None:
        super().__init__(
            f"filter.namespaces: this service does not follow {namespace!r}; "
            "ask one that does, or start this one with --namespace"
        )
        self.namespace = namespace


class EmbedderRefusedError(RagError):
    """The Learner's embeddings cannot be followed with the embedder that there is."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class StreamProtocolError(RagError):
    """A stream of updates broke its contract; what was being received is dropped."""
