"""The operations that ask a service about itself and about single blocks."""

from collections.abc import Mapping
from typing import Final

from google.protobuf.message import Message

from errata.client.caller import Caller
from errata.client.errors import UnavailableError
from errata.client.health import HealthCheckRequest, HealthCheckResponse, HealthStub, says_serving
from errata.client.steps import Method, Service, Steps, called_once
from errata.v1 import learner_pb2, rag_pb2
from errata.v1.learner_pb2_grpc import LearnerServiceStub
from errata.v1.rag_pb2_grpc import RagServiceStub

GET_BLOCK: Final[Method[learner_pb2.GetBlockRequest, learner_pb2.GetBlockResponse]] = Method(
    Service.LEARNER, LearnerServiceStub, "GetBlock", learner_pb2.GetBlockResponse
)
GET_STATUS: Final[Method[learner_pb2.GetStatusRequest, learner_pb2.GetStatusResponse]] = Method(
    Service.LEARNER, LearnerServiceStub, "GetStatus", learner_pb2.GetStatusResponse
)
GET_INDEX_STATUS: Final[Method[rag_pb2.GetIndexStatusRequest, rag_pb2.GetIndexStatusResponse]] = Method(
    Service.RAG, RagServiceStub, "GetIndexStatus", rag_pb2.GetIndexStatusResponse
)
CHECK: Final[Mapping[Service, Method[Message, Message]]] = {
    service: Method(service, HealthStub, "Check", HealthCheckResponse) for service in Service
}


class Describing(Caller):
    """Asks how things stand."""

    def get_block(
        self, block_id: str, *, namespace: str | None = None, deadline_s: float | None = None
    ) -> Steps[learner_pb2.GetBlockResponse]:
        """What is known of a block, and what was learned from it or why nothing was.

        Raises:
            NotFoundError: no event names the block.
        """
        request = learner_pb2.GetBlockRequest(id=block_id, namespace=self._namespace(namespace))
        return (yield from self._called(GET_BLOCK, request, deadline_s))

    def learner_status(self, *, deadline_s: float | None = None) -> Steps[learner_pb2.GetStatusResponse]:
        """Describes the store, the queue and the watchers of the Learner."""
        return (yield from self._called(GET_STATUS, learner_pb2.GetStatusRequest(), deadline_s))

    def index_status(self, *, deadline_s: float | None = None) -> Steps[rag_pb2.GetIndexStatusResponse]:
        """Describes the index of the RAG service and how fresh it is."""
        return (yield from self._called(GET_INDEX_STATUS, rag_pb2.GetIndexStatusRequest(), deadline_s))

    def learner_serves(self, *, deadline_s: float | None = None) -> Steps[bool]:
        """Whether the Learner serves now: asked once, and False when nobody answers."""
        return (yield from self._serves(Service.LEARNER, deadline_s))

    def rag_serves(self, *, deadline_s: float | None = None) -> Steps[bool]:
        """Whether the RAG service serves now: once it has a state to search. False when nobody answers."""
        return (yield from self._serves(Service.RAG, deadline_s))

    def _serves(self, service: Service, deadline_s: float | None) -> Steps[bool]:
        deadline = self._deadline(deadline_s)
        try:
            response = yield from called_once(CHECK[service], HealthCheckRequest(), deadline)
        except UnavailableError:
            return False
        return says_serving(response)
