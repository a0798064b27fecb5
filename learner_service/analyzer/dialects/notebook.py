"""Blocks, documents and cells as notebook tools write them into their logs, made into ours.

Foyle logs its blocks, which are ours under other enumeration names; editors log RunMe's cells.
"""

import base64
import binascii
from collections.abc import Iterable
from typing import Final

from errata.v1.block_pb2 import (
    BLOCK_KIND_CODE,
    BLOCK_KIND_MARKUP,
    BLOCK_KIND_UNSPECIFIED,
    Block,
    BlockKind,
    BlockOutput,
    BlockOutputItem,
    Doc,
)
from learner_service.analyzer.json_object import JsonObject

_CELL_ID_MEMBERS: Final = ("runme.dev/id", "id")
"""Where the metadata of a cell may hold its ID, depending on whether it went through RunMe's serializer."""


def doc(json: JsonObject) -> Doc:
    """A document."""
    return Doc(blocks=[block(each) for each in json.children("blocks")])


def block(json: JsonObject) -> Block:
    """A block, as Foyle writes it."""
    return Block(
        kind=_kind(json.word("kind")),
        language=json.text("language"),
        contents=json.text("contents"),
        outputs=[
            BlockOutput(
                items=[
                    BlockOutputItem(mime=item.text("mime"), text_data=item.text("text_data"))
                    for item in output.children("items")
                ]
            )
            for output in json.children("outputs")
        ],
        trace_ids=[each for each in json.texts("trace_ids") if each],
        id=json.text("id"),
        metadata=json.text_map("metadata"),
    )


def cell_block(json: JsonObject) -> Block:
    """A cell, as an editor writes it."""
    return Block(
        kind=_kind(json.word("kind")),
        language=json.text("language_id"),
        contents=json.text("value"),
        outputs=[
            BlockOutput(items=[_cell_output_item(item) for item in output.children("items")])
            for output in json.children("outputs")
        ],
        id=cell_id(json),
        metadata=json.text_map("metadata"),
    )


def cell_id(json: JsonObject) -> str:
    """The ID of a cell; empty when it has none."""
    metadata = json.text_map("metadata")
    found = next((metadata[name] for name in _CELL_ID_MEMBERS if metadata.get(name)), "")
    return found or json.text("ref_id")


def without_outputs(blocks: Iterable[Block]) -> None:
    """Drops what the blocks printed, in place."""
    for each in blocks:
        each.ClearField("outputs")


def _kind(word: str) -> BlockKind.ValueType:
    """`MARKUP`, `BLOCK_KIND_MARKUP`, `CELL_KIND_MARKUP` and 1 are all the same."""
    if word.endswith("MARKUP") or word == "1":
        return BLOCK_KIND_MARKUP
    if word.endswith("CODE") or word == "2":
        return BLOCK_KIND_CODE
    return BLOCK_KIND_UNSPECIFIED


def _cell_output_item(json: JsonObject) -> BlockOutputItem:
    """An output, which is bytes in base64; one that is not text is left empty."""
    try:
        text = base64.b64decode(json.text("data"), validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    return BlockOutputItem(mime=json.text("mime"), text_data=text)
