"""A store that is replaced by an older copy of itself makes every watcher start over, whenever it comes back.

Both stores hand out the same revisions for other changes: whoever went on with its token would hold a
mixture of two histories, and would never know.
"""

import asyncio
import copy
import random
import shutil
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from errata.v1.rag_pb2 import SearchRequest
from tests.faults.rig import CONVERGE_S_MAX, Rig, running_rig
from tests.faults.traffic import Written
from tests.faults.validator import Key

pytestmark = pytest.mark.slow

POLL_S = 0.05


async def back_up(rig: Rig, backup: Path, store_dir: Path) -> dict[Key, Written]:
    """Copies the store while nobody writes; returns what had been acknowledged by then."""
    await rig.rest()
    shutil.copytree(store_dir, backup)
    return copy.deepcopy(rig.acknowledged.blocks)


async def restore(rig: Rig, backup: Path, store_dir: Path, acknowledged: dict[Key, Written]) -> None:
    """Puts the copy in the place of the store; what was acknowledged after it is lost, and known to be."""
    await rig.learner.kill()
    shutil.rmtree(store_dir)
    shutil.copytree(backup, store_dir)
    rig.acknowledged.blocks = acknowledged
    await rig.learner.start()


async def until_head_is_above(rig: Rig, revision: int) -> None:
    async with asyncio.timeout(CONVERGE_S_MAX):
        while True:
            status = await rig.status()
            if status.head_revision > revision:
                return
            await asyncio.sleep(POLL_S)


def newest_token(rig: Rig) -> bytes:
    """A token of a write that the last acknowledged ones gave."""
    token = b""
    while not rig.acknowledged.tokens.empty():
        _, _, token = rig.acknowledged.tokens.get_nowait()
    return token


async def is_refused(rig: Rig, token: bytes) -> bool:
    """Whether a search waits for the token in vain, or is told at once that it never will be reached."""
    try:
        await rig.rag_stub.Search(SearchRequest(text="anything", min_token=token, max_wait=Duration(nanos=1)))
    except grpc.aio.AioRpcError as error:
        return error.code() is grpc.StatusCode.FAILED_PRECONDITION
    return False


@pytest.mark.parametrize("lost", ["in the epoch of the copy", "in a later epoch"])
@pytest.mark.parametrize("returning", ["before it writes past the old head", "after it has"])
async def test_an_older_copy_of_the_store_resets_every_watcher_and_all_converge(
    tmp_path: Path, returning: str, lost: str
) -> None:
    store_dir, backup = tmp_path / "store", tmp_path / "backup"
    async with running_rig(store_dir, random.Random(1), asking=False) as rig:
        rig.write()
        await rig.traffic()
        acknowledged = await back_up(rig, backup, store_dir)
        if lost == "in a later epoch":
            await rig.learner.kill()
            await rig.learner.start()
        rig.write()
        await rig.traffic()
        old_head = (await rig.rest()).head_revision
        lost_token = newest_token(rig)
        rig.release()
        for follower in rig.followers:
            await follower.until(lambda held: held.bookmark_revision >= old_head, CONVERGE_S_MAX)
        await rig.until_rag_is_at(old_head)

        for proxy in rig.proxies:
            proxy.refusing = returning == "after it has"
            proxy.cut()
        await restore(rig, backup, store_dir, acknowledged)
        rig.write()
        await until_head_is_above(rig, old_head + 20)
        for proxy in rig.proxies:
            proxy.refusing = False
        await rig.traffic()
        await rig.converge()
        for follower in rig.followers:
            assert follower.copy.resets == ["HISTORY_LOST"], follower.name
        assert "WATCH_RESET_REASON_HISTORY_LOST" in rig.rag.process.stderr
        assert lost_token
        assert await is_refused(rig, lost_token)
