"""Statistics of ratios: intervals, verdicts, and a correction (Holm) for the number of comparisons.

This module uses only numbers, no collectives and no records. Ranks use it too, and an arm's own environment can lack
scipy.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

# The allowed probability that at least one verdict of an analysis is wrong.
FAMILYWISE_ERROR = 0.05
# A float has fewer binary digits than this, so more digits of a count are not needed.
_ENOUGH_BITS = 1024


class Verdict(StrEnum):
    """The result of a comparison; it describes the candidate relative to the baseline."""

    FASTER = "faster"
    SLOWER = "slower"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"

    # The hash of the text, which is fast. `Enum` computes its hash in Python, and reports look up many members.
    __hash__ = str.__hash__


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A confidence interval of a ratio."""

    low: float  # the lower end
    high: float  # the upper end
    error: float  # the probability that the true ratio lies outside the interval

    @property
    def half_width(self) -> float:
        """Half of the width, as a share of the ratio."""
        return math.sqrt(self.high / self.low) - 1


def paired_ratios(arm_us: Mapping[int, float], base_us: Mapping[int, float]) -> list[float]:
    """Return ``arm_us`` / ``base_us`` for each round that both mappings have; their keys are round numbers."""
    return [time_us / base_us[number] for number, time_us in arm_us.items() if number in base_us]


def interval(ratios: Sequence[float], error: float) -> Interval | None:
    """Return the narrowest interval that contains the true median, with an error of at most ``error``.

    Both ends are elements of ``ratios`` (an inverted sign test). The rounds must be independent.
    Returns ``None`` if there are fewer ratios than ``pairs_needed``.
    """
    ordered, errors = sorted(ratios), interval_errors(len(ratios))
    rank = bisect_right(errors, error) - 1
    if rank < 0:
        return None
    return Interval(low=ordered[rank], high=ordered[-1 - rank], error=errors[rank])


def pairs_needed(error: float) -> int:
    """Return the smallest number of pairs that gives an interval at ``error``.

    With exactly this number of pairs, the interval spans all ratios, and its error is ``2 ** (1 - pairs)``.
    """
    # `frexp` returns the exact exponent of `error`; a logarithm would round.
    return max(1, 2 - math.frexp(error)[1])


def narrow_enough(ratios: Sequence[float], error: float, threshold: float) -> bool:
    """Return True if the interval is narrow enough to stop measuring. The verdict has no influence."""
    at_error = interval(ratios, error)
    return at_error is not None and at_error.half_width <= threshold / 2


def holm(least: Sequence[float], error: float) -> list[float]:
    """Return the level (the allowed error) of each comparison by Holm's step-down procedure.

    ``least`` has, for each comparison, the smallest error at which the verdict is decided. The comparisons are
    judged in the order of these errors. A level is ``error`` divided by the number of comparisons not yet judged. The
    procedure stops at the first inconclusive comparison: all later comparisons get the same level as this comparison.
    """
    levels = [0.0] * len(least)
    left, stopped = len(least), False
    for index in sorted(range(len(least)), key=least.__getitem__):
        levels[index] = error / left
        stopped = stopped or least[index] > levels[index]
        left -= 0 if stopped else 1
    return levels


def verdict_of(interval: Interval | None, threshold: float) -> Verdict:
    """Return the verdict whose range contains the whole interval; ``INCONCLUSIVE`` if there is no such verdict."""
    if interval is None:
        return Verdict.INCONCLUSIVE
    if interval.high < 1 - threshold:
        return Verdict.FASTER
    if interval.low > 1 + threshold:
        return Verdict.SLOWER
    within = 1 - threshold <= interval.low and interval.high <= 1 + threshold
    return Verdict.EQUIVALENT if within else Verdict.INCONCLUSIVE


def decisive_error(interval_at: Callable[[float], Interval | None], threshold: float) -> float:
    """Return the smallest error, within 0.1 %, at which ``interval_at(error)`` decides the verdict; 1 if none does."""
    low, high = math.log(1e-15), 0.0
    if verdict_of(interval_at(1.0), threshold) is Verdict.INCONCLUSIVE:
        return 1.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        if verdict_of(interval_at(math.exp(middle)), threshold) is Verdict.INCONCLUSIVE:
            low = middle
        else:
            high = middle
    return math.exp(high)


@lru_cache(maxsize=1024)
def interval_errors(count: int) -> tuple[float, ...]:
    """Return the errors of the intervals that leave out 0, 1, 2, ... of ``count`` ratios at each end."""
    # Each error is twice the probability of at most 0, 1, 2, ... heads in `count` tosses of a fair coin.
    errors, ways, ways_up_to, all_ways = [], 1, 0, 1 << count
    for heads in range((count + 1) // 2):
        ways_up_to += ways
        errors.append(2 * ways_up_to / all_ways)
        ways = ways * (count - heads) // (heads + 1)
        # The error is a float, so these numbers need only their first digits. Thousands of digits would take seconds.
        if ways_up_to >> (2 * _ENOUGH_BITS):
            ways, ways_up_to, all_ways = (number >> _ENOUGH_BITS for number in (ways, ways_up_to, all_ways))
    return tuple(errors)
