"""Carry-over: an arm that is faster or slower because of the arm that was measured right before it.

An arm can heat the caches for its successor, or cool them. The order of the arms is random in each round. So without
carry-over the times of an arm do not depend on its predecessor. This module tests that by ranks, with van Elteren's
test: a rank-sum test within each size and launch. It needs no normal distribution, and the random order makes it valid.

``python -m tests.experiments.carry_over`` shows how often a finding is wrong, and what is found.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from scipy.special import ndtr

from nccl_bench.analysis.comparable import Point, without_size
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.limits import Limits
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Samples

# The allowed probability that a run without any carry-over has a finding.
ERROR = 0.01
# A time is taken relative to this many of the arm's times before it and as many after it, because the machine drifts.
_NEIGHBOURS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CarryOver:
    """An effect of one arm on the arm that was measured right after it."""

    arm: str  # the arm whose time depends on its predecessor
    predecessor: str  # the arm that was measured right before it
    timing: Timing  # the timing
    cases: tuple[Case, ...]  # the cases that show it, by size; they differ in nothing else
    effect: float  # the arm's time after the predecessor / its time after other arms, minus 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stratum:
    """The times of one arm in one case, timing and launch, as logarithms relative to the rounds around."""

    after: Sequence[float]  # right after the predecessor in question
    otherwise: Sequence[float]  # right after any other arm

    def rank_sum(self) -> tuple[float, float]:
        """Return how far the rank sum of ``after`` is from its expectation, and its variance; both are weighted."""
        ordered = sorted((*self.after, *self.otherwise))
        count, ours = len(ordered), len(self.after)
        spans = {value: (bisect_left(ordered, value), bisect_right(ordered, value)) for value in ordered}
        surplus = sum(sum(spans[value]) + 1 - (count + 1) for value in self.after) / 2
        ties = sum((last - first) ** 3 - (last - first) for first, last in spans.values()) / (count * (count - 1))
        variance = ours * (count - ours) / 12 * (count + 1 - ties)
        # Without this weight, a size with many rounds would outweigh all others.
        return surplus / (count + 1), variance / (count + 1) ** 2


# An arm and its predecessor, in one kind of case and one timing.
_Pair = tuple[Point, str, str]


def find_carry_over(run: Run, limits: Limits) -> list[CarryOver]:
    """Return the effects that the test finds and that are at least as large as the threshold, the largest first.

    An arm has at most one effect for each timing and kind of case. Without carry-over the probability of any effect is
    at most ``ERROR``. Records before schema 5 lack the order of arms, so nothing is found in them.
    """
    pairs: dict[_Pair, dict[Case, list[_Stratum]]] = {}
    for lines in _lines_of_launches(run):
        point = (lines[0].case, lines[0].timing)
        for arm, predecessor, stratum in _strata(lines):
            of_pair = pairs.setdefault((without_size(point), arm, predecessor), {})
            of_pair.setdefault(point[0], []).append(stratum)
    tests = sum(len(list(_windows(list(of_pair)))) for of_pair in pairs.values())
    # For each arm in a kind of case and a timing: the most certain effect.
    most_certain: dict[tuple[Point, str], tuple[float, CarryOver]] = {}
    for (kind, arm, predecessor), of_pair in pairs.items():
        rank_sums = {case: [stratum.rank_sum() for stratum in strata] for case, strata in of_pair.items()}
        for cases in _windows(sorted(of_pair, key=lambda case: case.size_bytes)):
            distance = _distance([rank_sum for case in cases for rank_sum in rank_sums[case]])
            if 2 * float(ndtr(-distance)) > ERROR / tests:
                continue
            carry_over = CarryOver(
                arm=arm,
                predecessor=predecessor,
                timing=kind[1],
                cases=tuple(cases),
                effect=_effect([stratum for case in cases for stratum in of_pair[case]]),
            )
            limit = min(limits.threshold(case.collective, carry_over.timing, case.size_bytes) for case in cases)
            # With two predecessors, slower after one is faster after the other. Then name the one before slow times.
            rank = (round(distance, 9), carry_over.effect)
            known = most_certain.get((kind, arm))
            if abs(carry_over.effect) >= limit and (known is None or rank > (known[0], known[1].effect)):
                most_certain[kind, arm] = (rank[0], carry_over)
    return sorted((each for _, each in most_certain.values()), key=lambda each: -abs(each.effect))


def _lines_of_launches(run: Run) -> Iterator[list[Samples]]:
    """Yield the lines of each case and timing in each launch, if they have the order of arms."""
    groups: dict[tuple[Point, int], list[Samples]] = {}
    for line in run.lines:
        if isinstance(line, Samples) and line.arms_before:
            groups.setdefault(((line.case, line.timing), line.launch), []).append(line)
    yield from groups.values()


def _strata(lines: Sequence[Samples]) -> Iterator[tuple[str, str, _Stratum]]:
    """Yield each arm with each of its predecessors and the times; ``lines`` are of one case, timing and launch.

    The first arm of a round has no predecessor: between rounds the ranks may combine their samples.
    """
    arms = {
        (number, before): line.arm
        for line in lines
        for number, before in zip(line.rounds, line.arms_before, strict=True)
    }
    for line in lines:
        by_predecessor: dict[str, list[float]] = {}
        for number, before, value in zip(line.rounds, line.arms_before, _relative(line.samples_us), strict=True):
            # The batch of the predecessor may have been discarded.
            if (predecessor := arms.get((number, before - 1))) is not None:
                by_predecessor.setdefault(predecessor, []).append(value)
        for predecessor, after in by_predecessor.items():
            otherwise = [value for other, of in by_predecessor.items() if other != predecessor for value in of]
            if otherwise:
                yield line.arm, predecessor, _Stratum(after=after, otherwise=otherwise)


def _relative(samples_us: Sequence[float]) -> list[float]:
    """Return the logarithm of each sample minus the median of those around it."""
    values = [math.log(sample_us) for sample_us in samples_us]
    relative = []
    for index, value in enumerate(values):
        around = values[max(0, index - _NEIGHBOURS) : index] + values[index + 1 : index + 1 + _NEIGHBOURS]
        relative.append(value - median(around or [value]))
    return relative


def _windows(cases: Sequence[Case]) -> Iterator[Sequence[Case]]:
    """Yield groups of neighbouring sizes: all single ones, all pairs, all fours and so on, up to all sizes together.

    An effect can be limited to some sizes, such as those that fit into a cache, and one size alone has few rounds.
    """
    length = 1
    while length < 2 * len(cases):
        yield from (cases[first : first + length] for first in range(0, len(cases), length))
        length *= 2


def _distance(rank_sums: Sequence[tuple[float, float]]) -> float:
    """Return the distance of all rank sums together from their expectation, in standard deviations."""
    surpluses, variances = zip(*rank_sums, strict=True)
    return abs(sum(surpluses)) / math.sqrt(sum(variances)) if sum(variances) else 0.0


def _effect(strata: Sequence[_Stratum]) -> float:
    after = median(value for stratum in strata for value in stratum.after)
    return math.expm1(after - median(value for stratum in strata for value in stratum.otherwise))
