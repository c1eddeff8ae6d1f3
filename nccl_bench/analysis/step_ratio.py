"""The ratio of two sums of times. Its interval contains the uncertainty of all terms of the sums.

The sums are communication times of a step. Each term belongs to a message: its number of calls in a step, times the
time of a call. The terms come from different rounds, so they are independent. The squares of their standard errors
add up.

A term's standard error comes from the exact interval of its median: the distance of an end from the median, divided by
Student's quantile at the error of that interval. So a skewed term has two standard errors, one for each side of its
median. The degrees of freedom of the sum are those of Welch and Satterthwaite.
``python -m tests.experiments.step_time`` shows how often the intervals contain the truth.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nccl_bench.analysis.estimates import Estimate
from nccl_bench.analysis.paired_ratios import median_ratio
from nccl_bench.analysis.statistics import Interval, interval_errors, pairs_needed
from nccl_bench.analysis.student import student_quantile

# The middle of an interval is at most this many times its lower end. Without this limit the lower end could be below 0.
_FARTHEST = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A message in both sums."""

    calls: float  # the calls in a step
    base_us: float  # the median time of a call of the baseline, microseconds
    base_times_us: Sequence[float]  # the time of the baseline in each round
    ratios: Sequence[float]  # the ratio of the candidate's time to the baseline's in each round

    @property
    def weight_us(self) -> float:
        """The baseline's time in a step."""
        return self.calls * self.base_us


class StepRatio(Estimate):
    """The ratio of the sums. It is the mean of the terms' ratios, each weighted by the baseline's time in the term."""

    def __init__(self, terms: Sequence[Term]) -> None:
        self.terms = terms
        total_us = sum(term.weight_us for term in terms)
        shares = [term.weight_us / total_us for term in terms]
        ratios = [median_ratio(term.ratios) for term in terms]
        self.ratio = sum(share * ratio for share, ratio in zip(shares, ratios, strict=True))
        columns = list(zip(terms, shares, ratios, strict=True))
        summands = [Summand(values=term.ratios, median=ratio, factor=share) for term, share, ratio in columns]
        # A longer baseline time in a term raises the ratio of the sums if the ratio of the term is above that ratio.
        summands += [
            Summand(
                values=term.base_times_us,
                median=term.base_us,
                factor=share * (ratio - self.ratio) / term.base_us,
            )
            for term, share, ratio in columns
        ]
        self._sum = MedianSum(summands)

    def pooled(self, ratios: Sequence[Self]) -> StepRatio:
        """Return the ratio of the sums over all terms."""
        return StepRatio([term for each in (self, *ratios) for term in each.terms])

    def interval(self, error: float) -> Interval | None:
        """Return the interval; ``None`` if a term has too few rounds for an interval at ``error``."""
        return self._sum.interval(self.ratio, error)

    def pairs_needed(self, error: float) -> int:
        """Return how many rounds of each term an interval at ``error`` needs."""
        return pairs_needed(error)


class StepQuotient(Estimate):
    """The quotient of two ratios of sums, after / before. Each ratio is that of an arm to a shared arm, on one side."""

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
        """Return the quotient of both intervals; each interval has half of the error."""
        before, after = self._before.interval(error / 2), self._after.interval(error / 2)
        if before is None or after is None:
            return None
        return Interval(low=after.low / before.high, high=after.high / before.low, error=error)

    def pairs_needed(self, error: float) -> int:
        """Return how many rounds of each term on each side an interval at ``error`` needs."""
        return pairs_needed(error / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summand:
    """A median as a part of a sum."""

    values: Sequence[float] | NDArray[np.float64]  # the values that have this median, one for each round
    median: float  # the median
    factor: float  # the factor of the median in the sum; negative if a larger median makes the sum smaller


class MedianSum:
    """Independent medians that add up to a sum."""

    def __init__(self, medians: Iterable[Summand]) -> None:
        by_rounds: dict[int, list[Summand]] = {}
        for each in medians:
            by_rounds.setdefault(len(each.values), []).append(each)
        # By number of rounds: the distances of the sorted values from their median, times the factor.
        self._deviations = {
            rounds: np.array([each.factor for each in alike])[:, None]
            * (np.sort([each.values for each in alike], axis=1) - np.array([each.median for each in alike])[:, None])
            for rounds, alike in by_rounds.items()
        }

    def interval(self, center: float, error: float) -> Interval | None:
        """Return the interval of the sum around its value ``center``; ``None`` if a median has too few rounds."""
        below, above, variance, over_freedom = 0.0, 0.0, 0.0, 0.0
        for rounds, deviations in self._deviations.items():
            errors = interval_errors(rounds)
            rank = bisect_right(errors, error) - 1
            if rank < 0:
                return None
            freedom = max(1, rounds - 1)
            quantile = student_quantile(errors[rank], freedom)
            if not quantile:
                continue
            ends = deviations[:, [rank, -1 - rank]] / quantile
            of_below, of_above = ends.min(axis=1).clip(max=0) ** 2, ends.max(axis=1).clip(min=0) ** 2
            below, above = below + float(of_below.sum()), above + float(of_above.sum())
            variances = (of_below + of_above) / 2
            variance += float(variances.sum())
            over_freedom += float((variances**2).sum()) / freedom
        if not variance:
            return Interval(low=center, high=center, error=error)
        quantile = student_quantile(error, variance**2 / over_freedom)
        low = max(center - quantile * math.sqrt(below), center / _FARTHEST)
        return Interval(low=low, high=center + quantile * math.sqrt(above), error=error)
