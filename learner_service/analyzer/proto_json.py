"""Proto JSON to messages, as `google.protobuf.json_format` reads it, several times as fast.

What is written the usual way (strings as strings, enumerations by name, whole numbers as such, times in UTC)
is checked member by member along the message's descriptor and built in one call. Whatever is not, valid or
wrong, is left to `json_format`: there is one answer to what is valid, and a test compares the two.
"""

import json
import re
from collections.abc import Callable, Mapping
from datetime import date
from functools import lru_cache
from typing import Any, Final, Generic, TypeVar, cast

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

MessageT = TypeVar("MessageT", bound=Message)

Convert = Callable[[Any], object]
"""From what the JSON parser gives for a member to what a message is built from."""

_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d)T([01]\d|2[0-3]):([0-5]\d):([0-5]\d)(?:\.(\d{1,9}))?Z", re.ASCII)
_INT32_MAX: Final = (1 << 31) - 1
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()


class NotAMessageError(Exception):
    """The text is not the JSON of such a message."""


class MemberTwiceError(NotAMessageError):
    """An object names a member twice, which loggers do and proto JSON forbids."""

    def __init__(self, members: dict[str, Any]) -> None:
        super().__init__("a member is named twice")
        self.members = members
        """Of the whole; of each name the last."""


class _UnusualError(Exception):
    """Not written the usual way; it may be valid all the same."""


def parse_members(text: str) -> dict[str, Any]:
    """The members of a JSON object; none for JSON of another kind.

    Raises:
        MemberTwiceError: an object in it names a member twice.
        NotAMessageError: it is not JSON.
    """
    try:
        return _members(_STRICT, text)
    except _NamedTwiceError:
        raise MemberTwiceError(_members(_LENIENT, text)) from None


class ProtoJson(Generic[MessageT]):
    """Reads messages of one type."""

    def __init__(self, message_class: type[MessageT]) -> None:
        self._message_class = message_class
        self._convert = _message(cast("Descriptor", message_class.DESCRIPTOR))

    def read(self, members: dict[str, Any]) -> MessageT:
        """The message with these members, which are left as they are.

        Raises:
            NotAMessageError: there is no such message.
        """
        try:
            values: Any = self._convert(members)
            return self._message_class(**values)
        except (_UnusualError, KeyError, ValueError, TypeError):
            return self._read_slowly(members)

    def _read_slowly(self, members: dict[str, Any]) -> MessageT:
        message = self._message_class()
        try:
            json_format.ParseDict(members, message)
        except (json_format.ParseError, ValueError, TypeError, ArithmeticError, AttributeError) as error:
            # The parser checks its input unevenly: for some values of a wrong type it raises other errors.
            raise NotAMessageError("not a message in proto JSON") from error
        return message


class _NamedTwiceError(Exception):
    """A member is named twice in one object."""


def _no_member_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _NamedTwiceError
    return members


_STRICT: Final = json.JSONDecoder(object_pairs_hook=_no_member_twice)
_LENIENT: Final = json.JSONDecoder()


def _members(decoder: json.JSONDecoder, text: str) -> dict[str, Any]:
    try:
        value, end = decoder.raw_decode(text)
    except (ValueError, RecursionError):
        raise NotAMessageError("not valid JSON") from None
    if end != len(text):
        raise NotAMessageError("more than one JSON value")
    return value if isinstance(value, dict) else {}


def _message(descriptor: Descriptor) -> Convert:
    if descriptor.full_name == "google.protobuf.Timestamp":
        return _time
    fields: dict[str, tuple[str, Convert]] = {}
    for field in descriptor.fields:
        fields[field.name] = fields[field.json_name] = (field.name, _field(field))
    # That of an optional field has only itself.
    oneofs = [{field.name for field in oneof.fields} for oneof in descriptor.oneofs if len(oneof.fields) > 1]

    def convert(members: Any) -> dict[str, object]:
        values = _converted(members, fields)
        for oneof in oneofs:
            if len(values.keys() & oneof) > 1:
                raise _UnusualError
        return values

    return convert


def _converted(members: Any, fields: Mapping[str, tuple[str, Convert]]) -> dict[str, object]:
    if type(members) is not dict:
        raise _UnusualError
    values: dict[str, object] = {}
    for member, value in members.items():
        name, convert = fields[member]
        # Most are texts, and a call for each would take as long as all the rest.
        if convert is not _text:
            values[name] = convert(value)
        elif type(value) is str:
            values[name] = value
        else:
            raise _UnusualError
    if len(values) != len(members):
        raise _UnusualError
    return values


def _field(field: FieldDescriptor) -> Convert:
    if not field.is_repeated:
        return _single(field)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return _text_map if _is_of_text(field.message_type) else _unusual
    return _list(_single(field))


def _single(field: FieldDescriptor) -> Convert:
    if field.message_type is not None:
        return _message(field.message_type)
    if field.enum_type is not None:
        return _enumeration(field.enum_type)
    return _SCALARS.get(field.type, _unusual)


def _list(convert: Convert) -> Convert:
    def convert_each(value: Any) -> list[object]:
        if type(value) is not list:
            raise _UnusualError
        return [convert(each) for each in value]

    return convert_each


def _enumeration(descriptor: EnumDescriptor) -> Convert:
    numbers = {value.name: value.number for value in descriptor.values}

    def convert(value: Any) -> int:
        number = numbers.get(value) if type(value) is str else None
        if number is None:
            raise _UnusualError
        return number

    return convert


def _text(value: Any) -> str:
    if type(value) is not str:
        raise _UnusualError
    return value


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise _UnusualError
    return value


def _int32(value: Any) -> int:
    if type(value) is not int or not -_INT32_MAX <= value <= _INT32_MAX:
        raise _UnusualError
    return value


def _text_map(value: Any) -> dict[str, str]:
    if type(value) is not dict or any(type(each) is not str for each in value.values()):
        raise _UnusualError
    return value


def _time(value: Any) -> dict[str, int]:
    match = _TIME.fullmatch(value) if type(value) is str else None
    if match is None:
        raise _UnusualError
    day, hours, minutes, seconds, fraction = match.groups()
    day_s = _day_s(day) + int(hours) * 3_600 + int(minutes) * 60 + int(seconds)
    return {"seconds": day_s, "nanos": int(fraction.ljust(9, "0")) if fraction else 0}


@lru_cache(maxsize=1_024)
def _day_s(day: str) -> int:
    """Seconds from 1970 to the start of a day. Raises ValueError where there is no such day."""
    return (date.fromisoformat(day).toordinal() - _EPOCH_DAY) * 86_400


def _unusual(_: Any) -> object:
    raise _UnusualError


def _is_of_text(entry: Descriptor) -> bool:
    return all(field.type == FieldDescriptor.TYPE_STRING for field in entry.fields)


_SCALARS: Final = {
    FieldDescriptor.TYPE_STRING: _text,
    FieldDescriptor.TYPE_BOOL: _flag,
    FieldDescriptor.TYPE_INT32: _int32,
}
