"""Following the changes of examples, over streams that end in every way."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import Any

import grpc
import pytest

from errata.client import (
    AsyncErrata,
    CallError,
    CaughtUp,
    Change,
    ClosedError,
    EmbedderMismatchError,
    Errata,
    ExampleDeleted,
    ExamplePut,
    StartOver,
    TokenMalformedError,
    UnavailableError,
)
from errata.client.errors import Failure, call_error
from errata.client.following import PAUSE_S_MAX, Following
from errata.v1.example_pb2 import Example, ExampleKey
from errata.v1.learner_pb2 import (
    WATCH_RESET_REASON_STORE_CHANGED,
    ExampleUpdate,
    WatchBatch,
    WatchBookmark,
    WatchDraining,
    WatchHello,
    WatchReset,
    WatchUpdatesResponse,
)
from tests.errata.client.scripted_services import Fails, Hangs, MakesClient, ScriptedServices, Streams

HELLO = WatchUpdatesResponse(hello=WatchHello(store_id=b"s"))
GONE = Fails(grpc.StatusCode.UNAVAILABLE)


def put(revision: int) -> ExampleUpdate:
    return ExampleUpdate(revision=revision, put=Example(id=f"e{revision}"))


def deleted(revision: int) -> ExampleUpdate:
    return ExampleUpdate(revision=revision, deleted=ExampleKey(namespace="n", id=f"e{revision}"))


def batch(token: bytes, *updates: ExampleUpdate, bookmark: int = 0) -> WatchUpdatesResponse:
    made = WatchBatch(updates=updates, token=token)
    if bookmark:
        made.bookmark.CopyFrom(WatchBookmark(token=token, revision=bookmark, example_count=2))
    return WatchUpdatesResponse(batch=made)


def bookmark(token: bytes, revision: int) -> WatchUpdatesResponse:
    return WatchUpdatesResponse(bookmark=WatchBookmark(token=token, revision=revision))


def seen(changes: Iterator[Change], count: int) -> list[tuple[str, Any, bytes]]:
    """What comes next: its kind, what it is about, and its token."""
    return [
        (
            type(change).__name__,
            change.reason_name if isinstance(change, StartOver) else change.revision,
            change.token,
        )
        for change in islice(changes, count)
    ]


def asked(services: ScriptedServices) -> list[bytes]:
    return [request.resume_token for request in services.requests["WatchUpdates"]]


def test_changes_come_in_order_each_with_a_token_that_misses_nothing(
    services: ScriptedServices, client_of: MakesClient
) -> None:
    services.plays(
        "WatchUpdates",
        Streams(
            [HELLO, batch(b"t2", put(1), deleted(2)), batch(b"t4", put(4), bookmark=5), bookmark(b"t6", 6)],
            Hangs(),
        ),
    )
    with client_of(services.address, namespace="n") as client, closing(client.watch(b"t0")) as changes:
        first, second = islice(changes, 2)
        assert (first.example.id, first.token) == ("e1", b"t0")
        assert second == ExampleDeleted(namespace="n", id="e2", revision=2, token=b"t2")
        assert seen(changes, 3) == [("ExamplePut", 4, b"t4"), ("CaughtUp", 5, b"t4"), ("CaughtUp", 6, b"t6")]
    (request,) = services.requests["WatchUpdates"]
    assert (request.resume_token, request.watcher, request.namespaces) == (b"t0", "errata.client", ["n"])


def test_a_stream_that_ends_is_opened_again_where_it_ended(
    services: ScriptedServices, client_of: MakesClient
) -> None:
    services.plays(
        "WatchUpdates",
        Streams([HELLO, batch(b"t1", put(1))], GONE),
        Streams([HELLO], Fails(grpc.StatusCode.UNAVAILABLE, "REEMBEDDING")),
        Streams([HELLO, WatchUpdatesResponse(draining=WatchDraining(token=b"t2"))]),
        Streams([], Fails(grpc.StatusCode.CANCELLED)),
        Streams([HELLO, batch(b"t3", put(3))], Hangs()),
    )
    with client_of(services.address) as client, closing(client.watch(namespaces=[])) as changes:
        assert seen(changes, 2) == [("ExamplePut", 1, b"t1"), ("ExamplePut", 3, b"t3")]
    assert asked(services) == [b"", b"t1", b"t1", b"t2", b"t2"]
    assert services.requests["WatchUpdates"][0].namespaces == []


def test_a_reset_says_to_start_over_and_drops_the_token_too(
    services: ScriptedServices, client_of: MakesClient
) -> None:
    reset = WatchUpdatesResponse(reset=WatchReset(reason=WATCH_RESET_REASON_STORE_CHANGED))
    services.plays(
        "WatchUpdates", Streams([HELLO, reset], GONE), Streams([HELLO, batch(b"n2", put(1), put(2))], Hangs())
    )
    with client_of(services.address) as client, closing(client.watch(b"old")) as changes:
        assert seen(changes, 3) == [
            ("StartOver", "STORE_CHANGED", b""),
            ("ExamplePut", 1, b""),
            ("ExamplePut", 2, b"n2"),
        ]
    assert asked(services) == [b"old", b""]


def test_a_refusal_is_raised(services: ScriptedServices, client_of: MakesClient) -> None:
    services.plays(
        "WatchUpdates",
        Streams([], Fails(grpc.StatusCode.INVALID_ARGUMENT, "TOKEN_MALFORMED")),
        Streams([], Fails(grpc.StatusCode.FAILED_PRECONDITION, "EMBEDDER_MISMATCH")),
    )
    with client_of(services.address) as client:
        with pytest.raises(TokenMalformedError):
            next(client.watch(b"x"))
        with pytest.raises(EmbedderMismatchError):
            next(client.watch())
    assert len(asked(services)) == 2


def test_whoever_stops_watching_ends_the_stream(services: ScriptedServices, client_of: MakesClient) -> None:
    hangs = Hangs()
    services.plays("WatchUpdates", Streams([HELLO, batch(b"t1", put(1))], hangs))
    with client_of(services.address) as client:
        changes = client.watch()
        assert seen(changes, 1) == [("ExamplePut", 1, b"t1")]
        assert hangs.begun.wait(10)
        changes.close()
        assert hangs.over.wait(10)


def test_closing_the_client_ends_its_watchers(services: ScriptedServices) -> None:
    services.plays("WatchUpdates", Streams([HELLO, batch(b"t1", put(1))], Hangs()))
    client = Errata(services.address)
    changes = client.watch()
    assert seen(changes, 1) == [("ExamplePut", 1, b"t1")]
    client.close()
    with pytest.raises(ClosedError):
        next(changes)


async def test_closing_the_client_ends_the_watchers_of_its_tasks(services: ScriptedServices) -> None:
    hangs = Hangs()
    services.plays("WatchUpdates", Streams([HELLO, batch(b"t1", put(1))], hangs))
    client = AsyncErrata(services.address)
    changes = client.watch()
    assert isinstance(await anext(changes), ExamplePut)
    waiting = asyncio.ensure_future(anext(changes))
    assert await asyncio.to_thread(hangs.begun.wait, 10)
    await client.close()
    with pytest.raises(ClosedError):
        await waiting


def test_one_string_is_no_list_of_namespaces(client_of: MakesClient) -> None:
    with client_of("127.0.0.1:1") as client, pytest.raises(ValueError, match="namespaces"):
        next(client.watch(namespaces="team"))


def test_pauses_grow_while_nothing_comes_and_start_anew_when_something_does() -> None:
    following = Following(token=b"", namespaces=(), watcher="w", uniform=lambda _, longest_s: longest_s)
    away = error(grpc.StatusCode.UNAVAILABLE)
    assert isinstance(away, UnavailableError)
    pauses_s = [following.pause_s(away) for _ in range(100)]
    assert pauses_s[:4] == [0.1, 0.2, 0.4, 0.8]
    assert set(pauses_s[10:]) == {PAUSE_S_MAX}
    assert list(following.changes(HELLO)) == []
    assert following.pause_s(None) == PAUSE_S_MAX
    assert [type(change) for change in following.changes(bookmark(b"t", 1))] == [CaughtUp]
    assert following.pause_s(None) == 0.1
    refused = error(grpc.StatusCode.UNIMPLEMENTED)
    with pytest.raises(CallError) as raised:
        following.pause_s(refused)
    assert raised.value is refused


def error(code: grpc.StatusCode) -> CallError:
    return call_error(Failure(method="WatchUpdates", target="", code=code, message=""))
