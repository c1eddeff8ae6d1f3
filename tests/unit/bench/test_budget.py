"""The time that more than the fewest rounds may take, on a clock that only the tests move."""

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
    """How long the next timing may go on, to the second; the clock is behind that afterwards."""
    budget.begin_timing()
    began = clock.now
    while not budget.used_up():
        clock.now += 1
    return clock.now - began


def test_every_timing_of_every_case_has_an_even_share(clock: FakeClock) -> None:
    budget = Budget(80, clock.now, clock)
    shares = []
    for left in (4, 2):
        budget.begin_case(AGES, timings=2, left=left)
        shares += [share(budget, clock), share(budget, clock)]
    assert shares == [20, 20, 20, 20]


def test_what_a_timing_leaves_is_shared_by_all_that_follow(clock: FakeClock) -> None:
    budget = Budget(80, clock.now, clock)
    budget.begin_case(AGES, timings=2, left=4)
    budget.begin_timing()
    clock.now += 5  # of 20
    assert share(budget, clock) == 25
    # Of the next case nothing is measured.
    budget.begin_case(AGES, timings=2, left=2)
    budget.begin_case(AGES, timings=1, left=1)
    assert share(budget, clock) == 50


def test_what_others_took_is_gone(clock: FakeClock) -> None:
    """Set-up, or an earlier launch of the workers, which had the same start."""
    started = clock.now
    clock.now += 60
    budget = Budget(80, started, clock)
    budget.begin_case(AGES, timings=2, left=2)
    assert share(budget, clock) == 10
    clock.now += 100
    assert share(budget, clock) == 0


def test_without_a_limit_the_deadline_of_the_case_alone_counts(clock: FakeClock) -> None:
    budget = Budget(math.inf, clock.now, clock)
    budget.begin_case(AGES, timings=1, left=100)
    budget.begin_timing()
    clock.now += AGES / 3
    assert not budget.used_up()


@pytest.mark.parametrize("max_seconds", [math.inf, AGES])
def test_more_rounds_never_take_a_case_to_its_deadline(max_seconds: float, clock: FakeClock) -> None:
    """A machine that is slower than anybody estimated would be taken for one that hangs."""
    budget = Budget(max_seconds, clock.now, clock)
    for left in (6, 3):
        deadline = clock.now + 120
        budget.begin_case(120, timings=3, left=left)
        shares = [share(budget, clock) for _ in range(3)]
        assert shares == [20, 25, 38]
        assert clock.now < deadline
