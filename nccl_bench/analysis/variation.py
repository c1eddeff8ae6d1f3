"""The variation of a ratio from launch to launch, or from run to run, estimated for many cells at once.

Five launches are too few to estimate the variance of one cell: with 95 % confidence the variance lies between a third
and eight times the estimate. Cells of one timing and one pair of arms have similar variances, so the other cells
improve the estimate of each cell. The method is the moderated t statistic of Smyth (2004), "Linear models and empirical
Bayes methods for assessing differential expression". ``python -m tests.experiments.launches`` shows how often its
verdicts are right.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean, variance

# A margin for how much the variances of the cells differ, in standard errors. It gives the other cells less weight.
_MARGIN = 2.0
# The other cells count with at most this share of their degrees of freedom, because their deviations can be correlated.
_LARGEST_SHARE = 1 / 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Variation:
    """The variance of one value that is measured once per launch or per run."""

    variance: float  # the variance of natural logarithms
    freedom: float  # the degrees of freedom of the estimate; 0 if there is only one value


def pooled_variation(groups: Sequence[Sequence[float]]) -> Variation:
    """Return the variation of values around the mean of their group. It is the same for all groups."""
    freedom = sum(len(group) - 1 for group in groups)
    means = [fmean(group) for group in groups]
    squares = sum((value - mean) ** 2 for group, mean in zip(groups, means, strict=True) for value in group)
    return Variation(variance=squares / freedom if freedom else 0.0, freedom=freedom)


def moderated(variations: Sequence[Variation], kinds: Sequence[Hashable]) -> list[Variation]:
    """Return each variation, moved towards the usual variation of its kind. This adds degrees of freedom.

    The more the variances of a kind differ from each other, the less each variance moves.
    """
    by_kind: dict[Hashable, list[Variation]] = {}
    for variation, kind in zip(variations, kinds, strict=True):
        by_kind.setdefault(kind, []).append(variation)
    usual: Mapping[Hashable, Variation] = {kind: _usual(of_kind) for kind, of_kind in by_kind.items()}
    return [_mixed(variation, usual[kind]) for variation, kind in zip(variations, kinds, strict=True)]


def _mixed(own: Variation, usual: Variation) -> Variation:
    freedom = own.freedom + usual.freedom
    if not freedom:
        return own
    mean = (own.freedom * own.variance + usual.freedom * usual.variance) / freedom
    return Variation(variance=mean, freedom=freedom)


def _usual(variations: Sequence[Variation]) -> Variation:
    """Return the usual variation. Its degrees of freedom are its weight in the estimate of a cell."""
    known = [each for each in variations if each.freedom and each.variance > 0]
    if len(known) < 2:
        return Variation(variance=0.0, freedom=0.0)
    # The logarithm of an estimated variance, without the bias that its degrees of freedom cause.
    logarithms = [math.log(each.variance) - _bias(each.freedom) for each in known]
    mean = fmean(logarithms)
    deviations = [(value - mean) ** 2 for value in logarithms]
    margin = _MARGIN * math.sqrt(variance(deviations) / len(deviations))
    # The variance between the estimates, minus the part that comes from their few degrees of freedom.
    surplus = variance(logarithms) - fmean(_polygamma(1, each.freedom / 2) for each in known)
    most = _LARGEST_SHARE * (sum(each.freedom for each in known) - fmean(each.freedom for each in known))
    return Variation(variance=math.exp(mean + _bias(_freedom(surplus))), freedom=min(_freedom(surplus + margin), most))


def _freedom(surplus: float) -> float:
    """Return the degrees of freedom of a distribution of variances; ``surplus`` is the variance of their logarithms."""
    return 2 * _inverse_trigamma(surplus) if surplus > 0 else math.inf


@lru_cache(maxsize=64)
def _polygamma(order: int, number: float) -> float:
    # Only several launches need it, and scipy loads slowly.
    from scipy.special import polygamma

    return float(polygamma(order, number))


@lru_cache(maxsize=64)
def _bias(freedom: float) -> float:
    """Return the mean logarithm of an estimated variance, if the true variance is 1."""
    if freedom == math.inf:
        return 0.0
    from scipy.special import digamma

    return float(digamma(freedom / 2)) - math.log(freedom / 2)


def _inverse_trigamma(value: float) -> float:
    """Return the number whose trigamma is ``value``, by Newton's method (Smyth 2004, appendix)."""
    number = 0.5 + 1 / value
    for _ in range(50):
        trigamma = _polygamma(1, number)
        step = trigamma * (1 - trigamma / value) / _polygamma(2, number)
        number += step
        if -step < 1e-8 * number:
            break
    return number
