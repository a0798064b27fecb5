"""Questions and answers as people write them, and as the contract has them."""

from collections.abc import Iterable
from typing import TypeAlias

from errata.v1.block_pb2 import BLOCK_KIND_CODE, BLOCK_KIND_MARKUP, Block, Doc

Question: TypeAlias = str | Doc
"""Plain text, or a document to be continued."""
Answer: TypeAlias = str | Block
"""A command or other code, or a whole block."""


def prose(text: str) -> Block:
    """A cell of prose, usually Markdown."""
    return Block(kind=BLOCK_KIND_MARKUP, contents=text)


def code(text: str, language: str = "") -> Block:
    """A cell of code.

    Args:
        text: as it runs.
        language: such as `bash` or `sql`; empty when unknown.
    """
    return Block(kind=BLOCK_KIND_CODE, language=language, contents=text)


def document(*blocks: str | Block) -> Doc:
    """A document, from top to bottom; plain text is a cell of prose."""
    return Doc(blocks=[prose(block) if isinstance(block, str) else block for block in blocks])


def question_document(question: Question) -> Doc:
    """The question as a document; that of a text is one cell of prose."""
    return document(question) if isinstance(question, str) else question


def answer_block(answer: Answer, language: str = "") -> Block:
    """The answer as a block; of a text it is a cell of code in `language`."""
    return code(answer, language) if isinstance(answer, str) else answer


def answer_blocks(answers: Answer | Iterable[Answer], language: str = "") -> list[Block]:
    """One answer or several as blocks."""
    if isinstance(answers, (str, Block)):
        answers = [answers]
    return [answer_block(answer, language) for answer in answers]
