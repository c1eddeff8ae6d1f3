"""Medians of the ratios of two arms, for many pairs of arms at once. A run has one ratio of a pair for each round."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from nccl_bench.analysis.statistics import Interval, interval_errors, pairs_needed
from nccl_bench.records.columns import ListColumn

Floats = NDArray[np.float64]


class PairedColumns:
    """The median of each list of ratios, with its interval."""

    def __init__(self, ratios: ListColumn) -> None:
        """Take lists of ratios; no list is empty."""
        numbers, (medians, deviations) = np.empty(len(ratios.numbers)), np.empty((2, len(ratios)))
        for lines in ratios.of_equal_length():
            ordered = np.sort(ratios.matrix(lines), axis=1)
            numbers[ratios.places(lines)] = ordered
            rank = _inner_rank(ordered.shape[1])
            medians[lines] = _middles(ordered)
            deviations[lines] = [math.log(each) / 2 for each in (ordered[:, -1 - rank] / ordered[:, rank]).tolist()]
        self._ordered = ListColumn(numbers, ratios.ends)  # the ratios, sorted
        self.ratios: list[float] = medians.tolist()
        # Half of the distance between two ratios near the middle. They enclose the true median in two of three cases.
        self.deviations: list[float | None] = deviations.tolist()
        self.communicator_variances: list[float | None] = [None] * len(ratios)

    def __len__(self) -> int:
        return len(self.ratios)

    def of_estimate(self, index: int) -> list[float]:
        """Return the sorted ratios of an estimate."""
        ratios: list[float] = self._ordered[index].tolist()
        return ratios

    def pooled(self, groups: Sequence[Sequence[int]]) -> PairedColumns:
        """Return the median of all rounds of each group of estimates. An estimate with more rounds counts more."""
        members = np.array([index for group in groups for index in group], dtype=np.intp)
        starts = np.cumsum([0, *map(len, groups)])[:-1]
        return PairedColumns(self._ordered.take(members).joined(starts))

    def decisive_errors(self, thresholds: Sequence[float]) -> list[float]:
        """Return the exact smallest error at which each verdict is decided: the p-value of a two-sided sign test."""
        least, of_all = np.ones(len(self)), np.array(thresholds)
        for lines in self._ordered.of_equal_length():
            ordered, threshold = self._ordered.matrix(lines), of_all[lines, None]
            rounds = ordered.shape[1]
            below, above = (ordered < 1 - threshold).sum(axis=1), (ordered > 1 + threshold).sum(axis=1)
            # The number of ratios that contradict `faster`, `slower` and `equivalent`.
            outside = np.minimum(rounds - np.maximum(below, above), np.maximum(below, above))
            errors = np.array([*interval_errors(rounds), 1.0])
            least[lines] = errors[np.minimum(outside, len(errors) - 1)]
        decisive: list[float] = least.tolist()
        return decisive

    def intervals(self, errors: Sequence[float]) -> Floats:
        """Return the exact intervals of the medians: a row of lower ends, of upper ends and of errors."""
        intervals, levels = np.full((3, len(self)), np.nan), np.array(errors)
        for lines in self._ordered.of_equal_length():
            ordered = self._ordered.matrix(lines)
            of_rank = np.array(interval_errors(ordered.shape[1]))
            ranks = np.searchsorted(of_rank, levels[lines], side="right") - 1
            (rows,) = np.nonzero(ranks >= 0)
            known = ranks[rows]
            intervals[:, lines[rows]] = ordered[rows, known], ordered[rows, -1 - known], of_rank[known]
        return intervals

    def pairs_needed(self, index: int, error: float) -> int:
        """Return how many rounds an interval at ``error`` needs."""
        return pairs_needed(error)


# This is no subclass of `Estimate`, because a subclass of it would have no slots.
class PairedRatios:
    """The median of the ratios of one pair of arms."""

    __slots__ = ("_columns", "deviation", "ratio")

    communicator_variance: ClassVar[None] = None

    def __init__(self, ratios: Sequence[float]) -> None:
        self._columns = PairedColumns(ListColumn.of([ratios], np.float64))
        (self.ratio,), (self.deviation,) = self._columns.ratios, self._columns.deviations

    def pooled(self, other_sizes: Sequence[Self]) -> PairedRatios:
        """Return the median of the rounds of all sizes. A size with more rounds counts more."""
        return PairedRatios([ratio for each in (self, *other_sizes) for ratio in each._columns.of_estimate(0)])

    def interval(self, error: float) -> Interval | None:
        """Return the exact interval of the median."""
        return intervals_of(self._columns.intervals([error]))[0]

    def pairs_needed(self, error: float) -> int:
        """Return how many rounds an interval at ``error`` needs."""
        return pairs_needed(error)

    def decisive_error(self, threshold: float) -> float:
        """Return the exact smallest error at which the verdict is decided: the p-value of a two-sided sign test."""
        return self._columns.decisive_errors([threshold])[0]


def intervals_of(ends: Floats) -> list[Interval | None]:
    """Return intervals from a row of lower ends, a row of upper ends and a row of errors; ``None`` for NaN."""
    return [
        None if math.isnan(low) else Interval(low=low, high=high, error=error)
        for low, high, error in zip(*ends.tolist(), strict=True)
    ]


def median_ratio(ratios: Sequence[float]) -> float:
    """Return the median of the logarithms, as a ratio. With two middle ratios, it is their geometric mean."""
    return _middles(np.sort(np.array([ratios])))[0]


@lru_cache(maxsize=1024)
def _inner_rank(count: int) -> int:
    return max(0, math.floor(count / 2 - math.sqrt(count) / 2))


def _middles(ordered: Floats) -> list[float]:
    """Return, for each row of sorted ratios, the median of the logarithms, as a ratio."""
    middle, odd = divmod(ordered.shape[1], 2)
    logarithms = [math.log(ratio) for ratio in ordered[:, middle].tolist()]
    if not odd:
        before = map(math.log, ordered[:, middle - 1].tolist())
        logarithms = [(first + second) / 2 for first, second in zip(before, logarithms, strict=True)]
    return list(map(math.exp, logarithms))
