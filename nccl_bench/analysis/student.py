"""Student's distribution, for means of a few values whose variance is estimated."""

from functools import lru_cache

from scipy.special import stdtr, stdtrit


@lru_cache(maxsize=4096)
def student_quantile(error: float, freedom: float) -> float:
    """Return the distance, in standard errors, that a mean exceeds with the two-sided probability ``error``.

    ``freedom`` is the number of degrees of freedom of Student's distribution, which need not be whole.
    """
    return float(-stdtrit(freedom, error / 2))


def student_error(distance: float, freedom: float) -> float:
    """Return the two-sided probability that a mean is off by ``distance`` standard errors: see `student_quantile`."""
    return 2 * float(stdtr(freedom, -distance))
