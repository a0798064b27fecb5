"""What the model check says when something that was promised does not hold."""


class BrokenPromiseError(AssertionError):
    """A guarantee of the change feed, or of read-your-writes, was broken."""


def promise(holds: bool, guarantee: str) -> None:  # noqa: FBT001 - reads as an assertion
    """Goes on only when a guarantee holds.

    Raises:
        BrokenPromiseError: it does not.
    """
    if not holds:
        raise BrokenPromiseError(guarantee)
