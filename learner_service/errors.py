"""What the Learner's own parts raise. `service.py` holds the one table that turns these into a Status."""

from learner_service.keys import BlockKey


class LearnerError(Exception):
    """Any error that the Learner raises on purpose."""


class BlockNotFoundError(LearnerError):
    """No event and no ForgetExample names the block."""

    def __init__(self, key: BlockKey) -> None:
        super().__init__(f"no event names block {key.id!r} in namespace {key.namespace!r}")
        self.key = key


class StoreError(LearnerError):
    """The store cannot be opened or used; the message says why and what to do."""


class StoreFullError(StoreError):
    """The disk, or the size that the store may grow to, is used up; nothing of the write was kept."""


class StoreCorruptError(StoreError):
    """A value does not have the checksum that it was written with."""


class TokenMalformedError(LearnerError):
    """A token cannot be read."""

    def __init__(self, field: str) -> None:
        super().__init__(
            f"{field}: not a token of this service; send back a token as it was received, or none"
        )
        self.field = field


class EmbedderMismatchError(LearnerError):
    """A watcher asked for embeddings of another fingerprint than the store holds."""

    def __init__(self, *, want: str, got: str) -> None:
        super().__init__(
            f"embedder_fingerprint: the store holds embeddings of {got!r}, not of {want!r}; "
            "start the watcher with the Learner's embedder"
        )
        self.want = want
        self.got = got


class ReembeddingError(LearnerError):
    """The vectors in the store are of two embedders: every example is being embedded anew."""

    def __init__(self, *, done_count: int, total_count: int) -> None:
        super().__init__(
            f"every example is being embedded anew, {done_count} of {total_count} are done; call again later"
        )
        self.done_count = done_count
        self.total_count = total_count
