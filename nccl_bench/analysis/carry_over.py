"""Carry-over: an arm that is faster or slower because of the arm that was measured right before it.

An arm can heat the caches for its successor, or cool them. The order of the arms is random in each round. So without
carry-over the times of an arm do not depend on its predecessor. This module tests that by ranks, with van Elteren's
test: a rank-sum test within each size and launch. It needs no normal distribution, and the random order makes it valid.

``python -m tests.experiments.carry_over`` shows how often this test is wrong, and which effects it finds.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from nccl_bench.analysis.indexes import starts_of
from nccl_bench.analysis.rank_sums import RankSums, rank_sums
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.limits import Limits
from nccl_bench.records.columns import common_codes
from nccl_bench.records.run import Run

# The allowed probability that a run without any carry-over has a finding.
ERROR = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class CarryOver:
    """An effect of one arm on the arm that was measured right after it."""

    arm: str  # the arm whose time depends on its predecessor
    predecessor: str  # the arm that was measured right before it
    timing: Timing  # the timing
    cases: tuple[Case, ...]  # the cases that show it, by size; they differ in nothing else
    effect: float  # the arm's time after the predecessor / its time after other arms, minus 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """The strata of an arm and its predecessor in one kind of case and one timing, as columns by size."""

    strata: NDArray[np.intp]  # the strata, as indexes of the columns of `RankSums`
    starts: NDArray[np.intp]  # the index in `strata` at which each size begins; a size has a stratum for each launch


def find_carry_over(run: Run, limits: Limits) -> list[CarryOver]:
    """Return the effects that the test finds and that are at least as large as the threshold, the largest first.

    An arm has at most one effect for each timing and kind of case. Without carry-over the probability of any effect is
    at most ``ERROR``. Records before schema 5 lack the order of arms, so nothing is found in them.
    """
    sums = rank_sums(run)
    pairs = list(_pairs(sums))
    windows = [_windows(len(pair.starts)) for pair in pairs]
    tests = sum(map(len, windows))
    # The distance, in standard deviations, that a test exceeds on either side with the probability ``ERROR / tests``.
    far = NormalDist().inv_cdf(1 - ERROR / tests / 2) if tests else math.inf
    # For each arm in a kind of case and a timing: the most certain effect.
    most_certain: dict[tuple[Case, Timing, str], tuple[tuple[float, float], CarryOver]] = {}
    for pair, of_pair, distances in zip(pairs, windows, _distances(sums, pairs), strict=True):
        for index in np.flatnonzero(distances >= far):
            carry_over = _carry_over(sums, pair, of_pair[index])
            cases, timing = carry_over.cases, carry_over.timing
            limit = min(limits.threshold(case.collective, timing, case.size_bytes) for case in cases)
            # With only two predecessors A and B, slower after A means faster after B. Then name A.
            certainty = (round(float(distances[index]), 9), carry_over.effect)
            key = (cases[0].kind, timing, carry_over.arm)
            known = most_certain.get(key)
            if abs(carry_over.effect) >= limit and (known is None or certainty > known[0]):
                most_certain[key] = (certainty, carry_over)
    return sorted((each for _, each in most_certain.values()), key=lambda each: -abs(each.effect))


def _pairs(sums: RankSums) -> Iterator[_Pair]:
    """Yield the strata of each arm and predecessor, in one kind of case and one timing."""
    samples = sums.samples
    kinds = common_codes(samples.kind, samples.timing, samples.arm)
    # The cases of one kind by size.
    by_size = np.argsort([case.size_bytes for case in samples.case.values], kind="stable")
    sizes = np.argsort(by_size)[samples.case.codes][sums.line]
    pairs = kinds[sums.line] * len(samples.arm.values) + sums.predecessor
    order = np.lexsort((sums.line, sizes, pairs))
    for strata in np.split(order, starts_of(pairs[order])[1:]):
        if len(strata):
            yield _Pair(strata=strata, starts=starts_of(sizes[strata]))


@lru_cache
def _windows(sizes: int) -> NDArray[np.intp]:
    """Return groups of neighbouring sizes: all single ones, all pairs, all fours and so on, up to all sizes together.

    Each row is a group: the position of its first size, and the position after its last. An effect can be limited to
    some sizes, such as those that fit into a cache, and one size alone has few rounds.
    """
    lengths = [2**power for power in range(sizes.bit_length() + 1) if 2**power < 2 * sizes]
    groups = [(first, min(first + length, sizes)) for length in lengths for first in range(0, sizes, length)]
    return np.array(groups, dtype=np.intp).reshape(-1, 2)


def _distances(sums: RankSums, pairs: Sequence[_Pair]) -> list[NDArray[np.float64]]:
    """Return, for each pair, how far the rank sum of each window is from its expectation, in standard deviations."""
    distances: dict[int, NDArray[np.float64]] = {}
    # Pairs with the same sizes and launches are the rows of a matrix.
    alike: dict[tuple[int, bytes], list[int]] = {}
    for index, pair in enumerate(pairs):
        alike.setdefault((len(pair.strata), pair.starts.tobytes()), []).append(index)
    for (count, _), indexes in alike.items():
        starts, strata = pairs[indexes[0]].starts, np.array([pairs[index].strata for index in indexes])
        first, last = np.append(starts, count)[_windows(len(starts)).T]
        surplus, variance = (
            np.pad(np.cumsum(column[strata], axis=1), ((0, 0), (1, 0))) for column in (sums.surplus, sums.variance)
        )
        total = variance[:, last] - variance[:, first]
        deviations = np.sqrt(total, out=np.ones_like(total), where=total > 0)
        distances |= zip(
            indexes, np.where(total > 0, np.abs(surplus[:, last] - surplus[:, first]) / deviations, 0.0), strict=True
        )
    return [distances[index] for index in range(len(pairs))]


def _carry_over(sums: RankSums, pair: _Pair, window: NDArray[np.intp]) -> CarryOver:
    """Return the effect in a window: the difference of the medians of the relative times."""
    ends = np.append(pair.starts, len(pair.strata))
    strata = pair.strata[ends[window[0]] : ends[window[1]]]
    predecessor, rows = sums.predecessor[strata[0]], sums.line[strata]
    values, predecessors = (np.concatenate(column) for column in zip(*map(sums.times, rows), strict=True))
    after, otherwise = (
        float(np.median(values[chosen]))
        for chosen in (predecessors == predecessor, (predecessors >= 0) & (predecessors != predecessor))
    )
    samples = sums.samples.take(rows)
    return CarryOver(
        arm=samples.arm[0],
        predecessor=samples.arm.values[predecessor],
        timing=samples.timing[0],
        cases=samples.case.distinct(),
        effect=math.expm1(after - otherwise),
    )
