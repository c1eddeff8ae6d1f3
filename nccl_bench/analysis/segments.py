"""Segments: neighbouring values that differ no more than their deviations explain. This module uses only numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# This many values are cut at once, because the sums of so many still fit into the cache of a core.
_AT_ONCE = 32_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Values to cut into segments."""

    values: Sequence[float]  # the values in order
    # The standard deviation that each value has if the true values are equal; all above 0.
    deviations: Sequence[float]


def segments(series: Sequence[Series]) -> list[list[tuple[int, int]]]:
    """Return, for each of ``series``, the first index of each segment and the index after its last value.

    Of all ways to cut the values of a series into segments, the result has the least cost. The cost is the sum of
    squared distances from the mean of the segment, in deviations, and a penalty for each segment: four times the
    logarithm of the number of values. So equal values are seldom cut: with 28 values, a difference of 3.7 standard
    errors costs as much as a cut.

    This is optimal partitioning (Jackson et al., 2005, "An algorithm for optimal partitioning of data on an interval").
    """
    by_length: dict[int, list[int]] = {}
    for index, each in enumerate(series):
        by_length.setdefault(len(each.values), []).append(index)
    ranges: list[list[tuple[int, int]]] = [[] for _ in series]
    for length, of_length in by_length.items():
        most = max(1, _AT_ONCE // length)
        for indexes in (of_length[first : first + most] for first in range(0, len(of_length), most)):
            values = np.array([series[index].values for index in indexes], dtype=np.float64)
            deviations = np.array([series[index].deviations for index in indexes], dtype=np.float64)
            for index, starts in zip(indexes, _starts(values, deviations).tolist(), strict=True):
                stop = length
                while stop:
                    ranges[index].append((starts[stop], stop))
                    stop = starts[stop]
                ranges[index].reverse()
    return ranges


def _starts(values: NDArray[np.float64], deviations: NDArray[np.float64]) -> NDArray[np.intp]:
    """Cut the values before each index in the best way. Return the start of the last segment of each such cut."""
    rows, length = values.shape
    penalty = 4 * math.log(max(2, length))
    weight = deviations**-2.0
    # Sums of the weights, of the weighted values and of their weighted squares, up to each index.
    weights, firsts, seconds = (
        np.cumsum(np.pad(column, ((0, 0), (1, 0))), axis=1) for column in (weight, weight * values, weight * values**2)
    )
    # For each index: the cost of the best cut of the values before the index, and the start of the cut's last segment.
    costs = np.zeros((rows, length + 1))
    starts = np.zeros((rows, length + 1), dtype=np.intp)
    every = np.arange(rows)
    for stop in range(1, length + 1):
        last = slice(stop, stop + 1)
        # In place, because these arrays are most of the work of a long sweep.
        gain = firsts[:, last] - firsts[:, :stop]
        gain *= gain
        gain /= weights[:, last] - weights[:, :stop]
        cost = seconds[:, last] - seconds[:, :stop]
        cost -= gain
        cost += costs[:, :stop]
        starts[:, stop] = first = cost.argmin(axis=1)
        costs[:, stop] = cost[every, first] + penalty
    return starts
