"""What the index of examples raises."""

from rag_service.errors import RagError


class DimensionError(RagError):
    """A query has another dimension than the index."""

    def __init__(self, *, want: int, got: int) -> None:
        super().__init__(f"the query has dimension {got}, the index {want}")
        self.want = want
        self.got = got


class QueryLengthError(RagError):
    """A query is not a unit vector: whoever made it did not normalise it."""

    def __init__(self, length: float) -> None:
        super().__init__(f"the query has length {length:.9g}, not 1")
        self.length = length


class StaleUpdateError(RagError):
    """An update came that is not newer than what the index has received; the caller broke the order."""

    def __init__(self, *, revision: int, received_revision: int) -> None:
        super().__init__(
            f"an update of revision {revision} came after revision {received_revision} was received"
        )
        self.revision = revision
        self.received_revision = received_revision


class IndexFullError(RagError):
    """The index holds as many rows as it may; nothing of the updates was applied."""

    def __init__(self, *, capacity: int, want: int) -> None:
        super().__init__(f"the index has room for {capacity} rows, and {want} more did not fit")
        self.capacity = capacity
        self.want = want


class AddressSpaceError(RagError):
    """The system does not give the address space that an index is to grow into."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(
            f"no {size_bytes} bytes of address space for the index; "
            "lift the limit on virtual memory (ulimit -v, vm.overcommit_memory) or lower the index's capacity"
        )
        self.size_bytes = size_bytes
