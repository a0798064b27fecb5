"""What a checkup knows: gathered from services, environment and disk before anything is judged."""

import importlib.metadata
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from errata.cli.asked import noted_problem, session_file
from errata.cli.checkup.variables import variable_problems
from errata.cli.connection import channel_to, learner_of, rag_of, told
from errata.cli.exit_codes import CommandError
from errata.cli.failures import Peer
from errata.cli.shared_options import Chosen
from errata.client.health import HealthCheckRequest, HealthStub, says_serving
from errata.v1.learner_pb2 import (
    NOT_LEARNED_REASON_ERROR,
    BlockState,
    GetStatusRequest,
    GetStatusResponse,
    ListBlocksRequest,
)
from errata.v1.rag_pb2 import GetIndexStatusRequest, GetIndexStatusResponse, SearchRequest, SearchResponse

_CATCH_UP_S: Final = 3.0
"""A RAG service asks for bookmarks every second: one that works has caught up by then."""
_POLL_S: Final = 0.25
_STORE_DIR_DEFAULT: Final = ".errata/store"

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A file system."""

    directory: Path
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that is judged; an error stands for an answer that did not come."""

    chosen: Chosen
    now: datetime
    """When the Learner had answered."""
    version: str
    """Of this program."""
    learner: GetStatusResponse | CommandError
    learner_serves: bool | CommandError
    newest_block: BlockState | None
    """The block that changed last; None where there is none or nobody to ask."""
    failed_block: BlockState | None
    """One that failed for good."""
    rag: GetIndexStatusResponse | CommandError
    rag_serves: bool | CommandError
    search: SearchResponse | CommandError
    """Of a question that has to be embedded."""
    variable_problems: tuple[str, ...]
    """What to tell of each."""
    store_disk: Disk | None
    """Where the store lies, if that is seen from here."""
    hook_problem: tuple[str, float] | None
    """Why the shell hook could not record, and when, in seconds since 1970."""


def gather(chosen: Chosen, environ: Mapping[str, str], now: Callable[[], datetime]) -> Facts:
    """Asks both services, and looks at the environment and the disk.

    Args:
        chosen: where the services are.
        environ: the variables.
        now: the wall clock.
    """
    learner = _asked(lambda: _learner_status(chosen))
    asked_at = now()
    is_up = not isinstance(learner, CommandError)
    rag = _asked(lambda: _rag_status(chosen, learner))
    session = session_file(environ)
    return Facts(
        chosen=chosen,
        now=asked_at,
        version=importlib.metadata.version("errata"),
        learner=learner,
        learner_serves=_asked(lambda: _serves(chosen, Peer.LEARNER)) if is_up else False,
        newest_block=_first_block(chosen, ListBlocksRequest(page_size=1)) if is_up else None,
        failed_block=_first_block(chosen, ListBlocksRequest(page_size=1, reasons=[NOT_LEARNED_REASON_ERROR]))
        if is_up
        else None,
        rag=rag,
        rag_serves=False if isinstance(rag, CommandError) else _asked(lambda: _serves(chosen, Peer.RAG)),
        search=rag if isinstance(rag, CommandError) else _asked(lambda: _search(chosen)),
        variable_problems=tuple(variable_problems(environ)),
        store_disk=_store_disk(environ) if chosen.learner.is_loopback else None,
        hook_problem=None if session is None else noted_problem(session),
    )


def _asked(ask: Callable[[], Answer]) -> Answer | CommandError:
    try:
        return ask()
    except CommandError as error:
        return error


def _learner_status(chosen: Chosen) -> GetStatusResponse:
    with learner_of(chosen) as learner:
        return learner.GetStatus(GetStatusRequest(), timeout=chosen.timeout_s)


def _rag_status(chosen: Chosen, learner: GetStatusResponse | CommandError) -> GetIndexStatusResponse:
    """Of the RAG service, once it has caught up with what the Learner said, or was given the time to."""
    deadline_s = time.monotonic() + _CATCH_UP_S
    with rag_of(chosen) as rag:
        while True:
            status = rag.GetIndexStatus(GetIndexStatusRequest(), timeout=chosen.timeout_s)
            behind = not isinstance(learner, CommandError) and status.applied_revision < learner.head_revision
            if not behind or time.monotonic() > deadline_s:
                return status
            time.sleep(_POLL_S)


def _first_block(chosen: Chosen, request: ListBlocksRequest) -> BlockState | None:
    """The first block of a list, of whatever page: one may be empty."""
    try:
        with learner_of(chosen) as learner:
            while True:
                page = learner.ListBlocks(request, timeout=chosen.timeout_s)
                if page.blocks or not page.next_page_token:
                    return page.blocks[0] if page.blocks else None
                request.page_token = page.next_page_token
    except CommandError:
        # What keeps the Learner from answering shows in its status.
        return None


def _search(chosen: Chosen) -> SearchResponse:
    request = SearchRequest(text="does the embedder work", limit=1)
    request.filter.namespaces.extend(chosen.namespaces)
    with rag_of(chosen) as rag:
        return rag.Search(request, timeout=chosen.timeout_s)


def _serves(chosen: Chosen, peer: Peer) -> bool:
    with channel_to(peer.address(chosen)) as channel, told(peer, chosen):
        return says_serving(HealthStub(channel).Check(HealthCheckRequest(), timeout=chosen.timeout_s))


def _store_disk(environ: Mapping[str, str]) -> Disk | None:
    directory = Path(environ.get("ERRATA_STORE_DIR") or _STORE_DIR_DEFAULT)
    try:
        usage = shutil.disk_usage(directory)
    except OSError:
        return None
    return Disk(directory=directory, free_bytes=usage.free, total_bytes=usage.total)
