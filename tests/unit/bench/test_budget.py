"""The time for more than the fewest rounds, on a clock that only the tests move."""

from __future__ import annotations

import math

import pytest

from nccl_bench.bench.budget import Budget

AGES = 10**9


class FakeClock:
    """Seconds since an arbitrary start."""

    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def share(budget: Budget, clock: FakeClock) -> float:
    """Return the seconds that the next timing may take, and move the clock to their end."""
    budget.begin_timing()
    budget.begin_rounds()
    began = clock.now
    while not budget.used_up():
        clock.now += 1
    return clock.now - began


def test_every_timing_of_every_case_has_an_even_share(clock: FakeClock) -> None:
    budget = Budget(80, clock.now, clock)
    shares = []
    for left in (4, 2):
        budget.begin_case(AGES, timings=2, timings_left=left)
        shares += [share(budget, clock), share(budget, clock)]
    assert shares == [20, 20, 20, 20]


def test_time_that_a_timing_does_not_use_is_shared_by_all_that_follow(clock: FakeClock) -> None:
    budget = Budget(80, clock.now, clock)
    budget.begin_case(AGES, timings=2, timings_left=4)
    budget.begin_timing()
    clock.now += 5  # of 20
    assert share(budget, clock) == 25
    # The next case is skipped.
    budget.begin_case(AGES, timings=2, timings_left=2)
    budget.begin_case(AGES, timings=1, timings_left=1)
    assert share(budget, clock) == 50


def test_a_capture_takes_no_time_from_the_rounds_of_its_own_timing(clock: FakeClock) -> None:
    budget = Budget(80, clock.now, clock)
    budget.begin_case(AGES, timings=2, timings_left=4)
    budget.begin_timing()
    clock.now += 40  # graphs are captured
    budget.begin_rounds()
    began = clock.now
    while not budget.used_up():
        clock.now += 1
    assert clock.now - began == 10  # a quarter of the 40 seconds that are left for four timings
    assert share(budget, clock) == 10


def test_time_before_the_first_case_counts(clock: FakeClock) -> None:
    """Set-up takes time, and so does an earlier launch of the workers, which has the same start."""
    started = clock.now
    clock.now += 60
    budget = Budget(80, started, clock)
    budget.begin_case(AGES, timings=2, timings_left=2)
    assert share(budget, clock) == 10
    clock.now += 100
    assert share(budget, clock) == 0


def test_without_max_seconds_only_the_deadline_of_the_case_counts(clock: FakeClock) -> None:
    budget = Budget(math.inf, clock.now, clock)
    budget.begin_case(AGES, timings=1, timings_left=100)
    budget.begin_timing()
    budget.begin_rounds()
    clock.now += AGES / 3
    assert not budget.used_up()


@pytest.mark.parametrize("max_seconds", [math.inf, AGES])
def test_more_rounds_never_take_a_case_to_its_deadline(max_seconds: float, clock: FakeClock) -> None:
    """Otherwise a machine that is slower than estimated would seem to hang."""
    budget = Budget(max_seconds, clock.now, clock)
    for left in (6, 3):
        deadline = clock.now + 120
        budget.begin_case(120, timings=3, timings_left=left)
        shares = [share(budget, clock) for _ in range(3)]
        assert shares == [20, 25, 38]
        assert clock.now < deadline
