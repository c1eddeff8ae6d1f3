"""The rule for the number of rounds, on made-up samples."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from nccl_bench.analysis.statistics import pairs_needed
from nccl_bench.bench.stopping import ATTEMPTS_PER_ROUND, ROUNDS_PER_BLOCK, Stopping

RULE = Stopping(baseline="old", fewest=9, fewest_late=9, most=60, threshold=0.02, error=0.05)
COMPARED = ("old", "new", "old:twin")
# An arm's time in one round, or `None` where its batch is discarded.
Times = Callable[[str, int], float | None]


def steady(_arm: str, _number: int) -> float:
    return 10.0


def noisy(*arms: str, seed: int = 1, spread: float = 0.5) -> Times:
    """Return times of 10 us; the times of ``arms`` vary by up to ``spread``."""

    def time_us(arm: str, number: int) -> float:
        if arm not in arms:
            return 10.0
        return 10.0 * (1 + random.Random(f"{seed}/{arm}/{number}").uniform(-spread, spread))

    return time_us


def blocks(rule: Stopping, times: Times, arms: tuple[str, ...] = COMPARED, *, in_time: bool = True) -> list[int]:
    """Return the number of rounds in each block, until there are enough."""
    kept: dict[str, dict[int, float]] = {arm: {} for arm in arms}
    done: list[int] = []
    while block := rule.block(kept, sum(done), in_time=in_time):
        for number in range(sum(done), sum(done) + block):
            for arm in arms:
                time_us = times(arm, number)
                if time_us is not None:
                    kept[arm][number] = time_us
        done.append(block)
    return done


def test_precise_ratios_end_the_rounds_at_the_fewest() -> None:
    assert blocks(RULE, steady) == [3, 3, 3]
    assert blocks(replace(RULE, fewest=10), steady) == [3, 3, 3, 1]


def test_a_case_whose_time_is_up_gets_the_fewest_late_rounds() -> None:
    rule = replace(RULE, fewest_late=2)
    assert blocks(rule, noisy("new"), in_time=False) == [2]
    # The other rounds are not lost: in time, the rule is the same.
    assert blocks(rule, steady) == [3, 3, 3]


def test_noise_takes_the_most_rounds() -> None:
    assert blocks(RULE, noisy("new")) == [3] * 20
    assert sum(blocks(replace(RULE, most=50), noisy("new"))) == 50
    assert sum(blocks(replace(RULE, most=9), noisy("new"))) == 9


def test_a_little_noise_takes_a_few_more_rounds() -> None:
    times = noisy("new", spread=0.015)
    done = sum(blocks(RULE, times))
    assert RULE.fewest < done < RULE.most
    # A larger threshold needs less precision; a smaller threshold, or more comparisons, need more.
    assert sum(blocks(replace(RULE, threshold=0.1), times)) == RULE.fewest
    assert sum(blocks(replace(RULE, threshold=0.002), times)) == RULE.most
    assert done < sum(blocks(replace(RULE, error=0.0005), times)) < RULE.most


@pytest.mark.parametrize("arm", ["new", "newer", "old:twin"])
def test_every_candidate_and_the_twin_must_be_precise(arm: str) -> None:
    assert sum(blocks(RULE, noisy(arm), ("old", "new", "newer", "old:twin"))) == RULE.most


@pytest.mark.parametrize("error", [0.05, 0.05 / 12, 0.05 / 336])
def test_the_error_level_decides_on_the_fewest_pairs(error: float) -> None:
    needed = pairs_needed(error)
    done = sum(blocks(replace(RULE, fewest=1, error=error), steady))
    assert needed <= done < needed + ROUNDS_PER_BLOCK


def scaled(times: Times, factor: float) -> Times:
    """Return ``times`` with the candidate's multiplied by ``factor``."""

    def time_us(arm: str, number: int) -> float | None:
        original = times(arm, number)
        return original * factor if original and arm == "new" else original

    return time_us


def swapped(times: Times) -> Times:
    """Return ``times`` with candidate and baseline exchanged."""
    return lambda arm, number: times({"old": "new", "new": "old"}[arm], number)


def test_the_values_of_the_ratios_make_no_difference() -> None:
    ends = set()
    for seed in range(40):
        times = noisy("new", "old", seed=seed, spread=0.02)
        done = sum(blocks(RULE, times, ("old", "new")))
        assert sum(blocks(RULE, swapped(times), ("old", "new"))) == done
        for factor in (0.5, 0.97, 1.0211, 3.0):
            assert sum(blocks(RULE, scaled(times, factor), ("old", "new"))) == done
        ends.add(done)
    # The rule neither always stops at once nor always goes on.
    assert len(ends) > 4


@pytest.mark.parametrize("arms", [("old",), ("old", "old:twin"), ("new", "newer"), ("new", "old:twin")])
def test_without_a_comparison_the_fewest_rounds_are_done(arms: tuple[str, ...]) -> None:
    assert sum(blocks(RULE, noisy(*arms), arms)) == RULE.fewest


def test_without_time_the_fewest_rounds_are_done() -> None:
    assert sum(blocks(RULE, noisy("new"), in_time=False)) == RULE.fewest


def test_rounds_end_with_the_block_in_which_the_time_runs_out() -> None:
    kept = {arm: {number: noisy("new")(arm, number) or 0.0 for number in range(12)} for arm in COMPARED}
    assert RULE.block(kept, 12, in_time=True) == ROUNDS_PER_BLOCK
    assert RULE.block(kept, 12, in_time=False) == 0


def test_only_batches_of_the_same_round_are_a_pair() -> None:
    def never_in_one_round(arm: str, number: int) -> float | None:
        return 10.0 if (number % 2 == 0) == (arm == "old") else None

    assert sum(blocks(RULE, never_in_one_round, ("old", "new"))) == 2 * RULE.most

    def drifting(arm: str, number: int) -> float | None:
        """Return the times of a machine that slows down; a round of each arm is missing."""
        return None if number == {"old": 2, "new": 4}[arm] else 10.0 * 1.1**number

    # Seven pairs in ten rounds.
    assert sum(blocks(RULE, drifting, ("old", "new"))) == 10


def test_discarded_batches_do_not_count_and_are_not_repeated_for_ever() -> None:
    def never(arm: str, _number: int) -> float | None:
        return None if arm == "new" else 10.0

    def every_other(arm: str, number: int) -> float | None:
        return None if arm == "new" and number % 2 else noisy("old")(arm, number)

    def every_fifth(arm: str, number: int) -> float | None:
        return noisy("old")(arm, number) if number % 5 == 0 else None

    for fewest, most in ((1, 1), (2, 4), (4, 7), (9, 60)):
        rule = replace(RULE, fewest=fewest, most=most)
        assert sum(blocks(rule, never)) == ATTEMPTS_PER_ROUND * fewest
        assert sum(blocks(rule, every_other)) in (2 * most, 2 * most - 1)
        assert sum(blocks(rule, every_fifth)) <= ATTEMPTS_PER_ROUND * most
