"""What the check has found, each in as few steps as show it."""

from learner_service.keys import BlockKey
from rag_service.read_your_writes import Verdict
from tests.model import steps
from tests.model.client import Client
from tests.model.learner import Learner, Saved
from tests.model.memory_store import new_tables
from tests.model.oracle import TrueState
from tests.model.rules import REAL
from tests.model.stream import ChunkBounds, SharingStream, Stream

A, B = BlockKey("", "a"), BlockKey("one", "b")
EPOCHS_KEPT_MAX = 3


def new_store(store_id: bytes = b"store") -> Saved:
    return Saved(new_tables(store_id, 1, lambda: 0, REAL), TrueState())


def process(saved: Saved, nonce: int) -> Learner:
    return Learner(
        saved, nonce=nonce, fingerprint="toy", wall_us=lambda: 0, epochs_kept_max=EPOCHS_KEPT_MAX, rules=REAL
    )


def call(client: Client, learner: Learner, kind: type[Stream] = Stream) -> Stream:
    bounds = ChunkBounds(scanned_rows_max=100, batch_bytes_max=100_000)
    client.stream = kind(learner, client.call(), bounds, REAL)
    return client.stream


def take_all(client: Client, stream: Stream) -> list[str]:
    """Lets a client take what is on its way, and says what that was."""
    taken = []
    while stream.on_its_way:
        taken.append(client.take(stream.on_its_way.popleft()))
    return taken


def follow(client: Client, learner: Learner, kind: type[Stream] = Stream) -> list[str]:
    """Lets a client follow a process to its next bookmark, and says what it was sent."""
    stream = call(client, learner, kind)
    taken, bookmark_count = [], client.bookmark_count
    while client.bookmark_count == bookmark_count:
        stream.end_read()
        taken += take_all(client, stream)
    return taken


def test_a_stream_of_other_namespaces_is_reset_also_where_a_chunk_is_shared() -> None:
    learner = process(new_store(), 2)
    learner.write([steps.put(A, "1"), steps.put(B, "2")])
    client = Client(REAL)
    follow(client, learner, SharingStream)
    # The bookmark of a quiet stream is shared from now on.
    follow(client, learner, SharingStream)
    client.namespaces = frozenset({"one"})
    assert "WATCH_RESET_REASON_FILTER_CHANGED" in follow(client, learner, SharingStream)


def test_a_change_older_than_every_remembered_epoch_is_not_lost_with_a_later_epoch() -> None:
    learner = process(new_store(), 2)
    learner.write([steps.put(A, "1")])
    backup, change = learner.saved, learner.truth.newest[A]
    for nonce in range(3, 4 + EPOCHS_KEPT_MAX):
        learner = process(learner.saved, nonce)
        learner.write([steps.put(B, "later")])
    token = learner.token_of(A)
    assert token is not None
    client = Client(REAL)
    follow(client, learner)
    restored = process(backup, 99)
    assert restored.truth.holds(change)
    take_all(client, call(client, restored))
    assert client.verdict(token) is not Verdict.LOST


def test_a_call_that_ended_before_its_first_batch_is_followed_by_one_to_another_store() -> None:
    client = Client(REAL)
    assert take_all(client, call(client, process(new_store(), 2))) == ["hello"]
    other = process(new_store(b"other store"), 3)
    other.write([steps.put(A, "1")])
    assert follow(client, other) == ["hello", "batch"]
