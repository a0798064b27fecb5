"""What is read of a document, and what counts as the output that it shows."""

from pathlib import Path

import pytest

from tests.documents.document import Block, DocumentError, blocks_of, prints
from tests.documents.runner import BlockFailedError, Runner


def document(folder: Path, text: str) -> Path:
    path = folder / "document.md"
    # Fences in this file would end up in its own.
    path.write_text(text.replace("~~~", "```"))
    return path


def test_blocks_come_in_order_with_what_they_print_and_how_they_run(tmp_path: Path) -> None:
    text = """\
Text.

~~~
shown alone
~~~

<!-- run: until, stop rag -->

~~~sh
one
~~~

It prints:

~~~text
1
~~~

~~~python
two
~~~
"""
    first, second = blocks_of(document(tmp_path, text))
    assert first == Block(line=9, language="sh", text="one\n", words=("until", "stop rag"), expected="1\n")
    assert second == Block(line=19, language="python", text="two\n", words=())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("~~~text\n1\n~~~\n", "document.md:1: nothing before this text prints it"),
        ("~~~sh\n1\n~~~\n~~~text\n1\n~~~\n~~~json\n1\n~~~\n", "document.md:7: nothing before"),
        ("\n~~~rust\n1\n~~~\n", "document.md:2: nobody runs rust"),
        ("<!-- run: sometimes -->\n~~~sh\n1\n~~~\n", "document.md:1: only"),
        ("<!-- run: fails -->\nText.\n", "document.md:2: the fence must follow"),
        ("~~~sh\n1\n", "document.md:1: this fence does not end"),
    ],
)
def test_what_nobody_would_run_or_compare_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DocumentError, match=said):
        blocks_of(document(tmp_path, text))


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ("a  b\n", "a b\n\n"),
        ('  "a": 1\n', '"a":  1\n'),
        ("0.…  ls\n", "0.93  ls\n"),
        ("a\n…\nb\n", "a\nb\n"),
        ("a\n…\nb\n", "a\n1\n2\nb\n"),
        ("a (b) *\n", "a (b) *\n"),
    ],
)
def test_output_is_as_shown(expected: str, printed: str) -> None:
    assert prints(expected, printed)


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ("a\n", "a\nb\n"),
        ("a\nb\n", "a\n"),
        ("ab\n", "a b\n"),
        ("a.\n", "ab\n"),
        ("a …\n", "a\n1\n"),
        ("a\n…\nb\n", "a\nc\n"),
    ],
)
def test_output_is_not_as_shown(expected: str, printed: str) -> None:
    assert not prints(expected, printed)


@pytest.mark.slow
def test_a_block_that_does_otherwise_than_it_says_is_told_with_its_line(tmp_path: Path) -> None:
    def block(text: str, *words: str, expected: str | None = None) -> Block:
        return Block(line=7, language="sh", text=text, words=words, expected=expected)

    with Runner(tmp_path, []) as runner:
        runner.run(block("errata-learner --embedder hashing\necho $ERRATA_LEARNER > address\n"))
        runner.run(block("errata-probe --listen 127.0.0.1:7411\n"))
        runner.run(block("cat address; false\n", "fails", expected="127.0.0.1:…\n"))
        for wrong in (
            block("false\n"),
            block("false | cat\n"),
            block("false\ntrue\n"),
            block("true\n", "fails"),
            block("echo 1\n", expected="2\n"),
        ):
            with pytest.raises(BlockFailedError, match="line 7: "):
                runner.run(wrong)
        with pytest.raises(BlockFailedError, match="gives no answer"):
            runner.run(block("errata-probe --listen 127.0.0.1:7411\n", "stop learner"))
