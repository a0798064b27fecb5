"""Query text and redaction: what both services must do alike, byte for byte.

The query text of a document is what is embedded, of a question asked and of one learned from. It is a pure
function of the document and the cursor: ghost cells are dropped, the block at the cursor is kept with the
unbroken run of prose before it, blank blocks are dropped, what is left is written as Markdown, without
outputs, and of a long text the end is kept. Redact first: then question and example are cut alike.
"""

import re
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import Final

from errata.redaction import MARK, may_hold_secret, redact
from errata.redaction import RULES_HASH as REDACTION_RULES_HASH
from errata.serving.fields import LABEL_VALUE_BYTES_MAX
from errata.v1.block_pb2 import BLOCK_KIND_CODE, BLOCK_KIND_MARKUP, Block, BlockEvent, Doc

__all__ = [
    "QUERY_TEXT_BYTES_MAX",
    "REDACTION_RULES_HASH",
    "TEXT_RULES",
    "Query",
    "query_from_doc",
    "query_from_text",
    "question_key",
    "redact",
    "redact_block",
    "redact_doc",
    "redact_event",
    "redact_label",
]

QUERY_TEXT_BYTES_MAX: Final = 8192
"""In bytes of UTF-8. Embedders look at hundreds to thousands of tokens; what is far off says little."""

TEXT_RULES: Final = "q1"
"""Names the rules of the query text. A part of every embedder's fingerprint: change it with the rules."""

_GHOST_KEY: Final = "_ghostCell"
_TRUE_VALUES: Final = frozenset({"1", "t", "true", "y", "yes", "on"})
_BACKTICKS: Final = re.compile(r"`+")
_NOT_OF_A_LANGUAGE: Final = re.compile(r"[^\w+#.-]+")
_LANGUAGE_CHARS_MAX: Final = 63
_SEPARATOR: Final = "\n\n"


@dataclass(frozen=True, slots=True)
class Query:
    """A question, as it is embedded."""

    text: str
    """Stripped, at most `QUERY_TEXT_BYTES_MAX` bytes of UTF-8; empty when nothing is asked."""
    blocks: tuple[Block, ...]
    """Copies of the blocks that make up the text, in document order, without outputs; the first one is whole
    here also where the text holds its end alone."""


def query_from_doc(doc: Doc, selected_index: int | None = None) -> Query:
    """The question that a document puts at the cursor.

    Args:
        doc: the document; it is not changed.
        selected_index: the block at the cursor, from 0; None is the last. What lies outside the document is
            moved to its nearest block, and from a ghost to the nearest block before it.
    """
    parts: list[str] = []
    blocks: list[Block] = []
    missing_bytes = QUERY_TEXT_BYTES_MAX
    for block in _run_that_ends_at(doc, selected_index):
        if not block.contents.strip():
            continue
        part = _as_markdown(block)
        parts.append(part)
        blocks.append(_without_outputs(block))
        missing_bytes -= len(part.encode()) + len(_SEPARATOR)
        # What lies farther up would be cut off.
        if missing_bytes <= 0:
            break
    return Query(_end_of(_SEPARATOR.join(reversed(parts))), tuple(reversed(blocks)))


def query_from_text(text: str) -> Query:
    """The question that a plain text puts: that of a document of one block of prose."""
    return query_from_doc(Doc(blocks=[Block(kind=BLOCK_KIND_MARKUP, contents=text)]))


def question_key(query_text: str) -> str:
    """What questions have in common that differ in case and white space alone."""
    return " ".join(query_text.casefold().split())


def redact_doc(doc: Doc) -> None:
    """Redacts every block of the document, in place."""
    for block in doc.blocks:
        redact_block(block)


def redact_block(block: Block) -> None:
    """Redacts contents, outputs and metadata values of the block, in place; IDs stay."""
    contents = block.contents
    redacted = redact(contents)
    # Writing to a block that its parent does not have would make the parent have it.
    if redacted is not contents:
        block.contents = redacted
    for output in block.outputs:
        for item in output.items:
            item.text_data = redact(item.text_data)
    _redact_values(block.metadata)


def redact_label(value: str) -> str:
    """The value of a label with its secrets redacted; the same object when there is none.

    A mark may be longer than what it stands for. Then the end is cut off, so that the value keeps to its
    limit, and of a mark that has no room nothing is left. Redacting twice changes nothing more.
    """
    redacted = redact(value)
    while len(encoded := redacted.encode()) > LABEL_VALUE_BYTES_MAX:
        cut = encoded[:LABEL_VALUE_BYTES_MAX].decode(errors="ignore")
        part_of_mark = next(
            (length for length in range(len(MARK) - 1, 0, -1) if cut.endswith(MARK[:length])), 0
        )
        # What stands at the end may be a secret only now. Each round leaves less that is no mark.
        redacted = redact(cut[: len(cut) - part_of_mark])
    return redacted


def redact_event(event: BlockEvent) -> None:
    """Redacts every text that the event carries, in place: documents, blocks and label values."""
    if not may_hold_secret(event.SerializeToString()):
        return
    for key, value in list(event.labels.items()):
        redacted = redact_label(value)
        if redacted is not value:
            event.labels[key] = redacted
    match event.WhichOneof("event"):
        case "generated":
            redact_doc(event.generated.doc)
            redact_block(event.generated.block)
        case "executed":
            redact_doc(event.executed.doc)
            redact_block(event.executed.block)
        case "taught":
            redact_doc(event.taught.query)
            for block in event.taught.answer:
                redact_block(block)


def _redact_values(values: MutableMapping[str, str]) -> None:
    for key, value in list(values.items()):
        redacted = redact(value)
        if redacted is not value:
            values[key] = redacted


def _run_that_ends_at(doc: Doc, selected_index: int | None) -> Iterator[Block]:
    """The block at the cursor and the unbroken run of prose before it, from the cursor upwards."""
    last = len(doc.blocks) - 1
    cursor = last if selected_index is None else min(max(selected_index, 0), last)
    at_cursor = True
    for index in range(cursor, -1, -1):
        block = doc.blocks[index]
        if _is_ghost(block):
            continue
        if not at_cursor and block.kind == BLOCK_KIND_CODE:
            return
        at_cursor = False
        yield block


def _is_ghost(block: Block) -> bool:
    # Reading a missing key of the map would add it.
    return _GHOST_KEY in block.metadata and block.metadata[_GHOST_KEY].strip().casefold() in _TRUE_VALUES


def _without_outputs(block: Block) -> Block:
    copy = Block()
    copy.CopyFrom(block)
    copy.ClearField("outputs")
    return copy


def _as_markdown(block: Block) -> str:
    contents = block.contents.strip()
    if block.kind != BLOCK_KIND_CODE:
        return contents
    longest_run = max(map(len, _BACKTICKS.findall(contents)), default=0)
    fence = "`" * max(3, longest_run + 1)
    language = _NOT_OF_A_LANGUAGE.sub("", block.language[:_LANGUAGE_CHARS_MAX])
    return f"{fence}{language}\n{contents}\n{fence}"


def _end_of(text: str) -> str:
    """The end of the text that `QUERY_TEXT_BYTES_MAX` leaves, from a character and no white space on."""
    # A character has at least one byte, so no more of them can stay.
    end = text[-QUERY_TEXT_BYTES_MAX:].encode()
    if len(end) <= QUERY_TEXT_BYTES_MAX and len(text) <= QUERY_TEXT_BYTES_MAX:
        return text
    # Only the first character can have been cut in two.
    return end[-QUERY_TEXT_BYTES_MAX:].decode(errors="ignore").lstrip()
