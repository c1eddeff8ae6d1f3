"""When there are rounds enough: on samples that nobody measured."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from nccl_bench.analysis.statistics import pairs_needed
from nccl_bench.bench.stopping import ATTEMPTS_PER_ROUND, ROUNDS_PER_BLOCK, Stopping

RULE = Stopping(baseline="old", fewest=9, most=60, threshold=0.02, error=0.05)
COMPARED = ("old", "new", "old:twin")
# An arm's time in one round, or `None` where its batch is discarded.
Times = Callable[[str, int], float | None]


def steady(_arm: str, _number: int) -> float:
    return 10.0


def noisy(*arms: str, seed: int = 1, spread: float = 0.5) -> Times:
    """Times of 10 us; those of ``arms`` are up to ``spread`` off."""

    def time_us(arm: str, number: int) -> float:
        if arm not in arms:
            return 10.0
        return 10.0 * (1 + random.Random(f"{seed}/{arm}/{number}").uniform(-spread, spread))

    return time_us


def blocks(rule: Stopping, times: Times, arms: tuple[str, ...] = COMPARED, *, in_time: bool = True) -> list[int]:
    """The rounds of each block until there are enough."""
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


def test_no_more_than_the_fewest_are_done_where_the_ratios_are_sure() -> None:
    assert blocks(RULE, steady) == [3, 3, 3]
    assert blocks(replace(RULE, fewest=10), steady) == [3, 3, 3, 1]


def test_noise_takes_all_that_may_be_done() -> None:
    assert blocks(RULE, noisy("new")) == [3] * 20
    assert sum(blocks(replace(RULE, most=50), noisy("new"))) == 50
    assert sum(blocks(replace(RULE, most=9), noisy("new"))) == 9


def test_a_little_noise_takes_a_few_more() -> None:
    times = noisy("new", spread=0.015)
    done = sum(blocks(RULE, times))
    assert RULE.fewest < done < RULE.most
    # What is of no interest need not be known as well; more interest, or more comparisons, take more.
    assert sum(blocks(replace(RULE, threshold=0.1), times)) == RULE.fewest
    assert sum(blocks(replace(RULE, threshold=0.002), times)) == RULE.most
    assert done < sum(blocks(replace(RULE, error=0.0005), times)) < RULE.most


@pytest.mark.parametrize("arm", ["new", "newer", "old:twin"])
def test_every_candidate_and_the_twin_have_to_be_sure(arm: str) -> None:
    assert sum(blocks(RULE, noisy(arm), ("old", "new", "newer", "old:twin"))) == RULE.most


@pytest.mark.parametrize("error", [0.05, 0.05 / 12, 0.05 / 336])
def test_there_are_as_many_pairs_as_the_level_needs(error: float) -> None:
    needed = pairs_needed(error)
    done = sum(blocks(replace(RULE, fewest=1, error=error), steady))
    assert needed <= done < needed + ROUNDS_PER_BLOCK


def scaled(times: Times, factor: float) -> Times:
    """The same with a candidate that takes ``factor`` as long."""

    def time_us(arm: str, number: int) -> float | None:
        found = times(arm, number)
        return found * factor if found and arm == "new" else found

    return time_us


def swapped(times: Times) -> Times:
    """The same with candidate and baseline exchanged."""
    return lambda arm, number: times({"old": "new", "new": "old"}[arm], number)


def test_what_the_ratios_say_makes_no_difference() -> None:
    """The candidate slower, much slower, faster or the same: with the same spread, as many rounds."""
    ends = set()
    for seed in range(40):
        times = noisy("new", "old", seed=seed, spread=0.02)
        done = sum(blocks(RULE, times, ("old", "new")))
        assert sum(blocks(RULE, swapped(times), ("old", "new"))) == done
        for factor in (0.5, 0.97, 1.0211, 3.0):
            assert sum(blocks(RULE, scaled(times, factor), ("old", "new"))) == done
        ends.add(done)
    # Not because it never stops, or stops at once.
    assert len(ends) > 4


@pytest.mark.parametrize("arms", [("old",), ("old", "old:twin"), ("new", "newer"), ("new", "old:twin")])
def test_where_nothing_is_compared_the_fewest_are_enough(arms: tuple[str, ...]) -> None:
    assert sum(blocks(RULE, noisy(*arms), arms)) == RULE.fewest


def test_without_time_the_fewest_are_done() -> None:
    assert sum(blocks(RULE, noisy("new"), in_time=False)) == RULE.fewest


def test_time_that_runs_out_ends_it_at_the_next_block() -> None:
    kept = {arm: {number: noisy("new")(arm, number) or 0.0 for number in range(12)} for arm in COMPARED}
    assert RULE.block(kept, 12, in_time=True) == ROUNDS_PER_BLOCK
    assert RULE.block(kept, 12, in_time=False) == 0


def test_only_batches_of_the_same_round_are_a_pair() -> None:
    """Every other round of each is discarded: of all their batches, few or none are of one round."""

    def apart(arm: str, number: int) -> float | None:
        return 10.0 if (number % 2 == 0) == (arm == "old") else None

    assert sum(blocks(RULE, apart, ("old", "new"))) == 2 * RULE.most

    def drifting(arm: str, number: int) -> float | None:
        """The machine slows down; both arms alike, and a round of each is missing."""
        return None if number == {"old": 2, "new": 4}[arm] else 10.0 * 1.1**number

    # Seven pairs in ten rounds.
    assert sum(blocks(RULE, drifting, ("old", "new"))) == 10


def test_discarded_batches_do_not_count_and_do_not_go_on_for_ever() -> None:
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
