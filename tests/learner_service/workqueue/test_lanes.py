import pytest

from learner_service.workqueue.lanes import Lane, Lanes


def test_a_key_stands_in_one_lane_and_is_put_there_once() -> None:
    lanes: Lanes[str] = Lanes()
    for key, lane in [("a", Lane.LIVE), ("b", Lane.BACKFILL), ("a", Lane.BACKFILL), ("a", Lane.LIVE)]:
        lanes.put(key, lane)
    assert len(lanes) == 2
    assert [lanes.lane_of(key) for key in "abc"] == [Lane.LIVE, Lane.BACKFILL, None]
    assert [key in lanes for key in "abc"] == [True, True, False]


def test_a_key_keeps_its_place_unless_it_moves_up() -> None:
    lanes: Lanes[str] = Lanes()
    for key in "abc":
        lanes.put(key, Lane.BACKFILL)
    lanes.put("a", Lane.BACKFILL)
    lanes.put("c", Lane.LIVE)
    assert [lanes.take() for _ in range(3)] == [
        ("c", Lane.LIVE),
        ("a", Lane.BACKFILL),
        ("b", Lane.BACKFILL),
    ]


def test_a_key_that_is_removed_does_not_leave() -> None:
    lanes: Lanes[str] = Lanes()
    lanes.put("a", Lane.LIVE)
    lanes.put("b", Lane.BACKFILL)
    for key in ["a", "b", "unknown"]:
        lanes.remove(key)
    assert len(lanes) == 0
    with pytest.raises(KeyError):
        lanes.take()
