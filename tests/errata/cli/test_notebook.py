"""Markdown as a document of blocks, and the block at the cursor."""

from hypothesis import given
from hypothesis import strategies as st

from errata.cli.notebook import read_notebook
from errata.v1.block_pb2 import BLOCK_KIND_CODE, BLOCK_KIND_MARKUP

RUNBOOK = """\
---
runme: {id: x}
---
# Disk full

Find what is large.

```bash {name=find}
du -ah /var |
  sort -h
```

1. Then restart:
   ~~~~sh
   systemctl restart app
   ~~~
   ~~~~
Last words
```
never closed
"""


def parts(text: str) -> list[tuple[str, str]]:
    return [(block.language, block.contents) for block in read_notebook(text).doc.blocks]


def test_paragraphs_and_fences_become_blocks() -> None:
    assert parts(RUNBOOK) == [
        ("", "# Disk full"),
        ("", "Find what is large."),
        ("bash", "du -ah /var |\n  sort -h"),
        ("", "1. Then restart:"),
        ("sh", "systemctl restart app\n~~~"),
        ("", "Last words"),
        ("", "never closed"),
    ]
    kinds = [block.kind for block in read_notebook(RUNBOOK).doc.blocks]
    markup, code = BLOCK_KIND_MARKUP, BLOCK_KIND_CODE
    assert kinds == [markup, markup, code, markup, code, markup, code]


def test_the_cursor_selects_the_block_it_is_in_or_the_one_before() -> None:
    notebook = read_notebook(RUNBOOK)
    assert [notebook.index_at(line) for line in (1, 4, 5, 6, 8, 9, 12, 13, 16, 99)] == [
        0, 0, 0, 1, 2, 2, 2, 3, 4, 6,
    ]  # fmt: skip


def test_a_notebook_without_blocks_has_nothing_to_select() -> None:
    assert read_notebook("\n \n").index_at(1) is None


def test_backticks_in_a_line_of_prose_open_nothing() -> None:
    assert parts("``` not a `fence`\nprose") == [("", "``` not a `fence`\nprose")]


@given(st.text("ab \n`~-#\t", max_size=80))
def test_every_visible_character_but_fences_is_in_a_block(text: str) -> None:
    notebook = read_notebook(text)
    assert len(notebook.first_lines) == len(notebook.doc.blocks)
    assert list(notebook.first_lines) == sorted(set(notebook.first_lines))
    contents = "".join(block.contents for block in notebook.doc.blocks)
    assert contents.count("a") <= text.count("a")
    if "```" not in text and "~~~" not in text and "---" not in text:
        assert contents.count("a") == text.count("a")
