"""Times as people write and read them: `2h`, `yesterday`, `2026-11-20 14:00`; `3 min ago`."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_UNIT_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
_LENGTH: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*([smhdw]?)")
_YEARS: Final = range(1970, 10_000)


def read_length_s(text: str) -> float:
    """A length of time such as `30`, `1.5s`, `90m`, `2h`, `7d` or `2w`, in seconds.

    Raises:
        ValueError: it is none; the message says what one looks like.
    """
    match = _LENGTH.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is no length of time; write a number and s, m, h, d or w, such as 2h")
    return float(match[1]) * _UNIT_S[match[2] or "s"]


def read_time(text: str, now: datetime) -> datetime:
    """A moment: a length of time before now, `today`, `yesterday`, or a date with or without a time.

    A date without a zone is in the zone of `now`.

    Args:
        text: what a person wrote.
        now: with its zone.

    Raises:
        ValueError: it is none of these; the message says what they look like.
    """
    word = text.strip().lower()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if word == "today":
        return midnight
    if word == "yesterday":
        return midnight - timedelta(days=1)
    try:
        if word[-1:].isalpha() and word[:1].isdigit() and not word.endswith("z"):
            return now - timedelta(seconds=read_length_s(word))
        read = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        read = None
    if read is None or read.year not in _YEARS:
        raise ValueError(
            f"{text!r} is no time; write how long ago, such as 30m, 2h or 7d, or a date, such as "
            f"{now.date()} or '{now.date()} 14:00'"
        )
    return read if read.tzinfo is not None else read.replace(tzinfo=now.tzinfo)


def local_now() -> datetime:
    """The wall clock, in the zone of the machine."""
    return datetime.now(UTC).astimezone()


def length(seconds: float) -> str:
    """A length of time in one unit that fits: `0.4 s`, `12 s`, `5 min`, `3 h`, `2 days`."""
    if seconds < 10:  # noqa: PLR2004 - below it a fraction says something
        return f"{seconds:.1f} s".replace(".0 s", " s")
    for unit_s, limit_s, name in ((1, 120, "s"), (60, 7_200, "min"), (3_600, 172_800, "h")):
        if seconds < limit_s:
            return f"{seconds / unit_s:.0f} {name}"
    return f"{seconds / 86_400:,.0f} days"


def since(moment: datetime, now: datetime) -> str:
    """How long ago a moment was: `3 min ago`; `in 5 min` for one to come."""
    seconds = (now - moment).total_seconds()
    return f"{length(seconds)} ago" if seconds >= 0 else f"in {length(-seconds)}"
