"""Random orders: the arms of a round, and the cases of a launch."""

from __future__ import annotations

from collections import Counter

from nccl_bench.catalog.timings import Timing
from nccl_bench.plan.shuffling import cases_of_launches, shuffled


def test_the_order_is_a_permutation_and_the_same_on_every_rank() -> None:
    arms = ["a", "b", "c", "d"]
    for number in range(20):
        order = shuffled(arms, 1, "case", Timing.GATED, number)
        assert sorted(order) == arms
        assert order == shuffled(tuple(arms), 1, "case", "gated", number)
    assert arms == ["a", "b", "c", "d"]


def test_the_order_of_a_seed_is_the_same_in_every_process_and_version() -> None:
    # Every rank computes the order, and the hash of a text differs from process to process.
    orders = ["".join(shuffled("abcd", 1, "case", Timing.GATED, number)) for number in range(5)]
    assert orders == ["acbd", "bcad", "dabc", "bdac", "dcab"]


def test_the_order_differs_between_rounds_timings_cases_and_seeds() -> None:
    arms = "abcdef"
    first = [shuffled(arms, 1, "case", Timing.GATED, number) for number in range(10)]
    assert len({tuple(order) for order in first}) > 7
    assert first != [shuffled(arms, 1, "case", Timing.EAGER, number) for number in range(10)]
    assert first != [shuffled(arms, 1, "other", Timing.GATED, number) for number in range(10)]
    assert first != [shuffled(arms, 2, "case", Timing.GATED, number) for number in range(10)]


def test_every_arm_has_every_place_about_equally_often() -> None:
    places = Counter(
        (arm, place)
        for number in range(400)
        for place, arm in enumerate(shuffled("abcd", 1, "case", Timing.GATED, number))
    )
    # 100 each on average, and 8.7 is one standard deviation.
    assert len(places) == 16
    assert 60 < min(places.values()) <= max(places.values()) < 140


def test_the_first_launch_has_the_order_of_the_plan_and_every_other_launch_its_own() -> None:
    orders = cases_of_launches(20, 4, seed=1)
    assert orders[0] == tuple(range(20))
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert len(set(orders)) == 4
    assert orders == cases_of_launches(20, 4, seed=1)
    assert orders[1] != cases_of_launches(20, 4, seed=2)[1]


def test_what_is_done_is_left_out_of_its_launch_and_the_order_stays() -> None:
    _, second = cases_of_launches(5, 2, seed=1)
    left = cases_of_launches(5, 2, 1, {(index, 1) for index in range(5)} | {(second[0], 2)})
    assert left == ((), second[1:])
