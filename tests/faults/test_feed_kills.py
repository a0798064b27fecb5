"""Watchers keep what WatchUpdates promises while processes are killed and links break, at random."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.faults.rig import Rig, VoidRunError, running_rig

PAUSE_S_MAX = 0.3
LASTING_S_MAX = 8.0
LASTING_SHARE = 0.2


def disturb(rig: Rig, chance: random.Random) -> None:
    """Does something to each link that runs through a proxy, perhaps nothing."""
    for proxy in rig.proxies:
        proxy.heal()
        match chance.choice(("nothing", "cut", "delay", "black hole")):
            case "cut":
                proxy.cut()
            case "delay":
                proxy.delay_s = chance.uniform(0.0, 0.1)
            case "black hole":
                proxy.black_hole()


async def kill(rig: Rig, chance: random.Random) -> None:
    """Kills either side, or both, at some point of their lives or of their starts; starts them again."""
    victims = chance.choice(((rig.learner,), (rig.rag,), (rig.learner, rig.rag)))
    for victim in victims:
        await victim.kill()
    for victim in victims:
        if chance.random() < 0.2:
            await victim.start(until="running")
            await asyncio.sleep(chance.uniform(0.0, 1.0))
            await victim.kill()
        await victim.start(until="listening")


async def survive(store_dir: Path, *, kill_count: int, seed: int, snapshots: bool = False) -> Rig:
    """Kills and disturbs under traffic, then compares; fails when anything was lost, or came twice."""
    chance = random.Random(seed)
    async with running_rig(store_dir, chance, snapshots=snapshots) as rig:
        rig.write()
        while rig.kill_count < kill_count:
            await rig.traffic()
            # A life long enough for a snapshot, now and then.
            lasting = snapshots and chance.random() < LASTING_SHARE
            await asyncio.sleep(chance.uniform(0.0, LASTING_S_MAX if lasting else PAUSE_S_MAX))
            disturb(rig, chance)
            await kill(rig, chance)
        await rig.traffic()
        await rig.converge()
    return rig


@pytest.mark.slow
async def test_a_few_kills_cost_no_watcher_and_no_writer_anything(tmp_path: Path) -> None:
    rig = await survive(tmp_path / "store", kill_count=6, seed=1)
    assert rig.learner.kill_count > 0
    assert rig.rag.kill_count > 0
    assert rig.asker.answer_count > 0
    # A killed Learner is the same store in a new epoch: nobody has to start over.
    assert [follower.copy.resets for follower in rig.followers] == [[], [], [], []]


@pytest.mark.soak
@pytest.mark.parametrize("snapshots", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
async def test_two_hundred_kills_cost_no_watcher_and_no_writer_anything(
    tmp_path: Path, seed: int, *, snapshots: bool
) -> None:
    rig = await survive(tmp_path / "store", kill_count=50, seed=seed, snapshots=snapshots)
    assert rig.kill_count >= 50
    assert rig.asker.answer_count > 0
    assert [follower.copy.resets for follower in rig.followers] == [[], [], [], []]


@pytest.mark.slow
async def test_a_run_without_enough_traffic_before_a_fault_is_void(tmp_path: Path) -> None:
    async with running_rig(tmp_path / "store", random.Random(1)) as rig:
        with pytest.raises(VoidRunError):
            await rig.traffic(0.5)
