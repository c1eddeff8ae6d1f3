"""Checks that a count agrees with a probability, for tests that draw random numbers."""

import math


def at_most(wrong: int, tries: int, probability: float) -> bool:
    """Return True if ``wrong`` of ``tries`` agrees with ``probability``, except with a chance of one in a million."""
    likely = range(wrong, tries + 1)
    log = [
        math.lgamma(tries + 1)
        - math.lgamma(number + 1)
        - math.lgamma(tries - number + 1)
        + number * math.log(probability)
        + (tries - number) * math.log1p(-probability)
        for number in likely
    ]
    return sum(map(math.exp, log)) > 1e-6
