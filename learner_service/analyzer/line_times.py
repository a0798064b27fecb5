"""When lines were written, as they say themselves: only to tell how far behind the newest line a reader is.

Taken from the bytes, for lines of any dialect: what stands in a member `time`, `ts` or `eventTime`, in
seconds or as a date. A guess where a line holds several such members, which is good enough for a gauge.
"""

import re
from datetime import datetime
from typing import Final

TAIL_BYTES: Final = 16 * 1024
"""Before a place in a file, looked through for the newest time: some lines."""

_TIME: Final = re.compile(
    rb'"(?:time|ts|eventTime|event_time)"\s{0,4}:\s{0,4}'
    rb'(?:(\d{9,11}(?:\.\d{1,9})?)|"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d{1,9})?Z")'
)


def newest_time_s(lines: bytes) -> float | None:
    """The last time that stands in some lines, in seconds since 1970; None when there is none."""
    found = None
    for found in _TIME.finditer(lines):  # noqa: B007 - only the last one is wanted
        pass
    if found is None:
        return None
    if found[1]:
        return float(found[1])
    try:
        return datetime.fromisoformat(f"{found[2].decode()}+00:00").timestamp()
    except ValueError:
        return None
