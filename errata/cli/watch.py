"""`errata watch`: changes of examples, as they happen."""

import base64
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
from errata.client.errors import Failure, UnavailableError, call_error
from errata.client.following import CaughtUp, Change, ExampleDeleted, ExamplePut, Following, StartOver
from errata.v1.example_pb2 import Example
from errata.v1.learner_pb2 import WatchUpdatesResponse
from errata.v1.learner_pb2_grpc import LearnerServiceStub

_HELP: Final = """Shows changes of examples as they happen, until Ctrl-C.

\b
Examples:
  errata watch
  errata watch --all --count 100
  errata watch --namespace team-a --json | jq -r 'select(.put) | .put.id'

Begins with what changes from now on; with --all, with everything there is; with --token, after a token that a
bookmark carried. Goes on by itself after the Learner was away, and misses nothing.

With --json, one line each: {"put": Example, "revision": N}, {"deleted": ExampleKey, "revision": N},
{"bookmark": {"token", "revision", "exampleCount"}}, which says that everything before it was shown, and
{"reset": reason}, after which everything comes again. Embeddings are left out."""


@click.command(cls=Command, help=_HELP)
@click.option("--all", "from_start", is_flag=True, help="Begin with everything there is.")
@click.option(
    "--token", metavar="TOKEN", callback=reads(read_token), help="Begin after the token of a bookmark."
)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after so many changes.")
@click.pass_obj
def watch(chosen: Chosen, token: bytes | None, count: int | None, *, from_start: bool) -> None:
    """See the help text."""
    following = Following(
        token=token or b"",
        namespaces=chosen.namespaces,
        watcher=f"errata-watch/{socket.gethostname()}/{os.getpid()}",
        # Spreads reconnects; nothing secret hangs on it.
        uniform=random.uniform,
    )
    showing = _Showing(as_json=chosen.as_json, from_start=from_start, passing_over=not (from_start or token))
    for _ in itertools.islice(_shown(chosen, following, showing), count):
        pass


def _shown(chosen: Chosen, following: Following, showing: "_Showing") -> Iterator[None]:
    """Shows what comes, over one stream after another, and stops after each change that it showed."""
    opened = False
    while True:
        failure = None
        try:
            with channel_to(chosen.learner) as channel:
                for message in LearnerServiceStub(channel).WatchUpdates(following.request()):
                    opened = True
                    showing.begins(message)
                    for change in following.changes(message):
                        if showing.shows(change):
                            yield
        except grpc.RpcError as error:
            failure = call_error(Failure.of(error, method="WatchUpdates", target=str(chosen.learner)))
            # One that was opened is opened again; that nobody answers at all is told at once.
            if not opened or not isinstance(failure, UnavailableError):
                raise command_error(error, Peer.LEARNER, chosen) from error
        pause_s = following.pause_s(failure)
        remark(f"the Learner is away; asking again in {pause_s:.1f} s")
        time.sleep(pause_s)


class _Showing:
    """What of a stream is shown, and how."""

    def __init__(self, *, as_json: bool, from_start: bool, passing_over: bool) -> None:
        self._as_json = as_json
        self._from_start = from_start
        # Until everything has come that was there before.
        self._passing_over = passing_over

    def begins(self, message: WatchUpdatesResponse) -> None:
        """Says how much there is to be passed over, when a stream begins."""
        if self._passing_over and message.hello.example_count:
            remark(f"passing over {message.hello.example_count:,} examples that are there already")

    def shows(self, change: Change) -> bool:
        """Shows one; returns whether it was a change of an example that was shown."""
        match change:
            case ExamplePut():
                if not self._passing_over:
                    self._show_put(change)
                return not self._passing_over
            case ExampleDeleted():
                if not self._passing_over:
                    self._show_deleted(change)
                return not self._passing_over
            case CaughtUp():
                if self._passing_over:
                    self._passing_over = False
                    remark("up to date; what changes from now on is shown")
                token = base64.b64encode(change.token).decode()
                self._line(
                    bookmark={
                        "token": token,
                        "revision": change.revision,
                        "exampleCount": change.example_count,
                    }
                )
            case StartOver():
                self._passing_over = not self._from_start
                self._line(reset=change.reason_name)
                why = change.reason_name.lower().replace("_", " ")
                remark(f"the Learner starts over ({why}): what changed meanwhile may be missing here")
        return False

    def _show_put(self, change: ExamplePut) -> None:
        example = Example()
        example.CopyFrom(change.example)
        example.ClearField("embedding")
        if self._as_json:
            self._line(put=to_json(example), revision=change.revision)
            return
        answer = " ; ".join(block.contents for block in example.answer)
        origin = origin_name(example.origin)
        line = f"{_now()} + {example.id} ({origin}): {example.query_text} → {answer}"
        print_verbatim(on_one_line(line), "green")

    def _show_deleted(self, change: ExampleDeleted) -> None:
        if self._as_json:
            self._line(deleted={"namespace": change.namespace, "id": change.id}, revision=change.revision)
        else:
            print_verbatim(f"{_now()} - {change.id}", "red")

    def _line(self, **members: Any) -> None:
        if self._as_json:
            print_json_line(members)


def _now() -> str:
    return local_now().strftime("%H:%M:%S")
