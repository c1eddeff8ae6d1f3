"""The time that is left: from estimates at first, then from what was measured."""

from __future__ import annotations

import pytest

from nccl_bench.plan.time_left import Step, TimeLeft

SETUP = Step(least_s=10.0, most_s=10.0, is_setup=True)
CASES = [Step(least_s=1.0, most_s=4.0)] * 10


def test_at_the_start_the_time_left_is_the_estimate_and_goes_down_with_the_clock() -> None:
    left = TimeLeft([SETUP, *CASES])
    assert (left.left_s(0.0), left.left_s(4.0)) == (50.0, 46.0)
    # The set-up takes longer than expected.
    assert left.left_s(30.0) == 40.0
    assert (left.share_done(0.0), left.share_done(5.0), left.share_done(30.0)) == (0.0, 0.1, 0.2)


def test_what_was_measured_corrects_the_estimate() -> None:
    left = TimeLeft([SETUP, *CASES])
    left.update(1, 12.0)
    for number in range(1, 6):
        left.update(1 + number, 12.0 + 8.0 * number)
    # Five cases took 8 s each. The estimate of 4 s still counts as much as one of them.
    pace = (4.0 + 40.0) / (4.0 + 20.0)
    assert left.left_s(52.0) == pytest.approx(5 * 4.0 * pace)
    assert left.left_s(54.0) == pytest.approx(5 * 4.0 * pace - 2.0)
    left.update(11, 90.0)
    assert (left.left_s(90.0), left.share_done(90.0)) == (0.0, 1.0)


def test_max_seconds_bounds_the_time_left_unless_the_cases_need_more() -> None:
    bounded = TimeLeft([SETUP, *CASES], max_seconds=30.0)
    # Each case gets 2 s of the 20 s that the set-up leaves.
    assert bounded.left_s(0.0) == 30.0
    bounded.update(1, 10.0)
    bounded.update(2, 13.0)
    # At this pace the cases would take longer than the command may.
    assert bounded.left_s(13.0) == 17.0
    # At the end of the time, each of the cases still needs at least its smallest number of rounds.
    bounded.update(8, 30.0)
    assert bounded.left_s(30.0) > 0.0
    short = TimeLeft([SETUP, *CASES], max_seconds=1.0)
    assert short.left_s(0.0) == pytest.approx(10.0 + 10 * 1.0)


def test_what_short_cases_do_not_need_is_left_to_longer_ones() -> None:
    short, long = Step(least_s=0.5, most_s=1.0), Step(least_s=1.0, most_s=100.0)
    left = TimeLeft([short, long, short], max_seconds=20.0)
    left.update(1, 1.0)
    # The long case gets 18 of the 20 s.
    assert left.share_done(1.0) == pytest.approx(1 / 20)


def test_the_number_of_steps_that_are_done_never_goes_down() -> None:
    left = TimeLeft(CASES)
    left.update(4, 16.0)
    left.update(2, 17.0)
    assert left.share_done(17.0) == pytest.approx(17 / 40)


def test_the_time_left_of_thousands_of_cases_needs_few_looks_at_each() -> None:
    # The process that asks five times a second also watches the deadlines of ranks.
    looks = 0

    class Watched(Step):
        __slots__ = ()

        def __getattribute__(self, name: str) -> object:
            nonlocal looks
            looks += 1
            return super().__getattribute__(name)

    cases = [Watched(least_s=1.0, most_s=4.0) for _ in range(1000)]
    left = TimeLeft(cases, max_seconds=3000.0)
    looks = 0
    assert left.left_s(0.0) == pytest.approx(3000.0)
    assert looks < 10 * len(cases)
