"""Odd values: values that differ from the others of their segment. This module uses only numbers."""

import math
from collections.abc import Sequence


def odd_values(
    values: Sequence[float], deviations: Sequence[float], ranges: Sequence[tuple[float, float]], scatter: float
) -> list[int]:
    """Return the indices of the values that differ from the mean of all other values, in order.

    ``ranges`` are the intervals of the values. ``scatter`` is how far alike values can lie from their mean for reasons
    that the intervals do not contain. A value is odd if its distance from the mean of the others is larger than three
    distances together: to the end of its interval, ``scatter``, and the standard error of that mean. They have causes
    of their own, so their squares add up. The value that differs most is taken away first. Then the others are tested
    again without it.
    """
    left, odd = list(range(len(values))), list[int]()
    while len(left) > 1:
        weights = [deviations[index] ** -2 for index in left]
        total = math.fsum(weights)
        weighted = math.fsum(weight * values[index] for weight, index in zip(weights, left, strict=True))
        excesses = []
        for index, weight in zip(left, weights, strict=True):
            value, (low, high) = values[index], ranges[index]
            mean = (weighted - weight * value) / (total - weight)
            reach = high - value if value < mean else value - low
            excesses.append(abs(value - mean) / math.hypot(reach, scatter, (total - weight) ** -0.5))
        farthest = max(excesses)
        if farthest <= 1:
            break
        odd.append(left.pop(excesses.index(farthest)))
    return sorted(odd)
