"""Reads the ErrorInfo that Errata puts into the details of a Status, without the packages of google.rpc.

The messages are those of google/rpc/status.proto and error_details.proto with the fields that are read here.
They live in a descriptor pool of their own: whoever else in the process has the real ones is not disturbed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

DOMAIN: Final = "errata"
"""Of every ErrorInfo that the services send; those of others, such as a proxy on the way, are passed over."""

_DETAILS_KEY: Final = "grpc-status-details-bin"
_REQUEST_ID_KEY: Final = "x-request-id"
_TYPE_NAME: Final = "google.rpc.ErrorInfo"
_PACKAGE: Final = "errata.client"


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """Why a call failed, for programs."""

    reason: str
    """Name of an `errata.v1.ErrorReason`, or one that this version does not know yet."""
    metadata: Mapping[str, str]
    """What `ErrorReason` documents for the reason, such as `field`."""


def error_info(trailing_metadata: Iterable[tuple[str, str | bytes]]) -> ErrorInfo | None:
    """The ErrorInfo of a call that failed; None when it has none of ours that can be read.

    Args:
        trailing_metadata: of the call, as key and value.
    """
    encoded = _value(trailing_metadata, _DETAILS_KEY)
    if not isinstance(encoded, bytes):
        return None
    try:
        status = _parsed("Status", encoded)
        for detail in status.details:
            if detail.type_url.rpartition("/")[2] == _TYPE_NAME:
                info = _parsed("ErrorInfo", detail.value)
                if info.domain == DOMAIN:
                    return ErrorInfo(info.reason, dict(info.metadata))
    except DecodeError:
        # Whatever sent this is not Errata; the code of the call still says something.
        return None
    return None


def request_id(trailing_metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The ID under which the log of the service has the call; empty when it sent none."""
    value = _value(trailing_metadata, _REQUEST_ID_KEY)
    return value if isinstance(value, str) else ""


def _value(metadata: Iterable[tuple[str, str | bytes]], wanted: str) -> str | bytes | None:
    return next((value for key, value in metadata if key == wanted), None)


def _parsed(name: str, encoded: bytes) -> Any:
    return _MESSAGES[name].FromString(encoded)


def _file() -> FileDescriptorProto:
    string, message = FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.TYPE_MESSAGE
    file = FileDescriptorProto(name="errata/client/error_details.proto", package=_PACKAGE, syntax="proto3")

    status = file.message_type.add(name="Status")
    _add_field(status, "details", 3, message, type_name="Detail", repeated=True)

    detail = file.message_type.add(name="Detail")
    _add_field(detail, "type_url", 1, string)
    _add_field(detail, "value", 2, FieldDescriptorProto.TYPE_BYTES)

    info = file.message_type.add(name="ErrorInfo")
    _add_field(info, "reason", 1, string)
    _add_field(info, "domain", 2, string)
    _add_field(info, "metadata", 3, message, type_name="ErrorInfo.MetadataEntry", repeated=True)
    entry = info.nested_type.add(name="MetadataEntry")
    entry.options.map_entry = True
    _add_field(entry, "key", 1, string)
    _add_field(entry, "value", 2, string)
    return file


def _add_field(
    to: DescriptorProto,
    name: str,
    number: int,
    kind: FieldDescriptorProto.Type.ValueType,
    *,
    type_name: str = "",
    repeated: bool = False,
) -> None:
    field = to.field.add(name=name, number=number, type=kind)
    field.label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
    if type_name:
        field.type_name = f".{_PACKAGE}.{type_name}"


def _messages() -> Mapping[str, type[Message]]:
    pool = DescriptorPool()
    pool.Add(_file())
    return {
        name: GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in ("Status", "ErrorInfo")
    }


_MESSAGES: Final = _messages()
