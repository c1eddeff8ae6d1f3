"""Find out which times wait for the CPU, and which times wait only for the device.

A time that waits for the CPU depends on the CPU's speed. An eager time that is no longer than the time of the device
alone does not depend on the CPU's speed.
"""

from collections.abc import Iterable, Sequence
from statistics import median

from nccl_bench.analysis.cells import Point
from nccl_bench.analysis.comparable import ComparableRun, medians_us
from nccl_bench.analysis.shared_arm import Factors
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import TIMINGS, Timing

# An eager time waits for the device if it is longer than the device's own time by at most this share.
_LAUNCH_SHARE = 0.05
# The timings of the device alone. If several of them were measured, the first one is used.
_DEVICE_TIMINGS = tuple(timing for timing in Timing if not TIMINGS[timing].includes_launch_cost)
# Any factor is possible, because no time shows how the speed of the CPU changed.
_UNKNOWN: Factors = (0.0, float("inf"))


class CpuWaits:
    """The times of two sides that wait for the CPU, and how such times of the shared arm changed."""

    def __init__(
        self, before: Sequence[ComparableRun], after: Sequence[ComparableRun], shared_arm: str, points: Iterable[Point]
    ) -> None:
        self._sides = (before, after)
        self._shared_arm = shared_arm
        self._ratios: dict[Case, list[float]] = {}
        for point in points:
            if all(self._waits(side, point, shared_arm) for side in self._sides):
                first, second = (median(medians_us(side, point, shared_arm)) for side in self._sides)
                self._ratios.setdefault(point[0].kind, []).append(second / first)

    def factors(self, point: Point, baseline: str, candidate: str) -> Factors | None:
        """Return the smallest and the largest factor by which the CPU changed times of the shared arm.

        ``baseline`` is the arm before, and ``candidate`` the arm after. Returns ``None`` if neither of them waits for
        the CPU. Returns ``None`` also if the shared arm waits for the CPU at ``point``: then its time shows the change.
        """
        arms = zip(self._sides, (baseline, candidate), strict=True)
        # If no time of the device is known, the time of the shared arm counts as waiting for the CPU.
        if all(self._waits(side, point, self._shared_arm) is not False for side in self._sides):
            return None
        if not any(self._waits(side, point, arm) for side, arm in arms):
            return None
        ratios = self._ratios.get(point[0].kind)
        return (min(ratios), max(ratios)) if ratios else _UNKNOWN

    def _waits(self, side: Sequence[ComparableRun], point: Point, arm: str) -> bool | None:
        """Return True if the time of ``arm`` waits for the CPU; ``None`` if no time of the device is known."""
        case, timing = point
        if not TIMINGS[timing].includes_launch_cost:
            return False
        if not TIMINGS[timing].moves_bytes:
            return True
        times = medians_us(side, point, arm)
        of_device = (medians_us(side, (case, of_timing), arm) for of_timing in _DEVICE_TIMINGS)
        alone = next(filter(None, of_device), None)
        return median(times) > (1 + _LAUNCH_SHARE) * median(alone) if times and alone else None
