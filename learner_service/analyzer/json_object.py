"""A JSON object of a log line, read by the names of its members in either spelling.

Log lines write the same member as `trace_id` or as `traceId`; callers use the first. A member that is absent
or null reads as empty; one of another type than asked for makes the line malformed.
"""

import json
import re
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import Final

from learner_service.analyzer.records import MalformedLineError

_SECONDS: Final = re.compile(r"\d{1,12}(\.\d{1,40})?([eE][+-]?\d{1,2})?")
_TIME_US_MAX: Final = 253_402_300_799_999_999
"""The end of the year 9999, which is where a Timestamp ends."""


class JsonObject:
    """See the module."""

    __slots__ = ("_members",)

    def __init__(self, members: dict[str, object]) -> None:
        self._members = members

    def text(self, name: str) -> str:
        """A string."""
        value = self._get(name)
        if value is None:
            return ""
        if isinstance(value, str):
            return value
        raise MalformedLineError(f"{name} is not a string")

    def flag(self, name: str) -> bool:
        """A boolean."""
        value = self._get(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise MalformedLineError(f"{name} is not true or false")

    def integer(self, name: str) -> int | None:
        """A whole number, or None where there is none."""
        value = self._get(name)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        raise MalformedLineError(f"{name} is not a whole number")

    def seconds_us(self, *names: str) -> int:
        """A time, written as seconds since 1970, in microseconds. Of some names the first that is there.

        Taken from the decimal digits and rounded to the nearest: floats of today are 0.2 µs apart, and
        loggers that go through one write digits such as `.6541498` for 654150 µs.

        Raises:
            MalformedLineError: also when the time is absent, negative, or after the year 9999.
        """
        value = next((value for value in map(self._get, names) if value is not None), None)
        # `parse_object` leaves fractions as their text.
        text = str(value) if isinstance(value, int | str) else ""
        if not _SECONDS.fullmatch(text):
            raise MalformedLineError(f"{names[0]} is not a time in seconds")
        time_us = int((Decimal(text) * 1_000_000).to_integral_value(ROUND_HALF_EVEN))
        if time_us > _TIME_US_MAX:
            raise MalformedLineError(f"{names[0]} is after the year 9999")
        return time_us

    def child(self, *names: str) -> "JsonObject | None":
        """An object, or None where there is none. Of some names the first that is there."""
        value = next((value for value in map(self._get, names) if value is not None), None)
        if value is None:
            return None
        if isinstance(value, dict):
            return JsonObject(value)
        raise MalformedLineError(f"{names[0]} is not an object")

    def children(self, name: str) -> "list[JsonObject]":
        """A list of objects."""
        children = []
        for each in self._list(name):
            if not isinstance(each, dict):
                raise MalformedLineError(f"{name} holds something that is not an object")
            children.append(JsonObject(each))
        return children

    def is_list(self, name: str) -> bool:
        """True when the member is a list."""
        return isinstance(self._get(name), list)

    def texts(self, name: str) -> list[str]:
        """A list of strings."""
        texts = []
        for each in self._list(name):
            if not isinstance(each, str):
                raise MalformedLineError(f"{name} holds something that is not a string")
            texts.append(each)
        return texts

    def text_map(self, name: str) -> dict[str, str]:
        """An object whose values are strings; other plain values read as the JSON that they are."""
        members = self._get(name)
        if members is None:
            return {}
        if not isinstance(members, dict):
            raise MalformedLineError(f"{name} is not an object")
        return {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in members.items()
            if value is not None and not isinstance(value, dict | list)
        }

    def word(self, name: str) -> str:
        """The value of an enumeration: a string, or a number as its digits."""
        value = self._get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        return self.text(name)

    def _get(self, name: str) -> object:
        value = self._members.get(name)
        return self._members.get(_camel_case(name)) if value is None else value

    def _list(self, name: str) -> list[object]:
        value = self._get(name)
        if value is None:
            return []
        if isinstance(value, list):
            return value
        raise MalformedLineError(f"{name} is not a list")


def parse_object(text: str) -> JsonObject:
    """The object that a line holds.

    Raises:
        MalformedLineError: the line is not JSON, or JSON of another kind, or nested too deeply.
    """
    try:
        value = _DECODER.decode(text)
    except (ValueError, RecursionError):
        raise MalformedLineError("not valid JSON") from None
    if not isinstance(value, dict):
        raise MalformedLineError("not a JSON object")
    return JsonObject(value)


def is_object(line: bytes) -> bool:
    """True when the bytes are one whole JSON object. No part of an object, from its start, is one."""
    if not line.rstrip().endswith(b"}"):
        return False
    try:
        parse_object(line.decode("utf-8-sig"))
    except (MalformedLineError, UnicodeDecodeError):
        return False
    return True


def _refuse_constant(name: str) -> object:
    raise ValueError(f"JSON has no {name}")


_DECODER: Final = json.JSONDecoder(parse_float=str, parse_constant=_refuse_constant)


@lru_cache(maxsize=256)
def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
