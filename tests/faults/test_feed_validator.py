"""The validator sees each kind of broken promise; without that its silence would prove nothing."""

from collections.abc import Callable

import pytest

from errata import digest
from errata.v1 import learner_pb2 as pb
from tests.faults.validator import Copy, Ledger, ViolationError

STORE_ID = b"store"
Message = pb.WatchUpdatesResponse


def hello(head: int = 0, *, store_id: bytes = STORE_ID, starts: tuple[int, ...] = (0,)) -> Message:
    epochs = [pb.Epoch(nonce=7 + place, start_revision=start) for place, start in enumerate(starts)]
    return Message(hello=pb.WatchHello(store_id=store_id, head_revision=head, epochs=epochs))


def put(revision: int, example_id: str, contents: str = "ls", namespace: str = "") -> pb.ExampleUpdate:
    update = pb.ExampleUpdate(revision=revision)
    update.put.id, update.put.namespace = example_id, namespace
    update.put.answer.add(contents=contents)
    return update


def deleted(revision: int, example_id: str) -> pb.ExampleUpdate:
    update = pb.ExampleUpdate(revision=revision)
    update.deleted.id = example_id
    return update


def batch(*updates: pb.ExampleUpdate, token: bytes = b"t") -> Message:
    return Message(batch=pb.WatchBatch(updates=updates, token=token))


def bookmark(revision: int, rows: dict[str, int], token: bytes = b"t") -> Message:
    """An honest one for these rows of the default namespace."""
    total = 0
    for example_id, row_revision in rows.items():
        total = digest.add(total, digest.row_hash(b"\0" + example_id.encode(), row_revision))
    return Message(
        bookmark=pb.WatchBookmark(
            token=token, revision=revision, example_count=len(rows), digest=digest.encode(total)
        )
    )


def reset() -> Message:
    return Message(reset=pb.WatchReset(reason=pb.WATCH_RESET_REASON_HISTORY_LOST))


def draining(token: bytes = b"d") -> Message:
    return Message(draining=pb.WatchDraining(token=token))


def taken(*messages: Message, copy: Copy | None = None) -> Copy:
    """What a client holds after one stream."""
    copy = copy or Copy(Ledger())
    copy.begin_stream()
    for message in messages:
        copy.take(message)
    return copy


def test_an_honest_stream_passes_and_is_resumed_where_it_ended() -> None:
    copy = taken(
        hello(3),
        batch(put(1, "a"), put(2, "b"), deleted(3, "b"), token=b"t3"),
        bookmark(3, {"a": 1}, token=b"b3"),
        draining(b"d3"),
    )
    assert copy.resume_token == b"d3"
    taken(hello(4, starts=(0, 3)), batch(put(4, "a", "rm")), bookmark(4, {"a": 4}), copy=copy)
    assert {key: (row.revision, row.contents) for key, row in copy.rows.items()} == {("", "a"): (4, "rm")}
    assert (copy.update_count, copy.bookmark_count, copy.resets) == (4, 2, [])


def test_a_reset_drops_what_was_held_and_its_token() -> None:
    copy = taken(hello(2), batch(put(1, "a"), put(2, "b")), bookmark(2, {"a": 1, "b": 2}))
    taken(hello(1, starts=(0, 1)), reset(), copy=copy)
    assert (copy.rows, copy.resume_token) == ({}, b"")
    taken(
        hello(2, starts=(0, 1)),
        batch(put(1, "a"), put(2, "b", "other")),
        bookmark(2, {"a": 1, "b": 2}),
        copy=copy,
    )
    assert copy.resets == ["HISTORY_LOST"]


