"""Asks a server whether it serves, by the protocol of grpc.health.v1, without its package.

The two messages, of one field each, are those of grpc/health/v1/health.proto in a descriptor pool of their
own.
"""

from typing import Any, Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

_PACKAGE: Final = "errata.client"
_SERVING: Final = 1


def _messages() -> tuple[type[Message], type[Message]]:
    file = FileDescriptorProto(name="errata/client/health.proto", package=_PACKAGE, syntax="proto3")
    request = file.message_type.add(name="HealthCheckRequest")
    request.field.add(name="service", number=1, type=FieldDescriptorProto.TYPE_STRING)
    response = file.message_type.add(name="HealthCheckResponse")
    # An enum on the wire is an int32, and stays one where a value is not known.
    response.field.add(name="status", number=1, type=FieldDescriptorProto.TYPE_INT32)
    for message in file.message_type:
        message.field[0].label = FieldDescriptorProto.LABEL_OPTIONAL
    pool = DescriptorPool()
    pool.Add(file)
    return _class(pool, request.name), _class(pool, response.name)


def _class(pool: DescriptorPool, name: str) -> type[Message]:
    return GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


HealthCheckRequest, HealthCheckResponse = _messages()


class HealthStub:
    """Calls grpc.health.v1.Health over a channel, synchronous or asynchronous."""

    def __init__(self, channel: Any) -> None:
        """Binds the method; calls nothing."""
        self.Check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )


def says_serving(response: Any) -> bool:
    """Whether the whole server serves."""
    return bool(response.status == _SERVING)
