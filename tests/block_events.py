"""Events as an editor sends them, in few words."""

from collections.abc import Mapping

from google.protobuf.timestamp_pb2 import Timestamp

from errata.v1.block_pb2 import (
    BLOCK_KIND_CODE,
    BLOCK_KIND_MARKUP,
    Block,
    BlockEvent,
    BlockExecuted,
    BlockGenerated,
    BlockOutput,
    BlockOutputItem,
    Doc,
    ExampleTaught,
)

BEGIN_S = 1_600_000_000
"""When the first event of a test happened, unless it says otherwise."""


def prose(text: str) -> Block:
    return Block(kind=BLOCK_KIND_MARKUP, contents=text)


def code(text: str, *, language: str = "bash", output: str = "") -> Block:
    outputs = [BlockOutput(items=[BlockOutputItem(mime="text/plain", text_data=output)])] if output else []
    return Block(kind=BLOCK_KIND_CODE, language=language, contents=text, outputs=outputs)


def document(*texts: str) -> Doc:
    return Doc(blocks=[prose(text) for text in texts])


def event(
    block_id: str, at_s: float, namespace: str = "", labels: Mapping[str, str] | None = None
) -> BlockEvent:
    """An event to which what happened has yet to be added."""
    time = Timestamp()
    time.FromMicroseconds(round((BEGIN_S + at_s) * 1_000_000))
    return BlockEvent(block_id=block_id, event_time=time, namespace=namespace, labels=labels)


def proposed(
    block_id: str, asked: str, command: str, *, at_s: float = 0, namespace: str = "", output: str = ""
) -> BlockEvent:
    made = event(block_id, at_s, namespace)
    made.generated.CopyFrom(BlockGenerated(doc=document(asked), block=code(command, output=output)))
    return made


def ran(
    block_id: str,
    command: str,
    *,
    at_s: float = 1,
    namespace: str = "",
    asked: str | None = None,
    exit_code: int | None = None,
    labels: Mapping[str, str] | None = None,
    output: str = "",
) -> BlockEvent:
    made = event(block_id, at_s, namespace, labels)
    made.executed.CopyFrom(BlockExecuted(block=code(command, output=output), exit_code=exit_code))
    if asked is not None:
        made.executed.doc.CopyFrom(document(asked))
    return made


def taught(
    block_id: str, asked: str, answer: str, *, at_s: float = 2, namespace: str = "", output: str = ""
) -> BlockEvent:
    made = event(block_id, at_s, namespace)
    made.taught.CopyFrom(ExampleTaught(query=document(asked), answer=[code(answer, output=output)]))
    return made


def correction(
    block_id: str,
    asked: str,
    command: str,
    *,
    at_s: float = 0,
    namespace: str = "",
    labels: Mapping[str, str] | None = None,
) -> list[BlockEvent]:
    """Something was proposed, and a person ran the command instead."""
    return [
        proposed(block_id, asked, f"not {command}", at_s=at_s, namespace=namespace),
        ran(block_id, command, at_s=at_s + 1, namespace=namespace, labels=labels),
    ]
