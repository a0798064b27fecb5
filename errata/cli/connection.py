"""How a command reaches the services: one channel for as long as the command needs it.

Everything that gRPC raises within a `with` block here leaves it as a `CommandError`; see `failures`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from errata.cli.failures import Peer, command_error
from errata.cli.shared_options import Chosen
from errata.client.channels import channel_options
from errata.serving.addresses import Address
from errata.v1.learner_pb2_grpc import LearnerServiceStub
from errata.v1.rag_pb2_grpc import RagServiceStub


@contextmanager
def learner_of(chosen: Chosen) -> Iterator[LearnerServiceStub]:
    """The Learner, for calls with `timeout=chosen.timeout_s`.

    Raises:
        CommandError: a call failed.
    """
    with channel_to(chosen.learner) as channel, told(Peer.LEARNER, chosen):
        yield LearnerServiceStub(channel)


@contextmanager
def rag_of(chosen: Chosen) -> Iterator[RagServiceStub]:
    """The RAG service, for calls with `timeout=chosen.timeout_s`.

    Raises:
        CommandError: a call failed.
    """
    with channel_to(chosen.rag) as channel, told(Peer.RAG, chosen):
        yield RagServiceStub(channel)


@contextmanager
def channel_to(address: Address) -> Iterator[grpc.Channel]:
    """A channel, closed at the end."""
    with grpc.insecure_channel(str(address), options=channel_options()) as channel:
        yield channel


@contextmanager
def told(peer: Peer, chosen: Chosen) -> Iterator[None]:
    """Turns what gRPC raises into what a person is told."""
    try:
        yield
    except grpc.RpcError as error:
        raise command_error(error, peer, chosen) from error
