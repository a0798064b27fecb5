"""What a text must hold for any rule to match is looked for first: that may never hide a secret."""

import re
from collections.abc import Iterator
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from errata import redaction
from errata.redaction import may_hold_secret
from errata.redaction_rules import FOLLOWED_BY, NEEDED, RULES
from errata.text import redact, redact_event
from errata.v1.block_pb2 import Block, BlockEvent, BlockOutput, BlockOutputItem, Doc, ExampleTaught
from tests.errata.test_redaction import SHAPES, mixed


def redacted_by_the_rules(text: str) -> str:
    """The text after rules that are tried in any case: a line before it holds what one of them needs."""
    before = "key\n"
    return redact(before + text).removeprefix(before)


def secrets() -> Iterator[str]:
    for shape, secret in SHAPES:
        yield shape.format(secret)
        yield secret


def test_every_rule_says_what_it_needs() -> None:
    assert NEEDED.keys() == {rule.name for rule in RULES}
    assert all(part == part.lower() for parts in NEEDED.values() for part in parts)
    assert FOLLOWED_BY.keys() <= {*NEEDED["token with a prefix"]}


def test_what_ends_in_a_common_word_is_not_looked_at_twice() -> None:
    for text in (
        "task-12345",
        "Asia/Tokyo",
        "df -h /mnt/disk-2",
        "msg.txt",
        "conv_hf_1",
        "mask-rcnn-for-detection",
    ):
        assert not may_hold_secret(text.encode())


@given(
    text=st.text(alphabet="abcxy-_=", max_size=12), words=st.sets(st.text("abcxy-_=", min_size=1), min_size=1)
)
def test_any_of_some_words_is_found_wherever_it_stands(text: str, words: set[str]) -> None:
    assert (re.search(redaction._any_of(words), text) is not None) == any(word in text for word in words)


PIECES = st.sampled_from(
    [
        *sorted({part for parts in NEEDED.values() for part in parts}),
        *(
            "password",
            "PASSWORD",
            "api_key",
            "API-KEY",
            "Secret",
            "toKen",
            "pwd",
            "_PWD",
            ";pwd",
            "PASS",
            "passin",
        ),
        *(
            "=",
            ":",
            ": ",
            " = ",
            '"',
            "'",
            " ",
            "\n",
            "@",
            "://",
            "-",
            "--",
            "-p",
            "-u ",
            "-a ",
            "Bearer ",
            "sig=",
        ),
        *(
            "curl",
            "mysql",
            "sshpass",
            "redis-cli",
            "docker login",
            "mongosh",
            "-----BEGIN RSA PRIVATE KEY-----",
        ),
        *("hunter2", "Tr0ub4dor", mixed(20), mixed(40), "AKIA", "SK-", "GHP_", "user", "\u212a", "\u017f"),
        *(
            "authorization",
            "Authorization: ",
            "Cookie: ",
            "session=",
            "machine h login u password ",
            "IDENTIFIED BY ",
            "hooks.slack.com/services/",
            "-pass",
            "eyJ",
            "ey",
            "ke",
            "y",
            "to",
            "ken",
        ),
    ]
)


@given(text=st.lists(PIECES, max_size=8).map("".join))
@settings(max_examples=2_000, deadline=None)
def test_a_text_that_the_rules_change_holds_what_is_needed(text: str) -> None:
    assert redact(text) == redacted_by_the_rules(text)
    assert may_hold_secret(text.encode()) or redact(text) == text


def test_every_known_secret_holds_what_is_needed() -> None:
    changed_count = 0
    for text in secrets():
        for variant in (text, text.upper(), text.swapcase()):
            changed = redacted_by_the_rules(variant)
            assert redact(variant) == changed
            assert may_hold_secret(variant.encode()) or changed == variant
            changed_count += changed != variant
    assert changed_count > len(SHAPES)


def test_a_secret_anywhere_in_an_event_is_redacted() -> None:
    secret = "ghp_" + mixed(36)

    def block(field: str) -> Block:
        outputs = [BlockOutput(items=[BlockOutputItem(text_data=secret)])] if field == "output" else []
        return Block(
            contents=secret if field == "contents" else "ls",
            metadata={"x": secret} if field == "metadata" else {},
            outputs=outputs,
        )

    for kind, field in product(("generated", "executed"), ("contents", "metadata", "output")):
        for place in ("block", "doc"):
            event = BlockEvent(block_id="b")
            told = getattr(event, kind)
            told.block.contents = "ls"
            if place == "block":
                told.block.CopyFrom(block(field))
            else:
                told.doc.CopyFrom(Doc(blocks=[block(field)]))
            redact_event(event)
            assert secret.encode() not in event.SerializeToString(), (kind, field, place)
    for event in (
        BlockEvent(block_id="b", labels={"x": secret}),
        BlockEvent(block_id="b", taught=ExampleTaught(answer=[block("contents")])),
        BlockEvent(block_id="b", taught=ExampleTaught(query=Doc(blocks=[block("contents")]))),
    ):
        redact_event(event)
        assert secret.encode() not in event.SerializeToString()
