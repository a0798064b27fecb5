"""Messages as JSON for scripts: the JSON of protobuf, with every field, and 64-bit counts as numbers.

The names are those that grpcurl prints too. Protobuf writes int64 as strings, which compare wrongly in jq and
most languages; counts never come near the 2^53 where a number would lose digits. What is 64 random bits
(fixed64) stays a string.
"""

from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_COUNTS: Final = frozenset({FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_SINT64})


def to_json(message: Message) -> dict[str, Any]:
    """The message as JSON has it: fields that are not set with their defaults, unset messages left out."""
    members: dict[str, Any] = json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    _make_numbers(members, message.DESCRIPTOR)
    return members


def _make_numbers(members: dict[str, Any], descriptor: Any) -> None:
    for field in descriptor.fields:
        value = members.get(field.json_name)
        if value is None:
            continue
        if field.type in _COUNTS:
            members[field.json_name] = (
                [int(each) for each in value] if isinstance(value, list) else int(value)
            )
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            # A time or a duration is a string and has nothing inside.
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, dict):
                    _make_numbers(each, field.message_type)
