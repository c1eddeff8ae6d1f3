"""Estimates of a ratio, each with the interval that its data allows."""

import math
from array import array
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Protocol

from nccl_bench.analysis.statistics import (
    Interval,
    decisive_error,
    decisive_error_of_median,
    interval,
    pairs_needed,
)
from nccl_bench.analysis.student import student_error, student_quantile
from nccl_bench.analysis.variation import Variation, moderated, pooled_variation

# The largest half width of an interval, as a logarithm. Without this limit, an end of the interval could overflow.
_FARTHEST = math.log(1e6)


class Estimate(Protocol):
    """An estimated ratio, candidate / baseline."""

    ratio: float

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


class PairedRatios(Estimate):
    """The median of the ratios of two arms: one ratio for each round of one run."""

    def __init__(self, ratios: Sequence[float]) -> None:
        self.ratio = median_ratio(ratios)
        # An array takes a third of the memory of a list, and a run can have a million of them.
        self._ratios = array("d", sorted(ratios))

    def interval(self, error: float) -> Interval | None:
        """Return the exact interval of the median."""
        return interval(self._ratios, error)

    def pairs_needed(self, error: float) -> int:
        """Return how many rounds an interval at ``error`` needs."""
        return pairs_needed(error)

    def decisive_error(self, threshold: float) -> float:
        """Return the exact smallest error at which the verdict is decided."""
        return decisive_error_of_median(self._ratios, threshold)


def median_ratio(ratios: Sequence[float]) -> float:
    """Return the median of the logarithms, as a ratio: of two middle ratios the geometric mean."""
    ordered, middle = sorted(ratios), len(ratios) // 2
    if len(ratios) % 2:
        return math.exp(math.log(ordered[middle]))
    return math.exp((math.log(ordered[middle - 1]) + math.log(ordered[middle])) / 2)


class RelativeRatios(Estimate):
    """The quotient of two medians, after / before; each is the median of one run's ratios to the shared arm."""

    def __init__(self, before: Sequence[float], after: Sequence[float]) -> None:
        self.ratio = median(after) / median(before)
        self._before, self._after = sorted(before), sorted(after)

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
    """A geometric mean of ratios, or the quotient of two such means, whose variation is estimated.

    The ratios are medians of launches or of runs, so the interval contains communicator variance.
    """

    def __init__(self, log_ratio: float, variation: Variation, weight: float) -> None:
        self.ratio = math.exp(log_ratio)
        self.variation = variation  # of one launch or run
        self._log_ratio = log_ratio
        self._standard_error = math.sqrt(variation.variance * weight)

    @property
    def communicator_variance(self) -> float | None:
        """The standard deviation of one launch's or one run's ratio, as a share."""
        return math.sqrt(self.variation.variance) if self.variation.freedom else None

    def interval(self, error: float) -> Interval | None:
        """Return the interval from Student's t distribution; ``None`` if the variation is unknown."""
        if not self.variation.freedom:
            return None
        half = min(_FARTHEST, student_quantile(error, self.variation.freedom) * self._standard_error)
        return Interval(low=math.exp(self._log_ratio - half), high=math.exp(self._log_ratio + half), error=error)

    def decisive_error(self, threshold: float) -> float:
        """Return the p-value of the verdict, from the distance between the ratio and the nearer limit."""
        if not self.variation.freedom:
            return 1.0
        low, high = math.log1p(-threshold), math.log1p(threshold)
        distance = min(abs(self._log_ratio - low), abs(self._log_ratio - high))
        if not self._standard_error:
            return 0.0 if distance else 1.0
        return student_error(distance / self._standard_error, self.variation.freedom)


@dataclass(frozen=True, slots=True, kw_only=True)
class Medians:
    """The medians of one cell in several launches or runs; for two sides, the medians of each side."""

    kind: Hashable  # cells of one kind vary alike
    sides: tuple[Sequence[float], ...]  # the medians of one run's launches, or those before and those after


def mean_ratios(cells: Sequence[Medians]) -> list[MeanRatio]:
    """Return the estimate of each cell. The cells of one kind learn their variation from each other."""
    logarithms = [[[math.log(value) for value in side] for side in cell.sides] for cell in cells]
    variations = moderated([pooled_variation(sides) for sides in logarithms], [cell.kind for cell in cells])
    estimates = []
    for sides, variation in zip(logarithms, variations, strict=True):
        *before, last = map(fmean, sides)
        weight = sum(1 / len(side) for side in sides)
        estimates.append(MeanRatio(last - sum(before), variation, weight))
    return estimates


class UnknownVariation(Estimate):
    """The quotient of two geometric means, after / before, if the variation is unknown."""

    def __init__(self, before: Sequence[float], after: Sequence[float]) -> None:
        self.ratio = math.exp(fmean(map(math.log, after)) - fmean(map(math.log, before)))

    def interval(self, error: float) -> None:
        """Return ``None``: there is no interval at any ``error``."""
