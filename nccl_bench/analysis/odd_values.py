"""Odd values: values that differ from the others of their segment. This module uses only numbers."""

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, median

# The allowed probability that a value seems odd although the true values of the segment are equal.
_ERROR = 0.05
_NORMAL = NormalDist()


def odd_values(values: Sequence[float], deviation: float) -> list[int]:
    """Return the sorted indices of the odd values.

    A value is odd if its distance from the mean of all other values is larger than ``odd_distance``. ``deviation`` is
    the least standard deviation of a value. The most distant value is removed first. Then the rest is tested again.
    """
    left, odd = list(range(len(values))), list[int]()
    limit = odd_distance(values, deviation) if len(values) > 1 else math.inf
    while len(left) > 1:
        mean = fmean(values[index] for index in left)
        farthest = max(left, key=lambda index: abs(values[index] - mean))
        # The distance from the mean of the others.
        distance = abs(values[farthest] - mean) * len(left) / (len(left) - 1)
        if distance <= limit:
            break
        left.remove(farthest)
        odd.append(farthest)
    return sorted(odd)


def odd_distance(values: Sequence[float], deviation: float) -> float:
    """Return the largest distance from the mean of the others at which a value is not odd; needs two values or more.

    The distance is corrected (Bonferroni) for the number of values.
    """
    return _NORMAL.inv_cdf(1 - _ERROR / 2 / len(values)) * deviation_of_distance(values, deviation)


def deviation_of_distance(values: Sequence[float], deviation: float) -> float:
    """Return the standard deviation of the distance of a value from the mean of the others."""
    # The values can show a larger deviation than `deviation`. A few odd values hardly change a median of distances.
    middle = median(values)
    shown = median(abs(value - middle) for value in values) / _NORMAL.inv_cdf(0.75)
    return max(deviation, shown) * math.sqrt(1 + 1 / (len(values) - 1))
