"""`errata watch`: changes of examples, as they happen."""

import itertools
import os
import random
import socket
import time
from collections.abc import Iterator
from typing import Any, Final

import click
import grpc

from errata.cli.connection import channel_to
from errata.cli.failures import Peer, command_error
from errata.cli.json_text import to_json
from errata.cli.learned import origin_name
from errata.cli.printing import on_one_line, print_json_line, print_verbatim, remark
from errata.cli.reading import read_token, reads
from errata.cli.shared_options import Chosen, Command
from errata.cli.times import local_now
from errata.v1.learner_pb2 import ExampleUpdate, WatchResetReason, WatchUpdatesRequest, WatchUpdatesResponse
from errata.v1.learner_pb2_grpc import LearnerServiceStub

_RECONNECT_S_FIRST: Final = 0.5
_RECONNECT_S_MAX: Final = 10.0
_COMES_BACK: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
"""What a stream that had worked ends with when the Learner goes away."""

_HELP: Final = """Shows changes of examples as they happen, until Ctrl-C.

\b
Examples:
  errata watch
  errata watch --all --count 100
  errata watch --namespace team-a --json | jq -r 'select(.put) | .put.id'

Begins with what changes from now on; with --all, with everything there is; with --token, after a token that a
bookmark carried. Goes on by itself after the Learner was away, and misses nothing.

With --json, one line each: {"hello": ...} when a stream opens, {"put": Example, "revision": N}, {"deleted":
ExampleKey, "revision": N}, {"bookmark": WatchBookmark}, which says that everything before it was shown, and
{"reset": ...}, after which everything comes again. Embeddings are left out."""


@click.command(cls=Command, help=_HELP)
@click.option("--all", "from_start", is_flag=True, help="Begin with everything there is.")
@click.option(
    "--token", metavar="TOKEN", callback=reads(read_token), help="Begin after the token of a bookmark."
)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after so many changes.")
@click.pass_obj
def watch(chosen: Chosen, token: bytes | None, count: int | None, *, from_start: bool) -> None:
    """See the help text."""
    watching = _Watching(chosen, resume_token=token or b"", from_start=from_start)
    for _ in itertools.islice(watching.shown(), count):
        pass


class _Watching:
    """A stream that is opened anew when it ends, after the last token."""

    def __init__(self, chosen: Chosen, *, resume_token: bytes, from_start: bool) -> None:
        self._chosen = chosen
        self._token = resume_token
        self._from_start = from_start
        # Until the first bookmark comes what was there before: that is not shown unless asked for.
        self._catching_up = not from_start and not resume_token
        self._delay_s = _RECONNECT_S_FIRST

    def shown(self) -> Iterator[None]:
        """Shows one change after another, and stops after each of them."""
        opened = False
        while True:
            try:
                with channel_to(self._chosen.learner) as channel:
                    for message in LearnerServiceStub(channel).WatchUpdates(self._request()):
                        opened = True
                        yield from self._show(message)
            except grpc.RpcError as error:
                # The stubs do not know that what is raised is the call itself.
                code: grpc.StatusCode = getattr(error, "code")()  # noqa: B009 - see above
                if not opened or code not in _COMES_BACK:
                    raise command_error(error, Peer.LEARNER, self._chosen) from error
            remark(f"the Learner is away; asking again in {self._delay_s:.1f} s")
            time.sleep(self._delay_s * random.uniform(0.5, 1))  # noqa: S311 - spreads reconnects, no secret
            self._delay_s = min(2 * self._delay_s, _RECONNECT_S_MAX)

    def _request(self) -> WatchUpdatesRequest:
        return WatchUpdatesRequest(
            resume_token=self._token,
            watcher=f"errata-watch/{socket.gethostname()}/{os.getpid()}",
            namespaces=self._chosen.namespaces,
        )

    def _show(self, message: WatchUpdatesResponse) -> Iterator[None]:
        match message.WhichOneof("message"):
            case "hello":
                self._delay_s = _RECONNECT_S_FIRST
                self._tell_json("hello", message.hello)
                if self._catching_up and message.hello.example_count:
                    remark(f"passing over {message.hello.example_count:,} examples that are there already")
            case "batch":
                if not self._catching_up:
                    for update in message.batch.updates:
                        _show_update(update, as_json=self._chosen.as_json)
                        yield
                self._token = message.batch.token
                if message.batch.HasField("bookmark"):
                    self._reached(message.batch.bookmark)
            case "bookmark":
                self._reached(message.bookmark)
            case "reset":
                self._token = b""
                self._catching_up = not self._from_start
                self._tell_json("reset", message.reset)
                reason = WatchResetReason.Name(message.reset.reason).removeprefix("WATCH_RESET_REASON_")
                remark(
                    f"the Learner starts over ({reason.lower()}): what changed meanwhile may be missing here"
                )
            case "draining":
                self._token = message.draining.token

    def _reached(self, bookmark: Any) -> None:
        self._token = bookmark.token
        if self._catching_up:
            self._catching_up = False
            remark("up to date; what changes from now on is shown")
        self._tell_json("bookmark", bookmark)

    def _tell_json(self, name: str, message: Any) -> None:
        if self._chosen.as_json:
            print_json_line({name: to_json(message)})


def _show_update(update: ExampleUpdate, *, as_json: bool) -> None:
    if update.HasField("put"):
        update.put.ClearField("embedding")
    if as_json:
        print_json_line(to_json(update))
        return
    now = local_now().strftime("%H:%M:%S")
    if update.HasField("deleted"):
        print_verbatim(f"{now} - {update.deleted.id}", "red")
        return
    example = update.put
    answer = on_one_line(" ; ".join(block.contents for block in example.answer))
    asked = on_one_line(example.query_text)
    print_verbatim(f"{now} + {example.id} ({origin_name(example.origin)})  {asked}  →  {answer}", "green")
