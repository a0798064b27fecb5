"""Calls whose request is bytes, whatever they are."""

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from errata.v1 import learner_pb2, rag_pb2
from tests.e2e.services import CALL_S_MAX

LEARNER: ServiceDescriptor = learner_pb2.DESCRIPTOR.services_by_name["LearnerService"]
RAG: ServiceDescriptor = rag_pb2.DESCRIPTOR.services_by_name["RagService"]


def methods(service: ServiceDescriptor) -> list[str]:
    """The names of all methods of a service, by the contract."""
    return [method.name for method in service.methods]


def call_raw(channel: grpc.Channel, service: ServiceDescriptor, method: str, request: bytes) -> bytes:
    """Sends bytes to a method; returns those of its answer, or of the first of a stream.

    Raises:
        grpc.RpcError: the call fails.
    """
    path = f"/{service.full_name}/{method}"
    if _described(service, method).server_streaming:
        open_stream: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(path, bytes, bytes)
        stream = open_stream(request, timeout=CALL_S_MAX)
        try:
            return next(stream)
        finally:
            stream.cancel()
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path, bytes, bytes)
    return call(request, timeout=CALL_S_MAX)


def parses(service: ServiceDescriptor, method: str, request: bytes) -> bool:
    """Whether the bytes are a request of the method at all."""
    request_class: type[Message] = GetMessageClass(_described(service, method).input_type)
    try:
        request_class.FromString(request)
    except Exception:  # noqa: BLE001 - whatever the library raises, they are none
        return False
    return True


def _described(service: ServiceDescriptor, method: str) -> MethodDescriptor:
    return service.methods_by_name[method]
