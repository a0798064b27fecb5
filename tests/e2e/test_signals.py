"""How a process ends that is asked to, whatever it is doing."""

import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from errata.v1.learner_pb2 import WatchUpdatesResponse
from errata.v1.rag_pb2 import SearchRequest, SearchResponse
from errata.v1.token_pb2 import StateToken
from learner_service.store.store import Store
from scripts.processes import Process, start
from tests.block_events import correction, ran
from tests.e2e.failures import code_of
from tests.e2e.services import Rag, check_no_bug, learner_on, metrics_of, services_on, until

pytestmark = pytest.mark.slow

END_S_MAX = 10.0
SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
CUT_OFF = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


@contextmanager
def ending(*processes: Process, number: signal.Signals = signal.SIGTERM) -> Iterator[None]:
    """Asks processes to end, and after the block checks that they have: with 0, in time, without a bug."""
    begin_s = time.monotonic()
    for process in processes:
        process.send_signal(number)
    yield
    for process in processes:
        assert process.wait() == 0
        check_no_bug(process)
    assert time.monotonic() - begin_s < END_S_MAX


@SIGNALS
def test_both_services_end_at_once_when_nobody_waits_and_watchers_can_resume(
    tmp_path: Path, number: signal.Signals
) -> None:
    store_dir = tmp_path / "store"
    with services_on(store_dir) as services:
        learner = services.learner
        learner.learn(*correction("b", "list files", "ls"))
        with learner.watch(seconds=60) as stream:
            assert next(stream).HasField("hello")
            assert next(stream).batch.bookmark.revision == 1
            begin_s = time.monotonic()
            with ending(learner.process, services.rag.process, number=number):
                *between, last = stream
            # Streams are no reason to use up the time that calls are given.
            assert time.monotonic() - begin_s < 5
    assert all(message.HasField("bookmark") for message in between)
    assert last.HasField("draining")
    with learner_on(store_dir) as learner, learner.watch(last.draining.token) as stream:
        assert next(stream).HasField("hello")
        nothing_missed = next(stream)
        assert nothing_missed.bookmark.revision == 1
        learner.learn(ran("b", "ls -l", at_s=50))
        assert updates_of(next(stream)) == ["ls -l"]


def updates_of(message: WatchUpdatesResponse) -> list[str]:
    return [update.put.answer[0].contents for update in message.batch.updates]


def test_a_search_that_waits_for_a_token_may_still_get_its_answer_but_holds_up_no_end(
    tmp_path: Path,
) -> None:
    metrics = ("--metrics-listen", "127.0.0.1:0")
    with services_on(tmp_path / "store", rag_flags=metrics) as services, ThreadPoolExecutor() as threads:
        learner, rag = services.learner, services.rag
        token = learner.learn(*correction("b", "list files", "ls"))
        assert rag.found("list files", min_token=token) == ["b"]
        # The next change, which comes while the service drains, and one that will never come.
        soon = threads.submit(wait_for, rag, token, revisions_ahead=1)
        never = threads.submit(wait_for, rag, token, revisions_ahead=1_000_000)
        until(lambda: metrics_of(rag.process)["errata_rag_waiting_calls"] == 2, "both wait")
        with ending(rag.process):
            rag.process.wait_for_stderr("asked to end")
            learner.learn(ran("b", "ls -l", at_s=50))
            assert [result.example.answer[0].contents for result in soon.result().results] == ["ls -l"]
            error = never.exception()
            assert error is not None
            assert code_of(error) in CUT_OFF


def wait_for(rag: Rag, token: bytes, *, revisions_ahead: int) -> SearchResponse:
    """Searches for a state that is so many changes newer than that of a token."""
    wanted = StateToken.FromString(token)
    wanted.revision += revisions_ahead
    request = SearchRequest(
        text="list files", min_token=wanted.SerializeToString(), max_wait=Duration(seconds=60)
    )
    return rag.stub.Search(request, timeout=60)


def test_what_waits_to_be_learned_at_the_end_is_learned_after_the_next_start(tmp_path: Path) -> None:
    store_dir = tmp_path / "store"
    count = 500
    events = [
        event
        for number in range(count)
        for event in correction(f"b{number}", f"question {number} " + "of many words " * 200, "ls")
    ]
    with learner_on(store_dir) as learner:
        recorded = learner.record(*events, wait_s=0)
        with ending(learner.process):
            pass
    assert recorded.changed_block_count == count
    # Else nothing waited when it ended.
    with Store.open(store_dir, clock_us=lambda: 0, bytes_max=1 << 30) as store, store.read() as transaction:
        assert transaction.queue_summary().queued_block_count > 0
        assert transaction.block_count == count
    with learner_on(store_dir) as learner:
        until(lambda: learner.status().queued_block_count == 0, "all is learned from")
        assert learner.status().example_count == count


def hears(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    (caught,) = re.findall(r"^SigCgt:\t(\w+)$", status, re.MULTILINE)
    return bool(int(caught, 16) >> (number - 1) & 1)


@SIGNALS
@pytest.mark.parametrize("module", ["learner_service", "rag_service"])
def test_a_process_that_still_starts_ends_when_it_is_asked_to(
    tmp_path: Path, module: str, number: signal.Signals
) -> None:
    flags = {
        "learner_service": ("--store-dir", str(tmp_path / "store"), "--embedder", "minilm"),
        "rag_service": ("--learner", "127.0.0.1:1"),
    }
    with start(module, *flags[module], until="running") as process:
        until(lambda: hears(process.pid, signal.SIGTERM), "it hears of signals")
        process.send_signal(number)
        assert process.wait(END_S_MAX) == 0
        assert "Traceback" not in process.stderr


def test_a_second_signal_forces_the_end(tmp_path: Path) -> None:
    metrics = ("--metrics-listen", "127.0.0.1:0")
    with services_on(tmp_path / "store", rag_flags=metrics) as services, ThreadPoolExecutor() as threads:
        rag = services.rag
        token = services.learner.learn(*correction("b", "list files", "ls"))
        never = threads.submit(wait_for, rag, token, revisions_ahead=1_000_000)
        until(lambda: metrics_of(rag.process)["errata_rag_waiting_calls"] == 1, "it waits")
        rag.process.send_signal(signal.SIGTERM)
        rag.process.wait_for_stderr("asked to end")
        rag.process.send_signal(signal.SIGTERM)
        assert rag.process.wait(3) == 128 + signal.SIGTERM
        assert never.exception() is not None
