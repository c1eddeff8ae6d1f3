"""Estimates of a ratio, each with the interval that its data allows."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Protocol, Self

import numpy as np

from nccl_bench.analysis.paired_ratios import Floats, PairedRatios
from nccl_bench.analysis.statistics import Interval, decisive_error, interval, pairs_needed
from nccl_bench.analysis.student import student_error, student_quantile
from nccl_bench.analysis.variation import Variation, moderated, pooled_variation

# The largest half width of an interval, as a logarithm. Without this limit, the end of an interval could overflow.
_FARTHEST = math.log(1e6)
# The logarithms of the ratios of each side: one for each launch or run.
Logarithms = Sequence[Sequence[float]]


class Estimate(Protocol):
    """An estimated ratio, candidate / baseline."""

    ratio: float
    deviation: float | None = None  # the standard error of the logarithm of `ratio`; None if it is unknown

    def pooled(self, other_sizes: Sequence[Self]) -> Estimate:
        """Return the estimate of the ratio that this size and ``other_sizes`` have in common."""

    @property
    def communicator_variance(self) -> float | None:
        """The standard deviation of the ratio from launch to launch or from run to run; ``None`` if it is unknown."""
        return None

    def interval(self, error: float) -> Interval | None:
        """Return the interval with an error of at most ``error``; ``None`` if the data allows no interval."""

    def pairs_needed(self, error: float) -> int | None:
        """Return how many pairs an interval at ``error`` needs; ``None`` if no number of pairs is enough."""
        return None

    def decisive_error(self, threshold: float) -> float:
        """Return the smallest error at which the verdict is decided; 1 if there is no such error."""
        return decisive_error(self.interval, threshold)


class EstimateColumns(Protocol):
    """Estimates of many pairs of arms, as columns."""

    ratios: list[float]
    deviations: list[float | None]  # the standard errors of the logarithms of `ratios`; None if unknown
    communicator_variances: list[float | None]  # as `Estimate.communicator_variance`

    def pooled(self, groups: Sequence[Sequence[int]]) -> EstimateColumns:
        """Return, for each group of estimates, the estimate of the ratio that they have in common."""

    def decisive_errors(self, thresholds: Sequence[float]) -> list[float]:
        """Return the smallest error at which each verdict is decided; 1 if there is no such error."""

    def intervals(self, errors: Sequence[float]) -> Floats:
        """Return the intervals, each with its error: a row of lower ends, of upper ends and of errors.

        NaN stands for an interval that the data does not allow.
        """

    def pairs_needed(self, index: int, error: float) -> int | None:
        """Return how many pairs an interval at ``error`` needs; ``None`` if no number of pairs is enough."""


class EstimateList(EstimateColumns):
    """Estimates that are objects, as columns."""

    def __init__(self, estimates: Sequence[Estimate]) -> None:
        self._estimates = estimates
        self.ratios = [each.ratio for each in estimates]
        self.deviations = [each.deviation for each in estimates]
        self.communicator_variances = [each.communicator_variance for each in estimates]

    def pooled(self, groups: Sequence[Sequence[int]]) -> EstimateList:
        of_groups = [[self._estimates[index] for index in group] for group in groups]
        return EstimateList([first.pooled(more) if more else first for first, *more in of_groups])

    def decisive_errors(self, thresholds: Sequence[float]) -> list[float]:
        return [each.decisive_error(threshold) for each, threshold in zip(self._estimates, thresholds, strict=True)]

    def intervals(self, errors: Sequence[float]) -> Floats:
        intervals = [each.interval(error) for each, error in zip(self._estimates, errors, strict=True)]
        rows = [(each.low, each.high, each.error) if each else (math.nan,) * 3 for each in intervals]
        return np.array(rows, dtype=np.float64).reshape(-1, 3).T

    def pairs_needed(self, index: int, error: float) -> int | None:
        return self._estimates[index].pairs_needed(error)


class RelativeRatios(Estimate):
    """The quotient of two medians, after / before; each is the median of one run's ratios to the shared arm."""

    def __init__(self, before: Sequence[float], after: Sequence[float]) -> None:
        self.ratio = median(after) / median(before)
        self._before, self._after = before, after
        # The squares of the standard errors of both medians add up.
        self.deviation = math.hypot(*(PairedRatios(side).deviation or 0.0 for side in (before, after)))

    def pooled(self, other_sizes: Sequence[Self]) -> RelativeRatios | PairedRatios:
        """Return the median over rounds of the quotients of all sizes.

        A quotient has one round of each run. It is distributed evenly around the true ratio for any two rounds.
        """
        pairs = [pair for each in (self, *other_sizes) for pair in zip(each._before, each._after, strict=False)]
        return PairedRatios([after / before for before, after in pairs]) if other_sizes else self

    def interval(self, error: float) -> Interval | None:
        """Return the quotient of the two runs' intervals; each of these intervals has half of the error."""
        before, after = interval(self._before, error / 2), interval(self._after, error / 2)
        if before is None or after is None:
            return None
        return Interval(low=after.low / before.high, high=after.high / before.low, error=before.error + after.error)

    def pairs_needed(self, error: float) -> int:
        """Return how many rounds each run needs for an interval at ``error``."""
        return pairs_needed(error / 2)


