"""Statistics on data with known truth: how often intervals and verdicts are wrong, and which effects they detect."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import accumulate
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import Generator

from nccl_bench.analysis.arm_pairs import compare_pairs
from nccl_bench.analysis.comparison import Basis, Comparison
from nccl_bench.analysis.paired_ratios import PairedColumns, PairedRatios
from nccl_bench.analysis.statistics import (
    FAMILYWISE_ERROR,
    Interval,
    Verdict,
    decisive_error,
    holm,
    interval,
    narrow_enough,
    pairs_needed,
    verdict_of,
)
from nccl_bench.config.limits import Limit, Limits
from nccl_bench.records.columns import ListColumn
from tests.support.chance import at_most
from tests.support.synthetic_comparisons import arm_pairs
from tests.support.synthetic_runs import case

FASTER, SLOWER, EQUIVALENT, INCONCLUSIVE = Verdict
# Noise around a median of 0, as logarithms, by its distribution.
NOISES: dict[str, Callable[[Generator, int], np.ndarray]] = {
    "normal": lambda rng, size: rng.normal(0, 0.005, size),
    "laplace": lambda rng, size: rng.laplace(0, 0.005, size),
    "heavy tail": lambda rng, size: 0.005 * np.expm1(rng.normal(0, 1.5, size)),
    "two levels": lambda rng, size: np.where(rng.random(size) < 0.5, -0.01, 0.01) + rng.normal(0, 1e-4, size),
    "bursts": lambda rng, size: rng.normal(0, 0.005, size) * np.where(rng.random(size) < 0.1, 50, 1),
    "ties": lambda rng, size: np.round(rng.normal(0, 0.005, size), 2),
}
THRESHOLD = 0.02
LIMITS = Limits(default=THRESHOLD)


def ratios(rng: Generator, truth: float, size: int, noise: str = "normal") -> list[float]:
    result: list[float] = (truth * np.exp(NOISES[noise](rng, size))).tolist()
    return result


def right(truth: float, threshold: float = THRESHOLD) -> Verdict:
    return FASTER if truth < 1 - threshold else SLOWER if truth > 1 + threshold else EQUIVALENT


def compare_ratios(paired: Sequence[Sequence[float]], limits: Limits) -> tuple[Comparison, ...]:
    """Compare by the paired ratios of rounds alone, without a noise floor; each comparison has a size of its own."""
    pairs = arm_pairs([case(size) for size in range(len(paired))], PairedColumns(ListColumn.of(paired, np.float64)))
    return compare_pairs(pairs, limits, Basis.ROUNDS)


def wrong_verdict(result: Comparison, truth: float) -> bool:
    return result.verdict not in (INCONCLUSIVE, right(truth, result.threshold))


def test_the_bound_of_these_tests_is_tight() -> None:
    assert at_most(50, 1000, 0.05)
    assert not at_most(90, 1000, 0.05)
    assert not at_most(1000, 1000, 0.05)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("error", [0.3, 0.05, 0.05 / 12])
def test_the_interval_covers_the_median_as_often_as_it_says(noise: str, error: float) -> None:
    rng = np.random.default_rng(1)
    tries = 1500
    for size in (pairs_needed(error), 20, 61):
        missed = 0
        for _ in range(tries):
            result = interval(ratios(rng, 1.0, size, noise), error)
            assert result is not None
            assert result.error <= error
            missed += not result.low <= 1.0 <= result.high
        assert at_most(missed, tries, result.error)


def test_the_interval_is_no_wider_than_it_has_to_be() -> None:
    # Without ties the error is exact, and that of the next narrower interval is above the level.
    rng = np.random.default_rng(2)
    for size, error in ((20, 0.05), (61, 0.05), (15, 0.01)):
        missed, tries = 0, 20_000
        for row in np.sort(rng.normal(size=(tries, size))).tolist():
            result = interval(row, error)
            assert result is not None
            missed += not result.low <= 0.0 <= result.high
        assert missed / tries == pytest.approx(result.error, rel=0.25)
        rank = row.index(result.low)
        assert result.high == row[-1 - rank]
        assert 2 * sum(comb(size, below) for below in range(rank + 2)) / 2**size > error


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20, 45, 100, 676, 677, 1500])
def test_the_error_of_an_interval_is_the_binomial_one(size: int) -> None:
    values = [float(number) for number in range(size)]
    ways = list(accumulate(comb(size, heads) for heads in range(size)))
    for error in (1.0, 0.5, 0.05, 0.001, 1e-9):
        ranks = [rank for rank in range((size + 1) // 2) if Fraction(2 * ways[rank], 2**size) <= Fraction(error)]
        result = interval(values, error)
        if ranks:
            assert result is not None
            assert (result.low, result.high) == (ranks[-1], size - 1 - ranks[-1])
            assert result.error == pytest.approx(float(Fraction(2 * ways[ranks[-1]], 2**size)), rel=1e-9)
        else:
            assert result is None


def test_many_thousands_of_rounds_have_an_interval() -> None:
    result = interval([float(number) for number in range(20_001)], 0.05)
    assert result is not None
    # 1.96 standard deviations of half the root of the number of rounds.
    assert result.low == pytest.approx(10_000 - 1.96 * math.sqrt(20_001) / 2, abs=1.5)


FAMILIES: dict[str, Callable[[int], float]] = {
    "no difference": lambda _: 1.0,
    "inside": lambda _: 1.015,
    "at the upper threshold": lambda _: 1 + THRESHOLD,
    "just beyond it": lambda _: math.nextafter(1 + THRESHOLD, 2),
    "at the lower threshold": lambda _: 1 - THRESHOLD,
    "just beyond that": lambda _: math.nextafter(1 - THRESHOLD, 0),
    "outside": lambda _: 1.03,
    "half clear and half at the threshold": lambda index: (1.2, 1 + THRESHOLD)[index % 2],
    "of every kind": lambda index: (0.7, 0.98, 0.9801, 1.0, 1.01, 1.02, 1.0201, 1.5)[index % 8],
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("count", "tries"), [(10, 200), (100, 75)])
def test_all_verdicts_together_are_wrong_as_rarely_as_one(family: str, count: int, tries: int) -> None:
    rng = np.random.default_rng(3)
    truths = [FAMILIES[family](index) for index in range(count)]
    # Holm's procedure allows any dependence: in half of the families all comparisons have the same noise.
    wrong = 0
    for number in range(tries):
        noise = NOISES["laplace"](rng, 25 * count).reshape(count, 25)
        if number % 2:
            noise[:] = noise[0]
        paired = (np.array(truths)[:, None] * np.exp(noise)).tolist()
        result = compare_ratios(paired, LIMITS)
        wrong += any(map(wrong_verdict, result, truths))
    assert at_most(wrong, tries, FAMILYWISE_ERROR)


@pytest.mark.parametrize("count", [10, 100])
def test_without_holm_there_would_be_false_alarms(count: int) -> None:
    """The test above would fail: the same family, with each comparison at the level of a single one."""
    rng = np.random.default_rng(4)
    tries = 100
    wrong = sum(
        any(
            verdict_of(interval(ratios(rng, 1 + THRESHOLD, 25), FAMILYWISE_ERROR), THRESHOLD) is SLOWER
            for _ in range(count)
        )
        for _ in range(tries)
    )
    assert not at_most(wrong, tries, FAMILYWISE_ERROR)


@pytest.mark.parametrize("noise", ["normal", "laplace", "bursts"])
@pytest.mark.parametrize(("truth", "verdict"), [(1.05, SLOWER), (0.95, FASTER), (1.0, EQUIVALENT)])
def test_twenty_rounds_detect_five_percent(noise: str, truth: float, verdict: Verdict) -> None:
    rng = np.random.default_rng(5)
    tries, count = 40, 28
    result = [
        each.verdict
        for _ in range(tries)
        for each in compare_ratios([ratios(rng, truth, 20, noise) for _ in range(count)], LIMITS)
    ]
    assert result.count(verdict) > 0.99 * len(result)
    assert set(result) <= {verdict, INCONCLUSIVE}


@pytest.mark.parametrize("truth", [0.99, 1.01])
def test_one_percent_is_not_called_a_difference(truth: float) -> None:
    rng = np.random.default_rng(6)
    for _ in range(60):
        for each in compare_ratios([ratios(rng, truth, 20) for _ in range(28)], LIMITS):
            assert each.verdict in (EQUIVALENT, INCONCLUSIVE)


def test_each_comparison_has_its_own_threshold() -> None:
    rng = np.random.default_rng(7)
    pairs = ratios(rng, 1.04, 30)
    thresholds = [0.01, 0.2, 0.04]
    bands = (Limit(threshold=each, least_bytes=size, most_bytes=size) for size, each in enumerate(thresholds))
    result = compare_ratios([pairs, pairs, pairs], Limits(default=0.5, bands=tuple(bands)))
    assert [each.verdict for each in result] == [SLOWER, EQUIVALENT, INCONCLUSIVE]
    assert [each.threshold for each in result] == thresholds


def reference_holm(least: list[float], error: float) -> list[float]:
    """Return the levels of the textbook: sort, compare with error / (m - k), stop at the first one above."""
    ordered = sorted(least)
    rejected = 0
    while rejected < len(ordered) and ordered[rejected] <= error / (len(ordered) - rejected):
        rejected += 1
    levels = [error / (len(ordered) - min(index, rejected)) for index in range(len(ordered)) if index <= rejected]
    levels += [levels[-1]] * (len(ordered) - len(levels))
    return levels


@given(st.lists(st.floats(0, 1) | st.sampled_from([0.05, 0.025, 0.05 / 3, 0.0]), max_size=12))
def test_levels_are_those_of_holm(least: list[float]) -> None:
    levels = holm(least, 0.05)
    assert sorted(zip(least, levels, strict=True)) == sorted(zip(sorted(least), sorted(levels), strict=True))
    assert sorted(levels) == (reference_holm(least, 0.05) if least else [])


def test_levels_of_a_known_family() -> None:
    assert holm([0.9, 0.001, 0.02, 0.01], 0.05) == pytest.approx([0.05, 0.0125, 0.025, 0.05 / 3])
    # The third step fails, so the fourth comparison gets the same level, although it is below 0.05.
    assert holm([0.04, 0.001, 0.03, 0.01], 0.05) == pytest.approx([0.025, 0.0125, 0.025, 0.05 / 3])


@given(
    st.lists(st.lists(st.floats(0.9, 1.1), min_size=1, max_size=30), min_size=1, max_size=6),
    st.sampled_from([0.01, 0.02, 0.05]),
)
def test_a_verdict_is_what_the_interval_at_its_level_says(paired: list[list[float]], threshold: float) -> None:
    result = compare_ratios(paired, Limits(default=threshold))
    levels = holm([PairedRatios(pairs).decisive_error(threshold) for pairs in paired], FAMILYWISE_ERROR)
    for each, pairs, level in zip(result, paired, levels, strict=True):
        at = interval(pairs, level)
        assert each.interval == at
        assert each.verdict is verdict_of(at, threshold)
        assert each.pairs_needed == (pairs_needed(level) if at is None else None)
        if at is not None:
            assert at.low <= each.ratio * (1 + 1e-12)
            assert each.ratio <= at.high * (1 + 1e-12)
    # Each verdict has the level of its step, and the rest share the last level.
    assert sorted(levels) == [
        FAMILYWISE_ERROR / (len(result) - min(index, sum(each.verdict is not INCONCLUSIVE for each in result)))
        for index in range(len(result))
    ]


@given(st.lists(st.floats(0.9, 1.1), min_size=1, max_size=40), st.sampled_from([0.01, 0.02, 0.05]))
def test_the_decisive_error_is_the_least_error_with_a_verdict(pairs: list[float], threshold: float) -> None:
    least = decisive_error(lambda error: interval(pairs, error), threshold)
    if least < 1:
        assert verdict_of(interval(pairs, least * 1.002), threshold) is not INCONCLUSIVE
        assert verdict_of(interval(pairs, least * 0.998), threshold) is INCONCLUSIVE
    else:
        assert verdict_of(interval(pairs, 0.999), threshold) is INCONCLUSIVE


@given(st.floats(1e-15, 1.0) | st.integers(0, 45).map(lambda power: 2.0**-power))
def test_one_pair_fewer_than_needed_has_no_interval(error: float) -> None:
    for level in (error, math.nextafter(error, 0), min(1.0, math.nextafter(error, 1))):
        needed = pairs_needed(level)
        assert interval([1.0] * needed, level) is not None
        assert needed == 1 or interval([1.0] * (needed - 1), level) is None


def test_too_few_pairs_are_inconclusive_however_clear() -> None:
    (comparison,) = compare_ratios([[3.0] * 5], LIMITS)
    assert (comparison.verdict, comparison.interval, comparison.pairs_needed) == (INCONCLUSIVE, None, 6)
    assert compare_ratios([[3.0] * 6], LIMITS)[0].verdict is SLOWER
    assert [each.pairs_needed for each in compare_ratios([[3.0] * 5] * 28, LIMITS)] == [11] * 28
    assert compare_ratios([], LIMITS) == ()


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.90, 0.979, FASTER),
        (0.90, 0.98, INCONCLUSIVE),
        (0.98, 1.02, EQUIVALENT),
        (0.979, 1.02, INCONCLUSIVE),
        (0.98, 1.021, INCONCLUSIVE),
        (1.02, 1.10, INCONCLUSIVE),
        (1.021, 1.10, SLOWER),
        (0.5, 2.0, INCONCLUSIVE),
    ],
)
def test_a_verdict_needs_the_whole_interval(low: float, high: float, verdict: Verdict) -> None:
    assert verdict_of(Interval(low=low, high=high, error=0.05), THRESHOLD) is verdict


def test_without_an_interval_nothing_is_known() -> None:
    assert verdict_of(None, THRESHOLD) is INCONCLUSIVE


POSITIVE = st.lists(st.floats(0.5, 2.0), min_size=1, max_size=60)


@given(POSITIVE, st.sampled_from([0.05, 0.01, 0.3]), st.sampled_from([0.25, 0.5, 2.0, 64.0]))
def test_a_change_of_scale_changes_the_interval_alike(pairs: list[float], error: float, factor: float) -> None:
    result, scaled = interval(pairs, error), interval([pair * factor for pair in pairs], error)
    assert (result is None) == (scaled is None)
    if result is not None and scaled is not None:
        assert (scaled.low, scaled.high, scaled.error) == (result.low * factor, result.high * factor, result.error)


@given(POSITIVE, st.sampled_from([0.05, 0.01, 0.3]))
def test_baseline_and_candidate_exchanged_mirror_ratio_and_interval(pairs: list[float], error: float) -> None:
    (comparison,) = compare_ratios([pairs], LIMITS)
    (mirrored,) = compare_ratios([[1 / pair for pair in pairs]], LIMITS)
    assert mirrored.ratio == pytest.approx(1 / comparison.ratio)
    at, mirror = interval(pairs, error), interval([1 / pair for pair in pairs], error)
    if at is not None and mirror is not None:
        assert (mirror.low, mirror.high) == (1 / at.high, 1 / at.low)


@given(st.lists(st.integers(-64, 64), min_size=1, max_size=40), st.permutations([0, 1, 2]))
def test_faster_and_slower_are_treated_alike(offsets: list[int], order: list[int]) -> None:
    """The ratios are mirrored around 1, in steps that floating point holds exactly, and compared in another order."""
    threshold = 8 / 1024
    families = [[1 + offset / 1024 for offset in offsets], [1.0] * 20, [1.5] * 20]
    mirrored = [[2 - pair for pair in pairs] for pairs in families]
    swapped = {FASTER: SLOWER, SLOWER: FASTER}
    result = compare_ratios(families, Limits(default=threshold))
    assert [swapped.get(each.verdict, each.verdict) for each in result] == [
        each.verdict for each in compare_ratios(mirrored, Limits(default=threshold))
    ]
    shuffled = compare_ratios([families[index] for index in order], Limits(default=threshold))
    # Comparisons that are equally sure share their levels in any order.
    assert [shuffled[order.index(index)].verdict for index in range(3)] == [each.verdict for each in result]


@given(st.lists(st.sampled_from([0.75, 0.9375, 1.0, 1.03125, 1.25]), min_size=1, max_size=60), st.integers(-6, 6))
def test_whether_more_rounds_are_needed_does_not_depend_on_the_verdict(pairs: list[float], power: int) -> None:
    for threshold in (0.02, 0.1, 0.6):
        enough = narrow_enough(pairs, 0.05, threshold)
        assert narrow_enough([pair * 2.0**power for pair in pairs], 0.05, threshold) is enough


@pytest.mark.parametrize(("spread", "enough"), [(0.0099, True), (0.0101, False)])
@pytest.mark.parametrize("centre", [0.5, 0.98, 1.0, 1.02, 3.0])
def test_an_interval_half_as_wide_as_the_threshold_is_enough(centre: float, spread: float, enough: bool) -> None:
    pairs = [centre / (1 + spread)] * 10 + [centre * (1 + spread)] * 10
    assert narrow_enough(pairs, 0.05, THRESHOLD) is enough
    assert not narrow_enough(pairs[8:13], 0.05, 0.9)
    assert narrow_enough(pairs[8:14], 0.05, 0.9)
