"""Lists that come in pages: every entry up to a number, page after page."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

Entry = TypeVar("Entry")

_PAGE_SIZE_MAX: Final = 500
"""Entries of one answer; the contract allows twice as many."""


def entries(page: Callable[[int, str], tuple[Sequence[Entry], str]], limit: int | None) -> Iterator[Entry]:
    """The entries of a list, in its order.

    Args:
        page: takes a size and the token of a page; returns its entries and the token of the next one, empty
            on the last.
        limit: most entries; all of them when None.
    """
    token = ""
    left = limit
    while left is None or left > 0:
        found, token = page(_PAGE_SIZE_MAX if left is None else min(left, _PAGE_SIZE_MAX), token)
        yield from found
        if left is not None:
            left -= len(found)
        if not token:
            return
