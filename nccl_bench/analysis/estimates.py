"""Estimates of a ratio, each with the interval that its data allows."""

import math
from collections.abc import Sequence
from statistics import fmean, median
from typing import Protocol

from nccl_bench.analysis.statistics import (
    Interval,
    decisive_error,
    decisive_error_of_median,
    interval,
    pairs_needed,
    student_quantile,
)

# The largest half width of an interval, as a logarithm. Without this limit, an end of the interval could overflow.
_FARTHEST = math.log(1e6)


class Estimate(Protocol):
    """An estimated ratio, candidate / baseline."""

    ratio: float

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
        self.ratio = math.exp(median(map(math.log, ratios)))
        self._ratios = ratios

    def interval(self, error: float) -> Interval | None:
        """Return the exact interval of the median."""
        return interval(self._ratios, error)

    def pairs_needed(self, error: float) -> int:
        """Return how many rounds an interval at ``error`` needs."""
        return pairs_needed(error)

    def decisive_error(self, threshold: float) -> float:
        """Return the exact smallest error at which the verdict is decided."""
        return decisive_error_of_median(self._ratios, threshold)


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


class RunMedians(Estimate):
    """The quotient of two geometric means, after / before; each is the mean of one side's run medians."""

    def __init__(self, before: Sequence[float], after: Sequence[float]) -> None:
        logarithms = [[math.log(value) for value in side] for side in (before, after)]
        means = [fmean(side) for side in logarithms]
        self._log_ratio = means[1] - means[0]
        self.ratio = math.exp(self._log_ratio)
        self._freedom = len(before) + len(after) - 2
        # Both sides share one estimate of the variance: on the same machine, the runs of both sides vary equally.
        squares = sum((value - mean) ** 2 for side, mean in zip(logarithms, means, strict=True) for value in side)
        self._standard_error = math.sqrt(squares / self._freedom * (1 / len(before) + 1 / len(after)))

    def interval(self, error: float) -> Interval:
        """Return the interval from Student's t distribution."""
        half = min(_FARTHEST, student_quantile(error, self._freedom) * self._standard_error)
        return Interval(low=math.exp(self._log_ratio - half), high=math.exp(self._log_ratio + half), error=error)


class UnknownVariation(Estimate):
    """The quotient of two geometric means, after / before, if the variation is unknown."""

    def __init__(self, before: Sequence[float], after: Sequence[float]) -> None:
        self.ratio = math.exp(fmean(map(math.log, after)) - fmean(map(math.log, before)))

    def interval(self, error: float) -> None:
        """Return ``None``: there is no interval at any ``error``."""
