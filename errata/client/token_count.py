"""About how many tokens a text has, for models whose tokenizer is not at hand."""

import re
from typing import Final

_WORD_PART_CHARACTERS: Final = 3
"""Letters of a token; the words of prose have more, and those of keys and hashes fewer."""

_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_SINGLE: Final = re.compile(r"[!-@\[-`{-\x7f]|\n+|\t+|  +")
"""ASCII digits and punctuation each by itself; line ends and indents as a run."""


def estimate_tokens(text: str) -> int:
    """Counts the tokens of a text, rather too many than too few.

    One for every 3 letters of a word begun, where a capital begins a word, one for each digit and punctuation
    mark, one for a run of line ends or of spaces, and one for each byte of what is not ASCII.
    """
    words = sum(-(-len(word) // _WORD_PART_CHARACTERS) for word in _WORD.findall(text))
    singles = sum(1 for _ in _SINGLE.finditer(text))
    beyond_ascii = sum(
        len(character.encode(errors="replace")) for character in text if not character.isascii()
    )
    return words + singles + beyond_ascii
