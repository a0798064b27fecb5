"""A client of WatchUpdates that lives through everything, and checks each promise of the stream itself."""

import threading
from typing import Final, Self

import grpc

from errata import digest
from errata.v1.learner_pb2 import WatchBatch, WatchBookmark, WatchUpdatesRequest, WatchUpdatesResponse
from errata.v1.learner_pb2_grpc import LearnerServiceStub
from learner_service.keys import BlockKey
from tests.faults.recording import CHANNEL_OPTIONS

RETRY_DELAY_S: Final = 0.05


class FollowingThread:
    """Holds the revision of every example, resumes with its token, and compares itself at each bookmark."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="following")
        self._changed = threading.Condition()
        self._stream: grpc.Call | None = None
        self._token = b""
        self._revisions: dict[BlockKey, int] = {}
        self._last_revision = 0
        self.bookmark_revision = 0
        self.resumed_count = 0
        self.message_count = 0
        self.broken_promises: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        with self._changed:
            if self._stream is not None:
                self._stream.cancel()
        self._thread.join()

    @property
    def example_count(self) -> int:
        return len(self._revisions)

    def wait_for_message(self, message_count: int, seconds: float = 30.0) -> None:
        """Returns once so many messages were received."""
        with self._changed:
            reached = self._changed.wait_for(lambda: self.message_count >= message_count, seconds)
        assert reached, f"{self.message_count} messages, not {message_count}, after {seconds:g} s"

    def wait_for_bookmark(self, revision: int, seconds: float = 30.0) -> None:
        """Returns once everything up to a revision was received and compared."""
        with self._changed:
            reached = self._changed.wait_for(
                lambda: self.bookmark_revision >= revision or bool(self.broken_promises), seconds
            )
        assert reached, f"at {self.bookmark_revision}, not at {revision}, after {seconds:g} s"

    def _run(self) -> None:
        with grpc.insecure_channel(self._address, options=CHANNEL_OPTIONS) as channel:
            stub = LearnerServiceStub(channel)
            while not self._end.is_set():
                request = WatchUpdatesRequest(resume_token=self._token, watcher="follower")
                self.resumed_count += bool(self._token)
                with self._changed:
                    if self._end.is_set():
                        return
                    stream = self._stream = stub.WatchUpdates(request, wait_for_ready=True)
                try:
                    for message in stream:
                        self._take(message)
                except grpc.RpcError:
                    self._end.wait(RETRY_DELAY_S)

    def _take(self, message: WatchUpdatesResponse) -> None:
        with self._changed:
            self.message_count += 1
            match message.WhichOneof("message"):
                case "batch":
                    self._apply(message.batch)
                case "bookmark":
                    self._compare(message.bookmark)
                case "reset":
                    # No crash loses what was durable, and nothing else was ever announced.
                    self.broken_promises.append("a reset after a crash")
            self._changed.notify_all()

    def _apply(self, batch: WatchBatch) -> None:
        for update in batch.updates:
            if update.revision <= self._last_revision:
                self.broken_promises.append(f"{update.revision} came after {self._last_revision}")
            self._last_revision = update.revision
            if update.HasField("put"):
                self._revisions[BlockKey(update.put.namespace, update.put.id)] = update.revision
            else:
                self._revisions.pop(BlockKey(update.deleted.namespace, update.deleted.id), None)
        self._token = batch.token
        if batch.HasField("bookmark"):
            self._compare(batch.bookmark)

    def _compare(self, bookmark: WatchBookmark) -> None:
        self._token = bookmark.token
        self.bookmark_revision = bookmark.revision
        held = 0
        for key, revision in self._revisions.items():
            held = digest.add(held, digest.row_hash(key.encode(), revision))
        if (len(self._revisions), digest.encode(held)) != (bookmark.example_count, bookmark.digest):
            self.broken_promises.append(f"differs from the Learner at {bookmark.revision}")
