"""An example as people read it: the question, the answer as it can be copied, and where it is from."""

from datetime import datetime
from typing import Final

from errata.cli.learned import origin_name
from errata.cli.printing import print_text, print_verbatim
from errata.cli.times import since
from errata.v1.block_pb2 import BLOCK_KIND_CODE
from errata.v1.example_pb2 import Example

_INDENT: Final = 7
"""Of what stands under the question: as wide as a score."""


def print_example(example: Example, now: datetime, *, mark: str) -> None:
    """Prints one example and a blank line.

    Args:
        example: with or without its embedding.
        now: for how long ago it was run.
        mark: stands before the question, at most 5 characters.
    """
    labels = "".join(f", {key}={value}" for key, value in sorted(example.labels.items()))
    when = since(example.executed_time.ToDatetime(tzinfo=now.tzinfo), now)
    where = f" in {example.namespace}" if example.namespace else ""
    print_text(f"{mark:>5}  {example.query_text}", "bold")
    for block in example.answer:
        print_verbatim(block.contents, "green" if block.kind == BLOCK_KIND_CODE else "", indent=_INDENT)
    print_text(f"{example.id}{where}: {origin_name(example.origin)}, {when}{labels}", "dim", indent=_INDENT)
    print_text()
