"""How a call ends that is under way when its client is closed, its task cancelled, or its process forked."""

import asyncio
import subprocess
import sys
import threading

import grpc
import pytest

from errata.client import AsyncErrata, ClosedError, Errata, OtherLoopError, Settings
from errata.v1.learner_pb2 import GetStatusResponse
from tests.errata.client.scripted_services import Fails, Hangs, ScriptedServices

FORKING = """
import os, sys
from errata.client import Errata, ForkedError

unused, used = Errata(sys.argv[1]), Errata(sys.argv[1])
assert used.learner_status().version == "7"
child = os.fork()
if not child:
    try:
        used.learner_status()
    except ForkedError:
        used.close()
        os._exit(0 if Errata(sys.argv[1]) and unused else 1)
    os._exit(2)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert used.learner_status().version == "7"
"""


def test_a_call_of_another_thread_ends_when_the_client_is_closed(services: ScriptedServices) -> None:
    hangs, raised = Hangs(), list[BaseException]()
    services.plays("Search", hangs)
    client = Errata(rag=services.address)

    def search() -> None:
        try:
            client.search("x", deadline_s=30)
        except ClosedError as error:
            raised.append(error)

    thread = threading.Thread(target=search)
    thread.start()
    assert hangs.begun.wait(10)
    client.close()
    thread.join(10)
    assert len(raised) == 1
    assert hangs.over.wait(10)


def test_a_pause_between_retries_ends_when_the_client_is_closed(services: ScriptedServices) -> None:
    services.plays("Search", Fails(grpc.StatusCode.UNAVAILABLE))
    client = Errata(rag=services.address, settings=Settings(deadline_s=600))
    timer = threading.Timer(0.3, client.close)
    timer.start()
    with pytest.raises(ClosedError):
        client.search("x")
    timer.join()


async def test_a_call_of_another_task_ends_when_the_client_is_closed(services: ScriptedServices) -> None:
    hangs = Hangs()
    services.plays("Search", hangs)
    client = AsyncErrata(rag=services.address)
    searching = asyncio.create_task(client.search("x", deadline_s=30))
    assert await asyncio.to_thread(hangs.begun.wait, 10)
    await client.close()
    with pytest.raises(ClosedError):
        await searching
    assert await asyncio.to_thread(hangs.over.wait, 10)


def test_a_client_belongs_to_the_event_loop_of_its_first_use(services: ScriptedServices) -> None:
    services.plays("GetStatus", GetStatusResponse(version="7"))
    client = AsyncErrata(services.address)

    async def version(*, last: bool) -> str:
        status = await client.learner_status()
        if last:
            await client.close()
        return status.version

    with asyncio.Runner() as first, asyncio.Runner() as second:
        assert first.run(version(last=False)) == "7"
        with pytest.raises(OtherLoopError):
            second.run(version(last=False))
        assert first.run(version(last=True)) == "7"


async def test_a_cancelled_task_cancels_its_call_and_stays_cancelled(services: ScriptedServices) -> None:
    hangs = Hangs()
    services.plays("Search", hangs)
    async with AsyncErrata(rag=services.address) as client:
        searching = asyncio.create_task(client.search("x", deadline_s=30))
        assert await asyncio.to_thread(hangs.begun.wait, 10)
        searching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await searching
        assert await asyncio.to_thread(hangs.over.wait, 10)


async def test_a_task_that_is_cancelled_while_its_client_is_closed_is_cancelled(
    services: ScriptedServices,
) -> None:
    hangs = Hangs()
    services.plays("Search", hangs)
    client = AsyncErrata(rag=services.address)
    searching = asyncio.create_task(client.search("x", deadline_s=30))
    assert await asyncio.to_thread(hangs.begun.wait, 10)
    searching.cancel()
    await client.close()
    with pytest.raises(asyncio.CancelledError):
        await searching


def test_a_client_that_was_used_before_a_fork_is_refused_after_it(services: ScriptedServices) -> None:
    services.plays("GetStatus", GetStatusResponse(version="7"))
    command = [sys.executable, "-W", "ignore", "-c", FORKING, services.address]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
