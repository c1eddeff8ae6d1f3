"""Communicator variance: the difference between two communicators that were made alike.

A twin is the baseline made a second time. How far the twin differs from the baseline shows the variance and sets the
noise floor. A difference between two arms counts if it exceeds the noise floor.
"""

import math
from dataclasses import dataclass
from statistics import fmean, median

from nccl_bench.analysis.comparable import ComparableRun, Point, without_size
from nccl_bench.analysis.statistics import Interval, Verdict, interval, verdict_of
from nccl_bench.catalog.arms import TWIN_SUFFIX, twin_of

# By chance, 1 of 370 sizes is beyond 3 standard deviations; half of all sweeps of 14 sizes have a size beyond 2.
_USUAL_DEVIATIONS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseFloor:
    """The distance from 1 that a ratio can have from communicator variance alone; all fields are logarithms."""

    reach: float  # distance from 1 to the farther end of the twin's interval at this size; see `floor` for processes
    usual: float  # usual distance of the twin's ratio from 1, over all sizes

    @property
    def share(self) -> float:
        """The field ``reach`` as a share: 0.25 is a factor of 1.25, up or down."""
        return math.expm1(self.reach)

    def allows(self, interval: Interval, ratio: float, threshold: float) -> bool:
        """Return True if the verdict of ``interval`` cannot come from communicator variance.

        ``faster`` and ``slower`` need a ``ratio`` farther from 1 than ``reach``. In addition, ``interval`` must give
        the same verdict after ``usual`` is taken off. ``equivalent`` needs a ``share`` below the threshold.
        """
        verdict, usual = verdict_of(interval, threshold), math.exp(self.usual)
        if verdict is Verdict.FASTER:
            return self.reach < -math.log(ratio) and interval.high * usual < 1 - threshold
        if verdict is Verdict.SLOWER:
            return self.reach < math.log(ratio) and interval.low / usual > 1 + threshold
        return self.share < threshold


class CommunicatorVariance:
    """The communicator variance within one run, from the twin of ``arm``; if ``arm`` has no twin, from another twin."""

    def __init__(self, run: ComparableRun, arm: str) -> None:
        twins = sorted(
            {name for _, _, name in run.cells if name.endswith(TWIN_SUFFIX)},
            key=lambda name: (name != twin_of(arm), name),
        )
        self._ratios: dict[Point, list[float]] = {}
        for point in dict.fromkeys((case, timing) for case, timing, _ in run.cells):
            of_twins = (run.ratios(point, twin, twin.removesuffix(TWIN_SUFFIX)) for twin in twins)
            if ratios := next(filter(None, of_twins), None):
                self._ratios[point] = ratios
        self._medians = {point: median(map(math.log, ratios)) for point, ratios in self._ratios.items()}
        distances: dict[Point, list[float]] = {}
        for point, of_point in self._medians.items():
            distances.setdefault(without_size(point), []).append(abs(of_point))
        # At one size the twin's ratio can be near 1 by chance, so the usual distance comes from all sizes.
        self._usual = {
            kind: _USUAL_DEVIATIONS * math.sqrt(fmean(distance**2 for distance in of_kind))
            for kind, of_kind in distances.items()
        }
        self._largest = {kind: max(of_kind) for kind, of_kind in distances.items()}

    def floor(self, point: Point, error: float, *, in_different_processes: bool = False) -> NoiseFloor | None:
        """Return the noise floor of a case and timing, from the twin's interval with error probability ``error``.

        The floor is the same for every pair of arms: every ratio, including the twin's, compares two communicators and
        contains the variance of both. If the arms of the pair ran ``in_different_processes``, the floor also covers the
        largest deviation of the twin at any size: the process of the twin is one draw of what differs between
        processes. Returns ``None`` if no size has times of a twin.
        """
        usual = self._usual.get(without_size(point))
        if usual is None:
            return None
        ratios = self._ratios.get(point)
        if ratios is None:
            return NoiseFloor(reach=usual, usual=usual)
        of_twin = interval(ratios, error)
        # With too few rounds for an interval at `error`, use the twin's smallest and largest ratios.
        low, high = (of_twin.low, of_twin.high) if of_twin else (min(ratios), max(ratios))
        reach = max(math.log(high), -math.log(low))
        if in_different_processes:
            reach = max(reach, self._largest[without_size(point)])
        return NoiseFloor(reach=reach, usual=max(abs(self._medians[point]), usual))


def combined(first: NoiseFloor | None, second: NoiseFloor | None) -> NoiseFloor | None:
    """Return the noise floor of a quotient: the ratio of one run divided by the ratio of another run.

    A run without a twin gets the other run's floor. The quotient contains the variance of four communicators, two of
    each run. The runs are independent, so the squares of the logarithms add up.
    """
    first, second = first or second, second or first
    if first is None or second is None:
        return None
    return NoiseFloor(reach=math.hypot(first.reach, second.reach), usual=math.hypot(first.usual, second.usual))
