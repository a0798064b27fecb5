"""Proto JSON is read as protobuf's own parser reads it: the same messages, the same refusals."""

import copy
import json
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from errata.v1.block_pb2 import BlockEvent
from learner_service.analyzer.proto_json import MemberTwiceError, NotAMessageError, ProtoJson, parse_members
from tests.learner_service.analyzer.lines import executed, own, taught

EVENTS = ProtoJson(BlockEvent)


def read(text: str) -> BlockEvent | None:
    """As we read it; None when it is refused."""
    try:
        return EVENTS.read(parse_members(text))
    except NotAMessageError:
        return None


def read_by_protobuf(text: str) -> BlockEvent | None:
    try:
        return json_format.Parse(text, BlockEvent())
    except (json_format.ParseError, ValueError, TypeError, ArithmeticError, AttributeError):
        return None


TEXTS = st.sampled_from(["", "ls -l", "é", "\0", "\ud800", "\U0001f600", "x" * 300])
TIMES = st.sampled_from(
    [
        "2024-05-01T12:00:00Z",
        "2024-05-01T12:00:00.5Z",
        "2024-05-01T12:00:00.123456789Z",
        "2024-05-01T12:00:00.1234567891Z",
        "2024-05-01T12:00:00+02:00",
        "2024-02-30T12:00:00Z",
        "2024-02-29T23:59:60Z",
        "2023-02-29T00:00:00Z",
        "2024-05-01T24:00:00Z",
        "2024-05-01t12:00:00z",
        "2024-05-01 12:00:00Z",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999999Z",
        "1969-12-31T23:59:59.25Z",
        "٢٠٢٤-05-01T12:00:00Z",
        "now",
        "",
    ]
)
KINDS = st.sampled_from(["BLOCK_KIND_CODE", "BLOCK_KIND_MARKUP", "CODE", "2", 2, 2.0, 99, True, "", None])
NUMBERS = st.sampled_from([0, 1, -1, 2**31 - 1, -(2**31), 2**31, 1.0, 1.5, 1e300, "7", "x", True, None])
MAPS = st.dictionaries(st.sampled_from(["a", "b", ""]), st.one_of(TEXTS, st.sampled_from([None, 1, True])))
JUNK: st.SearchStrategy[Any] = st.sampled_from([None, 1, 1.5, True, "x", [], {}, [[]], [None], {"x": 1}])


def members(**strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with some of the members, now and then with one of a wrong type."""
    optional = {name: st.one_of(strategy, strategy, strategy, JUNK) for name, strategy in strategies.items()}
    return st.fixed_dictionaries({}, optional=optional)


OUTPUTS = st.lists(
    members(items=st.lists(members(mime=TEXTS, textData=TEXTS, text_data=TEXTS), max_size=2)), max_size=2
)
BLOCKS = members(
    kind=KINDS,
    language=TEXTS,
    contents=TEXTS,
    outputs=OUTPUTS,
    traceIds=st.lists(TEXTS, max_size=2),
    id=TEXTS,
    metadata=MAPS,
)
DOCS = members(blocks=st.lists(BLOCKS, max_size=2))
BLOCK_EVENTS = members(
    blockId=TEXTS,
    block_id=TEXTS,
    eventTime=TIMES,
    event_time=TIMES,
    namespace=TEXTS,
    labels=MAPS,
    evalMode=st.booleans(),
    generated=members(doc=DOCS, block=BLOCKS, traceId=TEXTS, exampleIds=st.lists(TEXTS, max_size=2)),
    executed=members(
        block=BLOCKS,
        exitCode=NUMBERS,
        exit_code=NUMBERS,
        status=st.sampled_from(["EXECUTION_STATUS_FAILED", "FAILED", 1, 7]),
        doc=DOCS,
    ),
    suggestion=st.sampled_from(["SUGGESTION_STATUS_ACCEPTED", "NONE", 2, 0, "2"]),
    taught=members(query=DOCS, answer=st.lists(BLOCKS, max_size=2)),
)


@given(event=BLOCK_EVENTS)
@settings(max_examples=500, deadline=None)
def test_it_reads_what_protobuf_reads_and_refuses_what_it_refuses(event: dict[str, Any]) -> None:
    text = json.dumps(event)
    before = copy.deepcopy(event)
    ours, theirs = read(text), read_by_protobuf(text)
    assert ours == theirs
    if ours is not None and theirs is not None:
        # Equality does not tell presence of an empty message from its absence.
        assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)
    assert event == before


@given(time=st.one_of(TIMES, st.from_regex(r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,10})?Z\Z")))
@settings(max_examples=300, deadline=None)
def test_times_are_those_of_protobuf(time: str) -> None:
    text = json.dumps({"eventTime": time})
    assert read(text) == read_by_protobuf(text)


@pytest.mark.parametrize(
    "text",
    [
        own(executed("block-1")).decode(),
        own(taught("block-1", "list files"), snake_case=True).decode().strip(),
        '{"blockId": "a", "blockId": "b"}',
        '{"executed": {"exitCode": 1, "exitCode": 1}}',
        '{"labels": {"a": "1", "a": "2"}}',
        '{"blockId": "a", "block_id": "b"}',
        '{"generated": {}, "suggestion": 1}',
        '{"generated": {}}',
        '{"generated": null, "suggestion": 1}',
        '{"evalMode": "true"}',
        '{"evalMode": 1}',
        '{"blockId": 5}',
        '{"blockId": "\\ud83d\\ude00"}',
        '{"unknown": 1}',
        '{"[x.y]": 1}',
        '{"executed": {"exitCode": NaN}}',
        '{"executed": {"exitCode": 1e400}}',
        "{} x",
        "[]",
        "7",
        "{",
        "",
        '{"taught": ' * 200 + "1" + "}" * 200,
        '{"a": ' * 100_000,
    ],
)
def test_single_cases_are_read_as_protobuf_reads_them(text: str) -> None:
    text = text.strip()
    if text.startswith(("[", "7")):
        # Not an object: no members, and so an empty message, which its reader never asks for.
        assert parse_members(text) == {}
        return
    assert read(text) == read_by_protobuf(text)


def test_the_members_are_known_though_one_is_named_twice() -> None:
    with pytest.raises(MemberTwiceError) as caught:
        parse_members('{"level": "info", "a": {"b": 1, "b": 2}}')
    assert caught.value.members == {"level": "info", "a": {"b": 2}}
