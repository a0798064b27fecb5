import math

import pytest

from learner_service.workqueue.backoff import ExponentialBackoff


def test_the_wait_doubles_with_each_failure_of_a_key() -> None:
    backoff: ExponentialBackoff[str] = ExponentialBackoff(delay_s_min=0.001, delay_s_max=1.0)
    assert [backoff.next_delay_s("one") for _ in range(5)] == [0.001, 0.002, 0.004, 0.008, 0.016]
    assert backoff.failure_count("one") == 5


def test_keys_fail_independently() -> None:
    backoff: ExponentialBackoff[str] = ExponentialBackoff(delay_s_min=0.001, delay_s_max=1.0)
    for _ in range(5):
        backoff.next_delay_s("one")
    assert [backoff.next_delay_s("two") for _ in range(2)] == [0.001, 0.002]
    assert (backoff.failure_count("one"), backoff.failure_count("two")) == (5, 2)


def test_a_forgotten_key_starts_over() -> None:
    backoff: ExponentialBackoff[str] = ExponentialBackoff(delay_s_min=0.001, delay_s_max=1.0)
    for _ in range(5):
        backoff.next_delay_s("one")
    backoff.forget("one")
    assert backoff.failure_count("one") == 0
    assert backoff.next_delay_s("one") == 0.001


def test_forgetting_a_key_that_never_failed_changes_nothing() -> None:
    backoff: ExponentialBackoff[str] = ExponentialBackoff(delay_s_min=0.001, delay_s_max=1.0)
    backoff.next_delay_s("one")
    backoff.forget("two")
    assert backoff.failure_count("one") == 1


def test_the_wait_is_capped() -> None:
    backoff: ExponentialBackoff[str] = ExponentialBackoff(delay_s_min=0.3, delay_s_max=1.0)
    assert [backoff.next_delay_s("one") for _ in range(4)] == [0.3, 0.6, 1.0, 1.0]


def test_a_key_that_fails_for_ever_never_waits_longer_than_the_cap() -> None:
    # Doubling 2,000 times leaves the range of a float.
    backoff: ExponentialBackoff[str] = ExponentialBackoff(delay_s_min=0.001, delay_s_max=3_600_000.0)
    delays_s = [backoff.next_delay_s("one") for _ in range(2000)]
    assert delays_s == sorted(delays_s)
    assert delays_s[-1] == 3_600_000.0
    assert backoff.delay_s(10**30) == 3_600_000.0


def test_asking_for_a_wait_counts_no_failure() -> None:
    backoff: ExponentialBackoff[str] = ExponentialBackoff(delay_s_min=0.001, delay_s_max=1.0)
    assert backoff.delay_s(3) == 0.008
    assert backoff.next_delay_s("one") == 0.001


@pytest.mark.parametrize(
    ("delay_s_min", "delay_s_max"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (1.0, math.inf), (math.nan, 1.0)]
)
def test_bounds_that_make_no_sense_are_refused(delay_s_min: float, delay_s_max: float) -> None:
    with pytest.raises(ValueError, match="delay_s_min"):
        ExponentialBackoff[str](delay_s_min=delay_s_min, delay_s_max=delay_s_max)
