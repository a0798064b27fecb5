"""The query text: which blocks it is made of, how they are written, how it is cut."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from errata.text import (
    QUERY_TEXT_BYTES_MAX,
    Query,
    query_from_doc,
    query_from_text,
    question_key,
    redact_block,
    redact_doc,
    redact_event,
)
from errata.v1.block_pb2 import (
    BLOCK_KIND_CODE,
    BLOCK_KIND_MARKUP,
    BLOCK_KIND_UNSPECIFIED,
    Block,
    BlockEvent,
    BlockExecuted,
    BlockGenerated,
    BlockKind,
    BlockOutput,
    BlockOutputItem,
    Doc,
    ExampleTaught,
)

SECRET = "hunter" + "2"
ASSIGNMENT = f"PASSWORD={SECRET}"
REDACTED = "PASSWORD=[REDACTED]"


def prose(contents: str, **metadata: str) -> Block:
    return Block(kind=BLOCK_KIND_MARKUP, contents=contents, metadata=metadata)


def code(contents: str, language: str = "bash", **metadata: str) -> Block:
    return Block(kind=BLOCK_KIND_CODE, contents=contents, language=language, metadata=metadata)


def ghost(contents: str) -> Block:
    return code(contents, _ghostCell="true")


def printed(text: str) -> BlockOutput:
    return BlockOutput(items=[BlockOutputItem(mime="text/plain", text_data=text)])


def text_of(*blocks: Block, selected_index: int | None = None) -> str:
    return query_from_doc(Doc(blocks=blocks), selected_index).text


class TestWhichBlocks:
    def test_the_unbroken_run_of_prose_up_to_the_cursor_is_kept(self) -> None:
        assert text_of(prose("old"), code("ls"), prose("one"), prose("two")) == "one\n\ntwo"

    def test_code_at_the_cursor_is_kept_with_the_prose_before_it(self) -> None:
        assert text_of(code("ls"), prose("count"), code("wc -l")) == "count\n\n```bash\nwc -l\n```"

    def test_what_follows_the_cursor_is_left_out(self) -> None:
        assert text_of(prose("one"), prose("two"), code("ls"), selected_index=1) == "one\n\ntwo"

    def test_a_block_of_unspecified_kind_is_prose(self) -> None:
        unspecified = Block(kind=BLOCK_KIND_UNSPECIFIED, contents="one")
        assert text_of(unspecified, prose("two")) == "one\n\ntwo"

    def test_a_block_of_a_kind_of_the_future_is_prose(self) -> None:
        block = Block(contents="one")
        block.MergeFromString(b"\x08\x63")
        assert block.kind == 99
        assert text_of(block, prose("two")) == "one\n\ntwo"

    @pytest.mark.parametrize("value", ["true", "True", "TRUE", "1", " true ", "t", "yes"])
    def test_a_ghost_is_dropped(self, value: str) -> None:
        assert text_of(prose("one"), code("rm -rf /", _ghostCell=value), prose("two")) == "one\n\ntwo"

    @pytest.mark.parametrize("value", ["false", "False", "0", "", "no"])
    def test_a_cell_that_says_it_is_no_ghost_is_kept(self, value: str) -> None:
        assert text_of(prose("one"), prose("two", _ghostCell=value)) == "one\n\ntwo"

    def test_a_ghost_does_not_break_a_run_of_prose(self) -> None:
        assert text_of(prose("one"), ghost("x"), ghost("y"), prose("two")) == "one\n\ntwo"

    def test_a_ghost_at_the_cursor_moves_the_cursor_to_the_nearest_block_before_it(self) -> None:
        blocks = [prose("one"), code("ls"), ghost("x"), ghost("y"), prose("after")]
        assert text_of(*blocks, selected_index=3) == "one\n\n```bash\nls\n```"

    def test_only_ghosts_ask_nothing(self) -> None:
        assert query_from_doc(Doc(blocks=[ghost("x"), ghost("y")])) == Query("", ())

    def test_blank_blocks_are_dropped(self) -> None:
        assert text_of(prose("one"), prose(" \n\t "), prose("two"), code("  \n")) == "one\n\ntwo"

    def test_a_blank_cell_of_code_still_ends_the_run_of_prose(self) -> None:
        assert text_of(prose("one"), code(""), prose("two")) == "two"

    @pytest.mark.parametrize("doc", [Doc(), Doc(blocks=[prose("")]), Doc(blocks=[code(" \n")])])
    def test_a_document_that_asks_nothing_gives_the_empty_query(self, doc: Doc) -> None:
        assert query_from_doc(doc) == Query("", ())

    @pytest.mark.parametrize(
        ("index", "text"), [(-5, "one"), (0, "one"), (1, "one\n\ntwo"), (9, "one\n\ntwo")]
    )
    def test_a_cursor_outside_the_document_is_moved_to_its_nearest_block(self, index: int, text: str) -> None:
        assert text_of(prose("one"), prose("two"), selected_index=index) == text

    def test_the_blocks_are_those_of_the_text_without_outputs_and_otherwise_whole(self) -> None:
        kept = Block(id="b", kind=BLOCK_KIND_MARKUP, contents=" two ", trace_ids=["t"], metadata={"k": "v"})
        asked = Block()
        asked.CopyFrom(kept)
        asked.outputs.append(printed("a lot"))
        doc = Doc(blocks=[code("ls"), asked, prose("")])
        before = doc.SerializeToString(deterministic=True)
        assert query_from_doc(doc).blocks == (kept,)
        assert doc.SerializeToString(deterministic=True) == before


class TestMarkdown:
    def test_outputs_are_left_out(self) -> None:
        block = code("ls")
        block.outputs.append(printed("file"))
        assert text_of(block) == "```bash\nls\n```"

    @pytest.mark.parametrize(
        ("contents", "fence"),
        [("echo `date`", "```"), ("cat <<'E'\n```\nE", "````"), ("`" * 10, "`" * 11)],
    )
    def test_a_fence_is_longer_than_any_run_of_backticks_in_the_code(self, contents: str, fence: str) -> None:
        assert text_of(code(contents)) == f"{fence}bash\n{contents}\n{fence}"

    def test_a_language_cannot_break_its_fence(self) -> None:
        assert text_of(code("x", language="c++`\n```\n# no")) == "```c++#no\nx\n```"

    def test_white_space_around_a_block_is_dropped(self) -> None:
        assert text_of(prose("\n one \r\n"), code("\n\nls\n\n")) == "one\n\n```bash\nls\n```"


class TestLength:
    def test_the_end_of_a_long_text_is_kept(self) -> None:
        text = query_from_text("start " + "x" * QUERY_TEXT_BYTES_MAX + " end").text
        assert len(text.encode()) == QUERY_TEXT_BYTES_MAX
        assert text.endswith("x end")

    @pytest.mark.parametrize("character", ["é", "€", "🙂"])
    @pytest.mark.parametrize("tail", ["", "x", "xy", "xyz"])
    def test_a_text_is_cut_between_characters(self, character: str, tail: str) -> None:
        text = query_from_text(character * QUERY_TEXT_BYTES_MAX + tail).text
        assert text == character * ((len(text.encode()) - len(tail)) // len(character.encode())) + tail
        assert QUERY_TEXT_BYTES_MAX - 3 <= len(text.encode()) <= QUERY_TEXT_BYTES_MAX

    @pytest.mark.parametrize("length", [QUERY_TEXT_BYTES_MAX - 1, QUERY_TEXT_BYTES_MAX])
    def test_a_text_that_just_fits_stays_whole(self, length: int) -> None:
        assert query_from_text("x" * length).text == "x" * length

    def test_blocks_that_the_cut_leaves_nothing_of_are_not_part_of_the_query(self) -> None:
        doc = Doc(blocks=[prose("far"), prose("x" * QUERY_TEXT_BYTES_MAX), prose("near")])
        query = query_from_doc(doc)
        assert [block.contents[:4] for block in query.blocks] == ["xxxx", "near"]
        assert query.text.endswith("x\n\nnear")

    def test_a_document_of_very_many_blocks_has_a_query(self) -> None:
        doc = Doc(blocks=[prose("")] * 200_000 + [prose("near")])
        assert query_from_doc(doc).text == "near"

    @pytest.mark.parametrize("text", ["\0" * (1 << 20), "e\u0301" * (1 << 19), "`" * (1 << 20)])
    def test_a_text_of_a_mebibyte_has_a_query(self, text: str) -> None:
        assert 0 < len(query_from_text(text).text.encode()) <= QUERY_TEXT_BYTES_MAX
        assert 0 < len(text_of(code(text)).encode()) <= QUERY_TEXT_BYTES_MAX


CONTENTS = st.one_of(
    st.text(max_size=40),
    st.text(st.sampled_from(" \n\r\t\0`~#e\u0301\u00a0\u200b\ufeff🙂"), max_size=40),
    st.integers(QUERY_TEXT_BYTES_MAX - 8, QUERY_TEXT_BYTES_MAX + 8).map("é".__mul__),
)
BLOCKS = st.builds(
    Block,
    kind=st.sampled_from(BlockKind.values()),
    contents=CONTENTS,
    language=st.text(max_size=8),
    metadata=st.dictionaries(st.sampled_from(["_ghostCell", "k"]), st.sampled_from(["true", "0", ""])),
    outputs=st.lists(st.text(max_size=8).map(printed), max_size=2),
)
DOCS = st.lists(BLOCKS, max_size=8).map(lambda blocks: Doc(blocks=blocks))
CURSORS = st.none() | st.integers(-3, 12)


class TestAnyDocument:
    @given(DOCS, CURSORS)
    def test_the_text_is_bounded_stripped_and_empty_exactly_when_no_block_is_left(
        self, doc: Doc, cursor: int | None
    ) -> None:
        query = query_from_doc(doc, cursor)
        assert len(query.text.encode()) <= QUERY_TEXT_BYTES_MAX
        assert query.text == query.text.strip()
        assert bool(query.text) == bool(query.blocks)
        assert not any(block.outputs for block in query.blocks)

    @given(DOCS, CURSORS)
    def test_the_query_text_asks_the_same_as_a_plain_text(self, doc: Doc, cursor: int | None) -> None:
        text = query_from_doc(doc, cursor).text
        assert query_from_text(text).text == text

    @given(CONTENTS)
    def test_a_plain_text_and_a_block_of_prose_give_the_same_bytes(self, text: str) -> None:
        assert query_from_text(text) == query_from_doc(Doc(blocks=[prose(text)]))

    @given(DOCS, st.lists(BLOCKS, max_size=3))
    def test_what_stands_below_the_cursor_changes_nothing(self, doc: Doc, below: list[Block]) -> None:
        longer = Doc(blocks=[*doc.blocks, *below])
        if doc.blocks:
            assert query_from_doc(longer, len(doc.blocks) - 1) == query_from_doc(doc)


def test_questions_that_differ_in_case_and_white_space_alone_have_one_key() -> None:
    assert question_key(" List  THE\nfiles ") == question_key("list the files")
    assert question_key("list the files") != question_key("list files")


class TestRedactionInPlace:
    def test_contents_outputs_and_metadata_values_of_a_block_are_redacted_and_its_names_are_not(self) -> None:
        block = Block(
            id=ASSIGNMENT,
            language="bash",
            contents=ASSIGNMENT,
            trace_ids=[ASSIGNMENT],
            metadata={ASSIGNMENT: ASSIGNMENT, "k": "v"},
            outputs=[printed("fine"), printed(ASSIGNMENT)],
        )
        redact_block(block)
        assert block == Block(
            id=ASSIGNMENT,
            language="bash",
            contents=REDACTED,
            trace_ids=[ASSIGNMENT],
            metadata={ASSIGNMENT: REDACTED, "k": "v"},
            outputs=[printed("fine"), printed(REDACTED)],
        )

    def test_every_block_of_a_document_is_redacted(self) -> None:
        doc = Doc(blocks=[prose(ASSIGNMENT), code("ls"), code(ASSIGNMENT)])
        redact_doc(doc)
        assert [block.contents for block in doc.blocks] == [REDACTED, "ls", REDACTED]

    @pytest.mark.parametrize(
        "fields",
        [
            {"generated": BlockGenerated(doc=Doc(blocks=[prose(ASSIGNMENT)]), block=code(ASSIGNMENT))},
            {"executed": BlockExecuted(doc=Doc(blocks=[prose(ASSIGNMENT)]), block=code(ASSIGNMENT))},
            {"taught": ExampleTaught(query=Doc(blocks=[prose(ASSIGNMENT)]), answer=[code(ASSIGNMENT)])},
        ],
        ids=lambda fields: next(iter(fields)),
    )
    def test_every_text_of_an_event_is_redacted(
        self, fields: dict[str, BlockGenerated | BlockExecuted | ExampleTaught]
    ) -> None:
        event = BlockEvent(block_id=ASSIGNMENT, labels={"k": ASSIGNMENT}, **fields)  # type: ignore[arg-type]  # one of three fields
        redact_event(event)
        assert SECRET not in str(event).replace(ASSIGNMENT, "", 1)
        assert event.block_id == ASSIGNMENT
        assert event.labels == {"k": REDACTED}

    @pytest.mark.parametrize(
        "event",
        [
            BlockEvent(block_id="b", event_time=Timestamp(seconds=1)),
            BlockEvent(block_id="b", generated=BlockGenerated()),
            BlockEvent(block_id="b", executed=BlockExecuted()),
            BlockEvent(block_id="b", taught=ExampleTaught()),
            BlockEvent(block_id="b", executed=BlockExecuted(block=code("git log"), doc=Doc())),
        ],
    )
    def test_an_event_without_secrets_keeps_its_bytes(self, event: BlockEvent) -> None:
        before = event.SerializeToString(deterministic=True)
        redact_event(event)
        assert event.SerializeToString(deterministic=True) == before
