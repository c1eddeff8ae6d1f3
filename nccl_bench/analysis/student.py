"""Student's distribution, for means of a few values whose variance is estimated.

The noise floor needs it, so every report does. It is written out here because scipy, which has it too, loads slowly.
"""

import math
from functools import lru_cache
from statistics import NormalDist

# The last term of a continued fraction changes it by at most this share.
_PRECISION = 1e-15
# Newton's method squares its error with each step: after a step as small as this, nothing is left to correct.
_LAST_STEP = 1e-8
# The largest distance, as a logarithm. The square of a larger one could overflow.
_FARTHEST = math.log(1e100)


@lru_cache(maxsize=4096)
def student_quantile(error: float, freedom: float) -> float:
    """Return a distance in standard errors. The two-sided probability that a mean is farther off is ``error``.

    ``freedom`` is the number of degrees of freedom of Student's distribution, which need not be whole.
    """
    if error >= 1:
        return 0.0
    # The logarithm of the error is a concave function of the logarithm of the distance. So Newton's method converges
    # from the quantile of the normal distribution.
    log_distance, goal = math.log(-NormalDist().inv_cdf(error / 2)), math.log(error)
    for _ in range(100):
        log_error, slope = _log_error(math.exp(log_distance), freedom)
        step = (goal - log_error) / slope
        log_distance = min(log_distance + step, _FARTHEST)
        if abs(step) < _LAST_STEP:
            break
    return math.exp(log_distance)


def student_error(distance: float, freedom: float) -> float:
    """Return the two-sided probability that a mean is off by ``distance`` standard errors: see `student_quantile`."""
    return math.exp(_log_error(min(distance, math.exp(_FARTHEST)), freedom)[0]) if distance > 0 else 1.0


def _log_error(distance: float, freedom: float) -> tuple[float, float]:
    """Return the logarithm of the error at ``distance``, and its slope over the logarithm of the distance.

    The error is the regularised incomplete beta function I_x(freedom / 2, 1 / 2), x = freedom / (freedom + distance²).
    """
    half, square = freedom / 2, distance**2
    outside, inside = freedom / (freedom + square), square / (freedom + square)
    log_beta = math.lgamma(half) + math.lgamma(0.5) - math.lgamma(half + 0.5)
    log_factor = -half * math.log1p(square / freedom) + math.log(distance) - math.log(freedom + square) / 2 - log_beta
    # The continued fraction converges fast for one of the two: the error, and the rest to 1.
    if outside < (half + 1) / (half + 2.5):
        log_error = log_factor + math.log(_beta_fraction(half, 0.5, outside) / half)
    else:
        log_error = math.log1p(-2 * math.exp(log_factor) * _beta_fraction(0.5, half, inside))
    return log_error, -2 * math.exp(log_factor - log_error)


def _beta_fraction(first: float, second: float, at: float) -> float:
    """Return the continued fraction of the incomplete beta function (https://dlmf.nist.gov/8.17.E22)."""
    # Lentz's method. Where the fraction is used, no denominator is 0.
    above, below = 1.0, 1 / (1 - (first + second) * at / (first + 1))
    result = below
    for number in range(1, 10_000):
        odd_place = first + 2 * number
        for coefficient in (
            number * (second - number) * at / ((odd_place - 1) * odd_place),
            -(first + number) * (first + second + number) * at / (odd_place * (odd_place + 1)),
        ):
            below, above = 1 / (1 + coefficient * below), 1 + coefficient / above
            result *= above * below
        if abs(above * below - 1) < _PRECISION:
            break
    return result
