"""The checks of request fields: each rule of the contract at its edges."""

import subprocess
import sys

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from errata.serving.fields import (
    InvalidFieldError,
    TooLargeError,
    check_backfill_id,
    check_block_id,
    check_labels,
    check_namespace,
    check_namespaces,
    duration_s,
    page_size,
    shortened,
    timestamp_us,
)


@pytest.mark.parametrize("namespace", ["", "a", "team-a_1", "-", "x" * 63])
def test_a_namespace_is_up_to_63_of_some_characters(namespace: str) -> None:
    check_namespace("namespace", namespace)


@pytest.mark.parametrize("namespace", ["A", "a b", "a/b", "ä", "x" * 64, "a\n", "a\0", "٣"])
def test_anything_else_is_no_namespace(namespace: str) -> None:
    with pytest.raises(
        InvalidFieldError, match=r"^events\[3\]\.namespace: a namespace is up to 63 of"
    ) as caught:
        check_namespace("events[3].namespace", namespace)
    assert caught.value.field == "events[3].namespace"


def test_a_list_of_namespaces_names_the_one_that_is_none() -> None:
    check_namespaces("filter.namespaces", ["", "a"], count_max=2)
    with pytest.raises(InvalidFieldError) as caught:
        check_namespaces("filter.namespaces", ["a", "B"])
    assert caught.value.field == "filter.namespaces[1]"


def test_a_list_of_namespaces_may_have_a_bound() -> None:
    with pytest.raises(TooLargeError) as caught:
        check_namespaces("filter.namespaces", ["a"] * 17, count_max=16)
    assert (caught.value.field, caught.value.limit, caught.value.got) == ("filter.namespaces", 16, 17)


@pytest.mark.parametrize("block_id", ["a", "x" * 255, "ä" * 127, "with space", "🙂", "a\u2028b"])
def test_a_block_id_is_1_to_255_bytes_without_control_characters(block_id: str) -> None:
    check_block_id("id", block_id)


@pytest.mark.parametrize(
    ("block_id", "problem"),
    [
        ("", "required"),
        ("x" * 256, "256"),
        ("ä" * 128, "256"),
        ("a\nb", "control"),
        ("\0", "control"),
        ("\x7f", "control"),
        ("\x85", "control"),
        ("\ud800", "UTF-8"),
    ],
)
def test_anything_else_is_no_block_id(block_id: str, problem: str) -> None:
    with pytest.raises(InvalidFieldError, match=f"^id: .*{problem}"):
        check_block_id("id", block_id)


@pytest.mark.parametrize("backfill_id", ["a", "2024-05_x", "x" * 63])
def test_a_backfill_id_is_1_to_63_of_some_characters(backfill_id: str) -> None:
    check_backfill_id("backfill_id", backfill_id)


@pytest.mark.parametrize("backfill_id", ["", "X", "x" * 64, "a b"])
def test_anything_else_is_no_backfill_id(backfill_id: str) -> None:
    with pytest.raises(InvalidFieldError, match="1 to 63"):
        check_backfill_id("backfill_id", backfill_id)


def test_labels_pass_at_their_bounds() -> None:
    labels = {f"{'k' * 61}{number:02}": "v" * 255 for number in range(63)}
    check_labels("labels", {**labels, "ä": ""})


@pytest.mark.parametrize("key", ["", "k" * 64, "ä" * 32])
def test_the_key_of_a_label_has_1_to_63_bytes(key: str) -> None:
    with pytest.raises(InvalidFieldError, match="1 to 63 bytes"):
        check_labels("labels", {key: "value"})


def test_the_value_of_a_label_has_at_most_255_bytes_and_is_not_told() -> None:
    with pytest.raises(TooLargeError) as caught:
        check_labels("events[0].labels", {"team": "hunter2" * 40})
    assert caught.value.field == "events[0].labels['team']"
    assert (caught.value.limit, caught.value.got) == (255, 280)
    assert "hunter2" not in str(caught.value)


def test_there_are_at_most_64_labels() -> None:
    with pytest.raises(TooLargeError, match=r"^labels: at most 64 labels, got 65"):
        check_labels("labels", {str(number): "" for number in range(65)})


def test_a_duration_that_is_not_set_has_its_default() -> None:
    assert duration_s("max_wait", None, 2.0) == 2.0


def test_a_duration_is_in_seconds() -> None:
    assert duration_s("max_wait", Duration(seconds=1, nanos=500_000_000), 2.0) == 1.5
    assert duration_s("max_wait", Duration(), 2.0) == 0


def test_a_negative_duration_is_refused_or_raised() -> None:
    with pytest.raises(InvalidFieldError, match="at least 0, got -1 s"):
        duration_s("max_wait", Duration(seconds=-1), 2.0)
    assert duration_s("bookmark_interval", Duration(seconds=-1), 5.0, clamp_s=(0.1, 60)) == 0.1
    assert duration_s("bookmark_interval", Duration(seconds=61), 5.0, clamp_s=(0.1, 60)) == 60


@pytest.mark.parametrize(
    "malformed",
    [
        Duration(seconds=1, nanos=-1),
        Duration(seconds=-1, nanos=1),
        Duration(nanos=1_000_000_000),
        Duration(seconds=315_576_000_001),
    ],
)
def test_a_malformed_duration_is_refused_even_where_it_would_be_clamped(malformed: Duration) -> None:
    with pytest.raises(InvalidFieldError, match="not a valid duration"):
        duration_s("bookmark_interval", malformed, 5.0, clamp_s=(0.1, 60))


def test_a_timestamp_is_in_microseconds_rounded_down() -> None:
    assert timestamp_us("start_time", Timestamp(seconds=1, nanos=999_999_999)) == 1_999_999
    assert timestamp_us("start_time", Timestamp(seconds=-1, nanos=1)) == -1_000_000


@pytest.mark.parametrize(
    "malformed",
    [Timestamp(nanos=-1), Timestamp(nanos=1_000_000_000), Timestamp(seconds=1 << 60)],
)
def test_a_malformed_timestamp_is_refused(malformed: Timestamp) -> None:
    with pytest.raises(InvalidFieldError, match=r"^start_time: not a valid time"):
        timestamp_us("start_time", malformed)


@pytest.mark.parametrize(("asked", "given"), [(0, 50), (1, 1), (1000, 1000), (1001, 1000)])
def test_a_page_has_a_default_and_a_bound(asked: int, given: int) -> None:
    assert page_size("page_size", asked) == given


def test_a_negative_page_size_is_refused() -> None:
    with pytest.raises(InvalidFieldError, match="at least 0, got -1; 0 means 50"):
        page_size("page_size", -1)


@settings(max_examples=50)
@given(st.text())
def test_what_a_message_quotes_is_short_and_printable(text: str) -> None:
    quoted = shortened(text)
    assert quoted.isprintable()
    assert len(quoted) <= 40 * len("\\U0001f642") + len("''…")


def test_the_checks_can_be_had_without_grpc() -> None:
    program = "import sys, errata.serving.fields; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