class MeanRatio(Estimate):
    """A geometric mean of ratios, or the quotient of two such means. Its variation is estimated.

    Each ratio is the median of a launch or of a run, so the interval contains communicator variance.
    """

    def __init__(self, log_ratio: float, weight: float, variations: Sequence[Variation], sides: Logarithms) -> None:
        self.ratio = math.exp(log_ratio)
        self._log_ratio = log_ratio
        self._weight = weight
        # Each variation is an estimate for one launch or one run. `interval` takes the narrowest of their intervals.
        self._variations = [variation for variation in variations if variation.freedom]
        self._sides = sides
        self.deviation = self._standard_error(self._variations[0]) if self._variations else None

    def pooled(self, other_sizes: Sequence[Self]) -> MeanRatio:
        """Return the mean over the sizes.

        The mean varies at most as much as one size, even if each communicator deviates equally at all sizes. The mean
        of each launch over all sizes shows how much less. If a launch lacks a size, this is unknown.
        """
        sizes = (self, *other_sizes)
        known = [each._variations[0] for each in sizes if each._variations]
        variations: list[Variation] = []
        means: Logarithms = ()
        if known:
            variance, freedom = fmean(each.variance for each in known), min(each.freedom for each in known)
            variations.append(Variation(variance=variance, freedom=freedom))
        if len({tuple(map(len, each._sides)) for each in sizes}) == 1:
            by_side = zip(*(each._sides for each in sizes), strict=True)
            means = [[*map(fmean, zip(*of_side, strict=True))] for of_side in by_side]
            variations.append(pooled_variation(means))
        log_ratio = fmean(each._log_ratio for each in sizes)
        return MeanRatio(log_ratio, max(each._weight for each in sizes), variations, means)

    @property
    def communicator_variance(self) -> float | None:
        """The standard deviation of one launch's or one run's ratio, as a share."""
        return math.sqrt(self._variations[0].variance) if self._variations else None

    def interval(self, error: float) -> Interval | None:
        """Return the interval from Student's t distribution; ``None`` if the variation is unknown.

        If there are several variations, each gets an equal share of the error.
        """
        if not self._variations:
            return None
        share = error / len(self._variations)
        half = min(student_quantile(share, each.freedom) * self._standard_error(each) for each in self._variations)
        half = min(_FARTHEST, half)
        return Interval(low=math.exp(self._log_ratio - half), high=math.exp(self._log_ratio + half), error=error)

    def decisive_error(self, threshold: float) -> float:
        """Return the p-value of the verdict, from the distance between the ratio and the nearer limit."""
        low, high = math.log1p(-threshold), math.log1p(threshold)
        distance = min(abs(self._log_ratio - low), abs(self._log_ratio - high))
        errors = [self._error_at(distance, each) * len(self._variations) for each in self._variations]
        return min(1.0, *errors) if errors else 1.0

    def _error_at(self, distance: float, variation: Variation) -> float:
        standard_error = self._standard_error(variation)
        if not standard_error:
            return 0.0 if distance else 1.0
        return student_error(distance / standard_error, variation.freedom)

    def _standard_error(self, variation: Variation) -> float:
        return math.sqrt(variation.variance * self._weight)


@dataclass(frozen=True, slots=True, kw_only=True)
class Medians:
    """The medians of one cell in several launches or runs; for two sides, the medians of each side."""

    kind: Hashable  # cells of one kind have the same variation
    # The medians of one run's launches. For two sides, the medians before and the medians after.
    sides: tuple[Sequence[float], ...]


def mean_ratios(cells: Sequence[Medians]) -> list[MeanRatio]:
    """Return the estimate of each cell. The variation of a cell is estimated from all cells of its kind."""
    logarithms = [[[math.log(value) for value in side] for side in cell.sides] for cell in cells]
    variations = moderated([pooled_variation(sides) for sides in logarithms], [cell.kind for cell in cells])
    estimates = []
    for sides, variation in zip(logarithms, variations, strict=True):
        *before, last = map(fmean, sides)
        weight = sum(1 / len(side) for side in sides)
        estimates.append(MeanRatio(last - sum(before), weight, [variation], sides))
    return estimates


class UnknownVariation(Estimate):
    """The quotient of two geometric means, after / before, if the variation is unknown."""

    def __init__(self, before: Sequence[float], after: Sequence[float]) -> None:
        self._log_ratio = fmean(map(math.log, after)) - fmean(map(math.log, before))
        self.ratio = math.exp(self._log_ratio)

    def pooled(self, other_sizes: Sequence[Self]) -> UnknownVariation:
        """Return the mean over the sizes."""
        return UnknownVariation([1.0], [math.exp(fmean(each._log_ratio for each in (self, *other_sizes)))])

    def interval(self, error: float) -> None:
        """Return ``None``: there is no interval at any ``error``."""
