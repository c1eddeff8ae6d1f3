"""Student's distribution, for means of a few values whose variance is estimated.

Only several launches need it, so scipy, which loads slowly, is imported where it is used.
"""

from functools import lru_cache


@lru_cache(maxsize=4096)
def student_quantile(error: float, freedom: float) -> float:
    """Return a distance in standard errors. The two-sided probability that a mean is farther off is ``error``.

    ``freedom`` is the number of degrees of freedom of Student's distribution, which need not be whole.
    """
    from scipy.special import stdtrit

    return float(-stdtrit(freedom, error / 2))


def student_error(distance: float, freedom: float) -> float:
    """Return the two-sided probability that a mean is off by ``distance`` standard errors: see `student_quantile`."""
    from scipy.special import stdtr

    return 2 * float(stdtr(freedom, -distance))
