"""Sections of prompts: what fits, in which order, and nothing that breaks out of its fence."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from tokenizers import Tokenizer

import errata.embedding
from errata.client import Match, code, document, estimate_tokens, few_shot_section, prose
from errata.v1.block_pb2 import Block
from errata.v1.example_pb2 import Example

ROOT = Path(__file__).resolve().parent.parent.parent.parent


def match(question: str, *answer: Block, score: float = 0.5) -> Match:
    return Match(Example(query_text=question, answer=answer), score)


def section(*matches: Match, max_tokens: int = 10_000, best_last: bool = True) -> str:
    return few_shot_section(matches, max_tokens=max_tokens, best_last=best_last)


def fences(text: str) -> list[tuple[str, str]]:
    """Info string and contents of each fence, as a reader of Markdown finds them."""
    return [(token.info, token.content) for token in MarkdownIt().parse(text) if token.type == "fence"]


def test_nothing_found_gives_an_empty_section() -> None:
    assert section() == ""


def test_question_and_answers_stand_in_fences_of_their_languages() -> None:
    found = match("How?", code("ls -l", "bash"), prose("then"), code("SELECT 1", "sql"), code("x"))
    assert fences(section(found)) == [
        ("markdown", "How?\n"),
        ("bash", "ls -l\n"),
        ("markdown", "then\n"),
        ("sql", "SELECT 1\n"),
        ("", "x\n"),
    ]


def test_without_a_query_text_the_blocks_of_the_question_are_shown() -> None:
    example = Example(query=document("a", "b"), answer=[code("ls")])
    assert fences(section(Match(example, 0.1)))[0] == ("markdown", "a\n\nb\n")


def test_the_best_example_comes_last_or_first_and_the_section_says_which() -> None:
    matches = [match("best", code("1")), match("second", code("2")), match("third", code("3"))]
    last, first = section(*matches), section(*matches, best_last=False)
    assert [text for info, text in fences(last) if info] == ["third\n", "second\n", "best\n"]
    assert [text for info, text in fences(first) if info] == ["best\n", "second\n", "third\n"]
    assert "comes last." in last
    assert "comes first." in first


def test_the_best_that_fit_are_kept_and_one_too_large_gives_way_to_the_next() -> None:
    matches = [match("best", code("1")), match("large " * 1_000, code("2")), match("small", code("3"))]
    asked = [text for info, text in fences(section(*matches, max_tokens=200)) if info]
    assert asked == ["small\n", "best\n"]
    assert section(match("large " * 1_000, code("2")), max_tokens=200) == ""


@given(st.integers(1, 300), st.lists(st.text(max_size=40), min_size=1, max_size=6))
def test_a_section_never_has_more_tokens_than_asked_for_by_whatever_counts_them(
    max_tokens: int, texts: list[str]
) -> None:
    matches = [match(text, code(text)) for text in texts]
    for count in (estimate_tokens, len, lambda text: len(text.split())):
        made = few_shot_section(matches, max_tokens=max_tokens, count_tokens=count)
        assert count(made) <= max_tokens


def test_more_room_never_gives_fewer_of_equal_examples() -> None:
    matches = [match(f"question {number:03}", code("same")) for number in range(20)]
    counts = [len(fences(section(*matches, max_tokens=room))) for room in range(1, 900, 25)]
    assert counts[0] == 0
    assert counts[-1] == 40
    assert all(before <= after for before, after in pairwise(counts))


def test_less_than_one_token_is_refused() -> None:
    with pytest.raises(ValueError, match="max_tokens: at least 1, got 0"):
        section(match("q", code("a")), max_tokens=0)


# What would end a fence, begin another, or shift a line end.
pieces = st.sampled_from(
    ["```", "````", "`", "~~~", "\n", "\r", "\r\n", "\n\n", " ", "\t", "x", "> ", "\u2028", "\x0b"]
)
hostile = st.lists(pieces, max_size=30).map("".join)


@given(st.lists(st.tuples(hostile, hostile, hostile), min_size=1, max_size=4))
def test_nothing_in_an_example_can_end_its_fence(examples: list[tuple[str, str, str]]) -> None:
    matches = [
        match(f"q{question}q", code(f"a{answer}a", language)) for question, answer, language in examples
    ]
    found = fences(section(*matches, best_last=False))
    assert len(found) == 2 * len(examples)
    for (question, answer, _), asked, answered in zip(examples, found[::2], found[1::2], strict=True):
        assert asked == ("markdown", written(f"q{question}q"))
        assert answered[1] == written(f"a{answer}a")


def test_every_line_end_is_a_newline() -> None:
    assert "\r" not in section(match("a\r\nb\rc", code("d\re")))


def written(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") + "\n"


def test_the_estimate_is_above_what_a_tokenizer_counts_in_sections_of_real_examples() -> None:
    tokenizer = Tokenizer.from_file(str(Path(errata.embedding.__file__).with_name("minilm_tokenizer.json")))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    lines = (ROOT / "data/nl2bash/learn.jsonl").read_text().splitlines()[:2_000]
    rows = [json.loads(line) for line in lines]
    matches = [match(row["question"], code(row["executed"], "bash")) for row in rows]
    for first in range(0, len(matches), 5):
        made = section(*matches[first : first + 5])
        assert estimate_tokens(made) >= len(tokenizer.encode(made).ids) - 2


def test_the_estimate_counts_every_byte_of_what_is_not_ascii() -> None:
    assert estimate_tokens("日本") == 6
    assert estimate_tokens("\ud800") == 1
    assert estimate_tokens("") == 0
