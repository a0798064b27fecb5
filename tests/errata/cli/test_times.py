"""Times as people write and read them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errata.cli.times import length, read_length_s, read_time, since

NOW = datetime(2026, 11, 25, 20, 30, tzinfo=timezone(timedelta(hours=1)))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("1.5s", 1.5), ("90m", 5_400), ("2h", 7_200), ("7 d", 604_800), ("1W", 604_800)],
)
def test_a_length_of_time_has_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert read_length_s(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "-2h", "2 hours", "1e3", "2y"])
def test_what_is_no_length_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as 2h"):
        read_length_s(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2h", NOW - timedelta(hours=2)),
        ("today", NOW.replace(hour=0, minute=0)),
        ("Yesterday", NOW.replace(day=24, hour=0, minute=0)),
        ("2026-11-20", NOW.replace(day=20, hour=0, minute=0)),
        ("2026-11-20 14:00", NOW.replace(day=20, hour=14, minute=0)),
        ("2026-11-20T14:00:00Z", datetime(2026, 11, 20, 14, tzinfo=UTC)),
    ],
)
def test_a_time_is_a_length_before_now_a_word_or_a_date(text: str, moment: datetime) -> None:
    assert read_time(text, NOW) == moment


@pytest.mark.parametrize(
    "text", ["", "soon", "2026-13-01", "1969-12-31", "999999999w", "2 hours", "0001-01-01"]
)
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="write how long ago"):
        read_time(text, NOW)


@given(st.text(max_size=20))
def test_any_text_is_a_time_or_is_refused(text: str) -> None:
    try:
        read = read_time(text, NOW)
    except ValueError:
        return
    assert read.tzinfo is not None


def test_lengths_are_written_in_one_unit_that_fits() -> None:
    seconds = [0, 0.44, 9.96, 12, 119, 300, 7_200, 172_800]
    assert [length(each) for each in seconds] == [
        "0 s", "0.4 s", "10 s", "12 s", "119 s", "5 min", "2 h", "2 days",
    ]  # fmt: skip


def test_moments_are_told_from_now() -> None:
    assert since(NOW - timedelta(minutes=5), NOW) == "5 min ago"
    assert since(NOW + timedelta(hours=3), NOW) == "in 3 h"
