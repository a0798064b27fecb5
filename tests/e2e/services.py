"""A Learner and a RAG service that run, and calls to them in few words."""

import json
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from errata.v1 import learner_pb2, rag_pb2
from errata.v1.block_pb2 import BlockEvent
from errata.v1.learner_pb2_grpc import LearnerServiceStub
from errata.v1.rag_pb2_grpc import RagServiceStub
from scripts.processes import Process, start

CALL_S_MAX = 20.0
"""Of one call, waits included. Nothing here takes a tenth of it, but other tests may share the machine."""

BUG_LINES = ("a bug ended", "Traceback (most recent call last)")
"""What no process may ever write, whatever it is sent."""


@dataclass(frozen=True)
class Learner:
    """A Learner that serves."""

    process: Process
    store_dir: Path
    channel: grpc.Channel
    stub: LearnerServiceStub

    def record(self, *events: BlockEvent, wait_s: float = CALL_S_MAX) -> learner_pb2.RecordEventsResponse:
        request = learner_pb2.RecordEventsRequest(events=events, learn_wait=duration(wait_s))
        return self.stub.RecordEvents(request, timeout=CALL_S_MAX)

    def learn(self, *events: BlockEvent) -> bytes:
        """Records events from whose blocks something is learned; returns the token of it."""
        response = self.record(*events)
        assert response.pending_block_count == 0
        assert response.token
        return response.token

    def block(self, block_id: str, namespace: str = "") -> learner_pb2.GetBlockResponse:
        request = learner_pb2.GetBlockRequest(id=block_id, namespace=namespace)
        return self.stub.GetBlock(request, timeout=CALL_S_MAX)

    def forget(self, block_id: str, namespace: str = "") -> learner_pb2.ForgetExampleResponse:
        request = learner_pb2.ForgetExampleRequest(id=block_id, namespace=namespace)
        return self.stub.ForgetExample(request, timeout=CALL_S_MAX)

    def status(self) -> learner_pb2.GetStatusResponse:
        return self.stub.GetStatus(learner_pb2.GetStatusRequest(), timeout=CALL_S_MAX)

    @contextmanager
    def watch(
        self, resume_token: bytes = b"", seconds: float = CALL_S_MAX
    ) -> Iterator[Iterator[learner_pb2.WatchUpdatesResponse]]:
        request = learner_pb2.WatchUpdatesRequest(resume_token=resume_token, watcher="test")
        stream = self.stub.WatchUpdates(request, timeout=seconds)
        try:
            yield stream
        finally:
            stream.cancel()


@dataclass(frozen=True)
class Rag:
    """A RAG service that serves."""

    process: Process
    channel: grpc.Channel
    stub: RagServiceStub

    def search(
        self,
        text: str = "",
        *,
        min_token: bytes = b"",
        wait_s: float = CALL_S_MAX / 2,
        namespaces: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> rag_pb2.SearchResponse:
        """Asks a question; the text alone, unless `fields` hold another."""
        request = rag_pb2.SearchRequest(
            min_token=min_token,
            max_wait=duration(wait_s),
            filter=rag_pb2.SearchFilter(namespaces=namespaces, labels=labels),
            **fields,
        )
        if text:
            request.text = text
        return self.stub.Search(request, timeout=CALL_S_MAX)

    def found(self, text: str = "", **fields: Any) -> list[str]:
        """The IDs of what a search finds, best first."""
        return [result.example.id for result in self.search(text, **fields).results]

    def answers(self, text: str = "", **fields: Any) -> list[str]:
        """The commands that a search finds, best first."""
        return [result.example.answer[0].contents for result in self.search(text, **fields).results]

    def status(self) -> rag_pb2.GetIndexStatusResponse:
        return self.stub.GetIndexStatus(rag_pb2.GetIndexStatusRequest(), timeout=CALL_S_MAX)


@dataclass(frozen=True)
class Services:
    """Both."""

    learner: Learner
    rag: Rag


@contextmanager
def learner_on(store_dir: Path, *flags: str, embedder: str = "hashing") -> Iterator[Learner]:
    """A Learner on a store; that it wrote of no bug is checked at the end."""
    process = start("learner_service", "--store-dir", str(store_dir), "--embedder", embedder, *flags)
    with process, process.sync_channel() as channel:
        yield Learner(process, store_dir, channel, LearnerServiceStub(channel))
        check_no_bug(process)


@contextmanager
def rag_of(learner_address: str, *flags: str) -> Iterator[Rag]:
    """A RAG service that follows a Learner; that it wrote of no bug is checked at the end."""
    process = start("rag_service", "--learner", learner_address, *flags)
    with process, process.sync_channel() as channel:
        yield Rag(process, channel, RagServiceStub(channel))
        check_no_bug(process)


@contextmanager
def services_on(store_dir: Path, *learner_flags: str, rag_flags: Sequence[str] = ()) -> Iterator[Services]:
    """Both services, the one following the other."""
    with ExitStack() as running:
        learner = running.enter_context(learner_on(store_dir, *learner_flags))
        rag = running.enter_context(rag_of(learner.process.address, *rag_flags))
        yield Services(learner, rag)


def metrics_of(process: Process) -> dict[str, float]:
    """What Prometheus would read of a process that was started with `--metrics-listen`.

    By name, with the labels as Prometheus writes them.
    """
    said = (line for line in process.stderr.splitlines() if "metrics are served" in line)
    address = json.loads(next(said))["address"]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=CALL_S_MAX) as response:
        text = response.read().decode()
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def check_no_bug(process: Process) -> None:
    """Fails when a process wrote of a bug."""
    written = process.stderr
    for line in BUG_LINES:
        assert line not in written, written[-5_000:]


def until(holds: Callable[[], bool], what: str, seconds: float = CALL_S_MAX) -> None:
    """Returns once something holds that no call waits for."""
    deadline_s = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline_s, f"not within {seconds:g} s: {what}"
        time.sleep(0.01)


def free_address() -> str:
    """HOST:PORT at which nobody listens now. Somebody might soon, but the system hands out others first."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def duration(seconds: float) -> Duration:
    value = Duration()
    value.FromMicroseconds(round(seconds * 1_000_000))
    return value
