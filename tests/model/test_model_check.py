"""The change feed and read-your-writes keep their promises in any world, and the check can tell.

A world that fails is made again by its seed: `World(seed).run()`.
"""

from collections import Counter
from typing import Final

import pytest

from errata.v1.learner_pb2 import WatchResetReason
from rag_service.read_your_writes import Verdict
from tests.model.mutants import MUTANTS
from tests.model.promises import BrokenPromiseError
from tests.model.rules import REAL, Rules
from tests.model.world import World

pytestmark = pytest.mark.slow

WORLD_COUNT: Final = 2_000
WORLDS_A_TEST: Final = 500
SHARING_WORLD_COUNT: Final = 300


def run_world(seed: int, rules: Rules = REAL, *, shares_chunks: bool = False) -> Counter[str]:
    world = World(seed, rules, shares_chunks=shares_chunks)
    try:
        world.run()
    except Exception as error:
        error.add_note(f"seed {seed}, shares_chunks={shares_chunks}")
        raise
    return world.seen


def breaks_a_promise(seed: int, rules: Rules) -> bool:
    try:
        World(seed, rules).run()
    except BrokenPromiseError:
        return True
    return False


@pytest.mark.parametrize("first_seed", range(0, WORLD_COUNT, WORLDS_A_TEST))
def test_every_promise_is_kept_in_random_worlds(first_seed: int) -> None:
    for seed in range(first_seed, first_seed + WORLDS_A_TEST):
        run_world(seed)


def test_every_promise_is_kept_where_streams_share_their_chunks() -> None:
    for seed in range(SHARING_WORLD_COUNT):
        run_world(seed, shares_chunks=True)


def test_everything_that_can_happen_does_in_some_world() -> None:
    seen: Counter[str] = Counter()
    for seed in range(200):
        seen += run_world(seed)
    wanted = {"hello", "batch", "bookmark", "draining", "superseded", "resurrection", "snapshot"}
    wanted |= {verdict.name for verdict in Verdict}
    wanted |= set(WatchResetReason.keys()) - {"WATCH_RESET_REASON_UNSPECIFIED"}
    assert wanted <= seen.keys()


@pytest.mark.parametrize("fault", MUTANTS)
def test_the_check_catches(fault: str) -> None:
    # In these worlds the real rules break no promise: what is caught is the fault alone.
    assert any(breaks_a_promise(seed, MUTANTS[fault]) for seed in range(WORLD_COUNT))
