"""Segments: neighbouring values that differ no more than their deviations explain. This module uses only numbers."""

import math
from collections.abc import Sequence


def segments(values: Sequence[float], deviations: Sequence[float]) -> list[tuple[int, int]]:
    """Return the first index of each segment and the index after its last value.

    ``deviations`` are the standard deviations that the values have if their true values are equal; all above 0. Of all
    ways to cut ``values`` into segments, the result has the least cost. The cost is the sum of squared distances from
    the mean of the segment, in deviations, and a penalty for each segment: four times the logarithm of the number of
    values. So equal values are seldom cut: with 28 values, a difference of 3.7 standard errors costs as much as a cut.

    This is optimal partitioning (Jackson et al., 2005, "An algorithm for optimal partitioning of data on an interval").
    Cuts that can no longer be the best are dropped (Killick et al., 2012, PELT).
    """
    penalty = 4 * math.log(max(2, len(values)))
    # Sums of the weights, of the weighted values and of their weighted squares, up to each index.
    weights, firsts, seconds = [0.0], [0.0], [0.0]
    for value, deviation in zip(values, deviations, strict=True):
        weight = deviation**-2
        weights.append(weights[-1] + weight)
        firsts.append(firsts[-1] + weight * value)
        seconds.append(seconds[-1] + weight * value**2)
    # For each index: the cost of the best way to cut the values before it, and where its last segment begins.
    costs, starts = [0.0], [0]
    candidates = [0]
    for stop in range(1, len(values) + 1):
        without_penalty = [
            costs[start]
            + seconds[stop]
            - seconds[start]
            - (firsts[stop] - firsts[start]) ** 2 / (weights[stop] - weights[start])
            for start in candidates
        ]
        least = min(without_penalty)
        costs.append(least + penalty)
        starts.append(candidates[without_penalty.index(least)])
        candidates = [start for start, cost in zip(candidates, without_penalty, strict=True) if cost <= costs[-1]]
        candidates.append(stop)
    found, stop = [], len(values)
    while stop:
        found.append((starts[stop], stop))
        stop = starts[stop]
    return found[::-1]
