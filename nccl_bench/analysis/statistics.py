"""Paired statistics: from ratios within rounds to an interval and a verdict. Nothing here knows about collectives.

The estimate is the median of the log-ratios, its interval the exact one from order statistics (a sign test turned
round): it assumes nothing of the noise but that rounds are independent. Of several comparisons each gets its level by
Holm's step-down procedure, so that all verdicts of a run together are wrong with the probability of one alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import islice, repeat
from statistics import median

# The probability that any verdict of a run is wrong.
FAMILYWISE_ERROR = 0.05
# Ratios nearer to 1 than this are of no practical interest.
DEFAULT_THRESHOLD = 0.02


class Verdict(StrEnum):
    """What a comparison says about the candidate."""

    FASTER = "faster"
    SLOWER = "slower"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Ratios between which the true median lies, save with the probability ``error``."""

    low: float
    high: float
    error: float

    @property
    def half_width(self) -> float:
        """Half of the width, as a share of the ratio."""
        return math.sqrt(self.high / self.low) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """How far ratios are from 1 by the luck of communicators alone, as logarithms: as far up as down.

    ``reach`` is how far the twin may be at the size in question, by its interval there; ``luck`` is how far a twin of
    that kind easily is, whatever the size.
    """

    reach: float
    luck: float

    @property
    def share(self) -> float:
        """The reach as a share: 1 is a factor of 2, up or down."""
        return math.expm1(self.reach)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One candidate against its baseline over ``pairs`` rounds; ``threshold`` is what matters in practice.

    ``error`` is the level that this comparison got; ``interval`` is ``None`` where there are too few pairs for any at
    that level, and ``pairs_needed`` would do then.
    """

    ratio: float
    interval: Interval | None
    verdict: Verdict
    threshold: float
    error: float
    pairs: int
    pairs_needed: int


def interval(ratios: Sequence[float], error: float) -> Interval | None:
    """The narrowest interval of order statistics whose error is ``error`` at the most; ``None`` where none is."""
    rank = _rank(len(ratios), error)
    if rank is None:
        return None
    ordered = sorted(ratios)
    return Interval(low=ordered[rank], high=ordered[-1 - rank], error=2 * _tail(len(ratios), rank))


def pairs_needed(error: float) -> int:
    """The fewest pairs that have an interval with this ``error``: the one from the smallest to the largest."""
    # 2 ** (1 - pairs) is their error: by the exponent, since a logarithm would round.
    return max(1, 2 - math.frexp(error)[1])


def compare(
    paired: Sequence[Sequence[float]],
    thresholds: Sequence[float],
    error: float = FAMILYWISE_ERROR,
) -> list[Comparison]:
    """A comparison for each sequence of paired ratios, candidate / baseline, none of them empty.

    ``thresholds`` has one for each. ``error`` is the probability that any verdict is wrong, and so are the levels of
    the intervals: Holm's, those that no verdict was reached for all at the level where the procedure stopped.
    """
    least = [_decisive_error(ratios, threshold) for ratios, threshold in zip(paired, thresholds, strict=True)]
    return [
        _compare(ratios, threshold, level)
        for ratios, threshold, level in zip(paired, thresholds, holm(least, error), strict=True)
    ]


def holm(least: Sequence[float], error: float) -> list[float]:
    """The level of each comparison, from the ``least`` error at which it reaches a verdict.

    Step by step the surest one is judged at ``error`` over the number of those left; those that no verdict was reached
    for, and all behind the first of them, share the level at which the procedure stopped.
    """
    levels = [0.0] * len(least)
    left, stopped = len(least), False
    for index in sorted(range(len(least)), key=least.__getitem__):
        levels[index] = error / left
        stopped = stopped or least[index] > levels[index]
        left -= 0 if stopped else 1
    return levels


def verdict_of(found: Interval | None, threshold: float) -> Verdict:
    """Where the whole of an interval lies; without one nothing is known."""
    if found is None:
        return Verdict.INCONCLUSIVE
    if found.high < 1 - threshold:
        return Verdict.FASTER
    if found.low > 1 + threshold:
        return Verdict.SLOWER
    within = 1 - threshold <= found.low and found.high <= 1 + threshold
    return Verdict.EQUIVALENT if within else Verdict.INCONCLUSIVE


def holds_beyond(found: Interval, ratio: float, threshold: float, floor: Floor | None) -> bool:
    """Whether the verdict on ``found``, the interval of ``ratio``, holds although luck alone makes the ``floor``.

    A difference has to be farther from 1 than the twin may be, and to matter without what is easily luck. That there is
    none is a statement about the threshold, which the twin has to keep within. Without a twin nothing holds.
    """
    if floor is None:
        return False
    verdict, easily = verdict_of(found, threshold), math.exp(floor.luck)
    if verdict is Verdict.FASTER:
        return floor.reach < -math.log(ratio) and found.high * easily < 1 - threshold
    if verdict is Verdict.SLOWER:
        return floor.reach < math.log(ratio) and found.low / easily > 1 + threshold
    return floor.share < threshold


def decisive_error(at: Callable[[float], Interval | None], threshold: float) -> float:
    """The least error at which the interval ``at(error)`` reaches a verdict, to a thousandth of itself; 1 if none."""
    low, high = math.log(1e-15), 0.0
    if verdict_of(at(1.0), threshold) is Verdict.INCONCLUSIVE:
        return 1.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        if verdict_of(at(math.exp(middle)), threshold) is Verdict.INCONCLUSIVE:
            low = middle
        else:
            high = middle
    return math.exp(high)


def narrow_enough(ratios: Sequence[float], error: float, threshold: float) -> bool:
    """Whether more rounds are not needed: by the width of the interval alone, whatever it would say."""
    found = interval(ratios, error)
    return found is not None and found.half_width <= threshold / 2


def _compare(ratios: Sequence[float], threshold: float, level: float) -> Comparison:
    found = interval(ratios, level)
    return Comparison(
        ratio=math.exp(median(map(math.log, ratios))),
        interval=found,
        verdict=verdict_of(found, threshold),
        threshold=threshold,
        error=level,
        pairs=len(ratios),
        pairs_needed=pairs_needed(level),
    )


def _decisive_error(ratios: Sequence[float], threshold: float) -> float:
    """The least error at which the interval lies within one verdict's range: a two-sided sign test's p-value."""
    low, high = 1 - threshold, 1 + threshold
    count = len(ratios)
    outside = (
        sum(ratio >= low for ratio in ratios),  # against faster
        sum(ratio <= high for ratio in ratios),  # against slower
        max(sum(ratio < low for ratio in ratios), sum(ratio > high for ratio in ratios)),  # against equivalent
    )
    return min(1.0, 2 * _tail(count, min(outside)))


@lru_cache(maxsize=4096)
def _rank(count: int, error: float) -> int | None:
    """How many of ``count`` order statistics may be left out at each end; ``None`` where even none is too few."""
    rank = None
    for index, tail in enumerate(_tails(count)):
        if 2 * tail > error or 2 * index >= count:
            break
        rank = index
    return rank


@lru_cache(maxsize=4096)
def _tail(count: int, most: int) -> float:
    """The probability of at most ``most`` heads in ``count`` tosses of a fair coin."""
    return next(islice(_tails(count), most, None))


def _tails(count: int) -> Iterator[float]:
    """That of at most 0, 1, 2, ... heads: to all digits that matter, and exact where a float can hold them."""
    # What lies 26 standard deviations from the mean is below any error, and soon below the smallest float.
    first = max(0, count // 2 - 13 * math.isqrt(count))
    yield from repeat(0.0, first)
    ways = math.lgamma(count + 1) - math.lgamma(first + 1) - math.lgamma(count - first + 1)
    exactly = total = math.exp(ways - count * math.log(2)) if first else 2.0**-count
    for heads in range(first, count + 1):
        yield total
        exactly *= (count - heads) / (heads + 1)
        total += exactly


@lru_cache(maxsize=4096)
def student_quantile(error: float, freedom: int) -> float:
    """How many standard errors a mean is off with the two-sided probability ``error``.

    By bisection of the finite series for whole degrees of ``freedom`` (Abramowitz and Stegun, 26.7.3 and 26.7.4).
    """
    low, high = 0.0, 1.0
    while _beyond(high, freedom) > error:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _beyond(middle, freedom) > error else (low, middle)
    return high


def _beyond(t: float, freedom: int) -> float:
    """The probability that Student's t is farther from 0 than ``t``."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine, sine = math.cos(angle), math.sin(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = term if freedom > 1 else 0.0
    for index in range(2 + odd, freedom, 2):
        term *= cosine * cosine * (index - 1) / index
        total += term
    within = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return 1 - within