BROKEN: dict[str, Callable[[], object]] = {
    "no Hello": lambda: taken(batch(put(1, "a"))),
    "two Hellos": lambda: taken(hello(), hello()),
    "a message after Draining": lambda: taken(hello(), draining(), bookmark(0, {})),
    "an empty message": lambda: taken(hello(), Message()),
    "an empty batch": lambda: taken(hello(), batch()),
    "an update without a change": lambda: taken(hello(1), batch(pb.ExampleUpdate(revision=1))),
    "a change twice": lambda: taken(hello(1), batch(put(1, "a"), put(1, "a"))),
    "a change again in the next batch": lambda: taken(hello(1), batch(put(1, "a")), batch(put(1, "a"))),
    "a change again after a reconnect": lambda: taken(
        hello(1), batch(put(1, "a")), copy=taken(hello(1), batch(put(1, "a")))
    ),
    "changes out of order": lambda: taken(hello(2), batch(put(2, "a"), put(1, "b"))),
    "a change that is missing": lambda: taken(hello(2), batch(put(2, "b")), bookmark(2, {"a": 1, "b": 2})),
    "a deletion that is missing": lambda: taken(hello(2), batch(put(1, "a")), bookmark(2, {})),
    "an example at another revision": lambda: taken(hello(2), batch(put(2, "a")), bookmark(2, {"a": 1})),
    "a bookmark behind a change": lambda: taken(hello(2), batch(put(2, "a")), bookmark(1, {"a": 2})),
    "a bookmark behind another": lambda: taken(hello(2), bookmark(2, {}), bookmark(1, {})),
    "no token with a batch": lambda: taken(hello(1), batch(put(1, "a"), token=b"")),
    "no token with a bookmark": lambda: taken(hello(), bookmark(0, {}, token=b"")),
    "a bookmark with another token than its batch": lambda: taken(
        hello(1), Message(batch=pb.WatchBatch(
            updates=[put(1, "a")], token=b"1", bookmark=bookmark(1, {"a": 1}, token=b"2").bookmark
        ))
    ),
    "a Reset of a stream from nothing": lambda: taken(hello(), reset()),
    "no Reset for another store": lambda: taken(
        hello(store_id=b"other"), bookmark(0, {}), copy=taken(hello(), bookmark(0, {}))
    ),
    "no Reset after the head went back": lambda: taken(
        hello(1), bookmark(5, {}), copy=taken(hello(5), bookmark(5, {}))
    ),
    "an example that nobody asked for": lambda: taken(
        hello(1), batch(put(1, "a", namespace="other")), copy=Copy(Ledger(), ["team"])
    ),
    "epochs out of order": lambda: taken(hello(9, starts=(5, 3))),
    "an epoch that begins above the head": lambda: taken(hello(3, starts=(0, 4))),
    "no epochs": lambda: taken(hello(starts=())),
    "a change that no epoch gave": lambda: taken(hello(9, starts=(5,)), batch(put(5, "a"))),
}  # fmt: skip


@pytest.mark.parametrize("stream", BROKEN.values(), ids=list(BROKEN))
def test_a_broken_promise_is_seen(stream: Callable[[], object]) -> None:
    with pytest.raises(ViolationError):
        stream()


def test_a_revision_that_is_two_changes_is_seen_by_whoever_comes_second() -> None:
    ledger = Ledger()
    taken(hello(1), batch(put(1, "a", "ls")), copy=Copy(ledger))
    with pytest.raises(ViolationError):
        taken(hello(1), batch(put(1, "a", "rm")), copy=Copy(ledger))


def test_a_revision_may_be_another_change_in_another_epoch() -> None:
    ledger = Ledger()
    for starts in ((0, 1), (0, 1, 1)):
        taken(hello(2, starts=starts), batch(put(1, "a"), put(2, "b", f"{starts}")), copy=Copy(ledger))


def test_two_states_at_one_revision_are_seen_by_whoever_comes_second() -> None:
    ledger = Ledger()
    taken(hello(2), batch(put(1, "a")), bookmark(2, {"a": 1}), copy=Copy(ledger))
    with pytest.raises(ViolationError):
        taken(hello(2), bookmark(2, {}), copy=Copy(ledger))
