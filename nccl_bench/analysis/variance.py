"""Communicator variance: how much two communicators made alike differ, as a twin shows it.

A twin is the baseline made a second time. What differs between an arm and its own twin is no effect of the arm, so a
comparison that does not exceed this noise floor gets no verdict.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import fmean, median

from nccl_bench.analysis.comparable import ComparableRun, Place
from nccl_bench.analysis.statistics import Interval, Verdict, interval, verdict_of
from nccl_bench.catalog.arms import TWIN_SUFFIX, twin_of

# Standard deviations. A normal variable is beyond 3 at one size in 370, but beyond 2 at some of 14 sizes in every other
# sweep.
_USUAL_DEVIATIONS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseFloor:
    """The distance of a ratio from 1, up or down, that communicator variance alone explains; in logarithms."""

    reach: float  # the farther end of the twin's interval at this size
    usual: float  # how far a twin of this kind of case usually is, at any size

    @property
    def share(self) -> float:
        """The reach as a share: 1 is a factor of 2, up or down."""
        return math.expm1(self.reach)

    def allows(self, interval: Interval, ratio: float, threshold: float) -> bool:
        """Return True if the verdict of ``interval`` cannot come from communicator variance.

        A difference holds if ``ratio`` exceeds the reach, and ``interval`` still decides after the usual variance is
        taken off. An equivalence holds if the reach is within the threshold.
        """
        verdict, usual = verdict_of(interval, threshold), math.exp(self.usual)
        if verdict is Verdict.FASTER:
            return self.reach < -math.log(ratio) and interval.high * usual < 1 - threshold
        if verdict is Verdict.SLOWER:
            return self.reach < math.log(ratio) and interval.low / usual > 1 + threshold
        return self.share < threshold


class CommunicatorVariance:
    """The communicator variance within one run, from the twin of ``arm``, or from another twin if it has none."""

    def __init__(self, run: ComparableRun, arm: str) -> None:
        twins = sorted(
            {name for _, _, name in run.cells if name.endswith(TWIN_SUFFIX)},
            key=lambda name: (name != twin_of(arm), name),
        )
        self._ratios: dict[Place, list[float]] = {}
        for place in dict.fromkeys((case, timing) for case, timing, _ in run.cells):
            of_twins = (run.ratios(place, twin, twin.removesuffix(TWIN_SUFFIX)) for twin in twins)
            if ratios := next(filter(None, of_twins), None):
                self._ratios[place] = ratios
        self._medians = {place: median(map(math.log, ratios)) for place, ratios in self._ratios.items()}
        squares: dict[Place, list[float]] = {}
        for place, of_place in self._medians.items():
            squares.setdefault(_without_size(place), []).append(of_place**2)
        # A twin can be close at one size by chance, so all sizes of a sweep together show what is usual.
        self._usual = {kind: _USUAL_DEVIATIONS * math.sqrt(fmean(of_kind)) for kind, of_kind in squares.items()}

    def floor(self, place: Place, error: float) -> NoiseFloor | None:
        """Return the noise floor of any two arms of the run, with the twin's interval at ``error``.

        Both a comparison and a twin's ratio contain two communicators. Returns ``None`` if no size of this kind of case
        has a twin.
        """
        usual = self._usual.get(_without_size(place))
        if usual is None:
            return None
        ratios = self._ratios.get(place)
        if ratios is None:
            return NoiseFloor(reach=usual, usual=usual)
        of_twin = interval(ratios, error)
        # Rounds may be too few for an interval at this level; then the extremes of the twin count.
        low, high = (of_twin.low, of_twin.high) if of_twin else (min(ratios), max(ratios))
        return NoiseFloor(reach=max(math.log(high), -math.log(low)), usual=max(abs(self._medians[place]), usual))


def combined(first: NoiseFloor | None, second: NoiseFloor | None) -> NoiseFloor | None:
    """Return the noise floor of a ratio of two runs' ratios; a run without a twin counts as the other one.

    Four communicators make the logarithm of that ratio: (new - shared) of one run less (new - shared) of the other. A
    twin's ratio has two of the four, and the runs are independent, so the squares add up.
    """
    first, second = first or second, second or first
    if first is None or second is None:
        return None
    return NoiseFloor(reach=math.hypot(first.reach, second.reach), usual=math.hypot(first.usual, second.usual))


def _without_size(place: Place) -> Place:
    case, timing = place
    return replace(case, size_bytes=0, count=0), timing
