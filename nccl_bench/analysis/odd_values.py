"""Odd values: values that differ from the others of their segment. This module uses only numbers."""

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, median

# The allowed probability that a segment of equal values has a value that seems to be odd.
_ERROR = 0.05
_NORMAL = NormalDist()


def odd_values(values: Sequence[float], deviation: float) -> list[int]:
    """Return the indices of the values that differ from the mean of all other values, in order.

    ``deviation`` is the least standard deviation of a value. A value is odd if its distance is larger than
    ``odd_distance``. The value that differs most is taken away first. Then the others are tested again without it.
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
    """Return the distance from the mean of the others up to which a value is not odd; there are two values or more.

    The distance is corrected (Bonferroni) for the number of values.
    """
    return _NORMAL.inv_cdf(1 - _ERROR / 2 / len(values)) * deviation_of_distance(values, deviation)


def deviation_of_distance(values: Sequence[float], deviation: float) -> float:
    """Return the standard deviation of the distance of a value from the mean of the others."""
    # The values can show a larger deviation. Few odd values hardly change the median of the distances.
    middle = median(values)
    shown = median(abs(value - middle) for value in values) / _NORMAL.inv_cdf(0.75)
    return max(deviation, shown) * math.sqrt(1 + 1 / (len(values) - 1))
