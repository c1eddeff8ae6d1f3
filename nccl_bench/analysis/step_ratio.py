"""The ratio of two sums of times, whose terms were measured one after the other: the interval carries all of them.

The sums are communication times of a step. Each term is the calls of a message in a step times its time. The terms come
from different rounds, so they are independent, and the squares of their standard errors add up.

A term's standard error comes from the exact interval of its median: the distance of an end from the median, divided by
Student's quantile at the error of that interval. So a skewed term has another one below than above. The degrees of
freedom of the sum are those of Welch and Satterthwaite. ``python -m tests.experiments.step_time`` shows how often the
intervals contain the truth.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from nccl_bench.analysis.estimates import Estimate
from nccl_bench.analysis.paired_ratios import PairedRatios
from nccl_bench.analysis.statistics import Interval, interval, pairs_needed
from nccl_bench.analysis.student import student_quantile

# The lower end of an interval is at most so many times below the middle. Without this limit it could be below 0.
_FARTHEST = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A message in both sums."""

    calls: float  # the calls in a step
    base_us: float  # the median time of a call of the baseline, microseconds
    base_times_us: Sequence[float]  # the time of the baseline in each round
    ratios: PairedRatios  # the ratio of the candidate's time to the baseline's in each round

    @property
    def weight_us(self) -> float:
        """The baseline's time in a step."""
        return self.calls * self.base_us


class StepRatio(Estimate):
    """The ratio of the sums: the mean of the terms' ratios, weighted by the baseline's time."""

    def __init__(self, terms: Sequence[Term]) -> None:
        self.terms = terms
        self._total_us = sum(term.weight_us for term in terms)
        self.ratio = sum(term.weight_us * term.ratios.ratio for term in terms) / self._total_us
        self.deviation = math.hypot(*(self._share(term) * (term.ratios.deviation or 0.0) for term in terms))

    def pooled(self, ratios: Sequence[Self]) -> StepRatio:
        """Return the ratio of the sums over all terms."""
        return StepRatio([term for each in (self, *ratios) for term in each.terms])

    def interval(self, error: float) -> Interval | None:
        """Return the interval; ``None`` if a term has too few rounds for one at the same error."""
        spreads: list[_Spread] = []
        for term in self.terms:
            of_ratio, of_time = term.ratios.interval(error), interval(term.base_times_us, error)
            if of_ratio is None or of_time is None:
                return None
            share, ratio = self._share(term), term.ratios.ratio
            ends = [share * (end - ratio) for end in (of_ratio.low, of_ratio.high)]
            spreads.append(_Spread.of(ends, of_ratio.error, term.ratios.rounds))
            # A term whose ratio is above that of the sums raises it if the baseline's time in the term is longer.
            surplus = share * (ratio - self.ratio)
            ends = [surplus * (end_us / term.base_us - 1) for end_us in (of_time.low, of_time.high)]
            spreads.append(_Spread.of(ends, of_time.error, len(term.base_times_us)))
        low, high = _around(self.ratio, spreads, error)
        return Interval(low=max(low, self.ratio / _FARTHEST), high=high, error=error)

    def pairs_needed(self, error: float) -> int:
        """Return how many rounds of each term an interval at ``error`` needs."""
        return pairs_needed(error)

    def _share(self, term: Term) -> float:
        return term.weight_us / self._total_us


class StepQuotient(Estimate):
    """The quotient of two ratios of sums, after / before: those of an arm to a shared arm, on two sides."""

    def __init__(self, before: StepRatio, after: StepRatio) -> None:
        self._before, self._after = before, after
        self.ratio = after.ratio / before.ratio

    def pooled(self, quotients: Sequence[Self]) -> StepQuotient:
        """Return the quotient over all terms."""
        sides = [(each._before, each._after) for each in quotients]
        return StepQuotient(
            self._before.pooled([before for before, _ in sides]), self._after.pooled([after for _, after in sides])
        )

    def interval(self, error: float) -> Interval | None:
        """Return the quotient of both intervals; each of them has half of the error."""
        before, after = self._before.interval(error / 2), self._after.interval(error / 2)
        if before is None or after is None:
            return None
        return Interval(low=after.low / before.high, high=after.high / before.low, error=error)

    def pairs_needed(self, error: float) -> int:
        """Return how many rounds of each term on each side an interval at ``error`` needs."""
        return pairs_needed(error / 2)


def sum_interval(terms: Iterable[tuple[float, float, Sequence[float]]], error: float) -> Interval | None:
    """Return the interval of a sum of times in microseconds; ``None`` if a term has too few rounds.

    Each term has its calls, its median time and its times, in microseconds.
    """
    total_us = 0.0
    spreads: list[_Spread] = []
    for calls, median_us, times_us in terms:
        of_time = interval(times_us, error)
        if of_time is None:
            return None
        total_us += calls * median_us
        ends = [calls * (end_us - median_us) for end_us in (of_time.low, of_time.high)]
        spreads.append(_Spread.of(ends, of_time.error, len(times_us)))
    low, high = _around(total_us, spreads, error)
    return Interval(low=max(low, total_us / _FARTHEST), high=high, error=error)


@dataclass(frozen=True, slots=True)
class _Spread:
    """The standard errors of a term."""

    below: float  # the standard error towards smaller values
    above: float  # the standard error towards larger values
    freedom: int  # the degrees of freedom

    @classmethod
    def of(cls, ends: Sequence[float], error: float, rounds: int) -> _Spread:
        """Return the spread of a term of so many ``rounds``, whose interval at ``error`` has these distant ``ends``."""
        freedom = max(1, rounds - 1)
        quantile = student_quantile(error, freedom)
        if not quantile:
            return cls(0.0, 0.0, freedom)
        return cls(max(0.0, -min(ends)) / quantile, max(0.0, *ends) / quantile, freedom)

    @property
    def variance(self) -> float:
        return (self.below**2 + self.above**2) / 2


def _around(center: float, spreads: Sequence[_Spread], error: float) -> tuple[float, float]:
    """Return the ends of the interval of a sum around ``center``."""
    variance = sum(each.variance for each in spreads)
    if not variance:
        return center, center
    freedom = variance**2 / sum(each.variance**2 / each.freedom for each in spreads)
    quantile = student_quantile(error, freedom)
    below, above = (
        math.hypot(*distances) for distances in zip(*((each.below, each.above) for each in spreads), strict=True)
    )
    return center - quantile * below, center + quantile * above
