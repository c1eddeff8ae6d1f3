"""Communicator variance: the difference between two communicators that were made alike.

A twin is the baseline made a second time. How far the twin differs from the baseline shows the variance and sets the
noise floor. The twin at one size is a single draw of that variance, so the noise floor is pooled: over the sizes of a
timing, and over the timings of a run.

The twin's mean over a band of sizes varies like a candidate's mean over that band. So the noise floor of a band comes
from the twin's means over all bands of that length. Where only one band is that long, the means of the other timings
help. ``python -m tests.experiments.bands`` shows how often verdicts are right with this noise floor.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist, fmean

from nccl_bench.analysis.cells import Point
from nccl_bench.analysis.comparable import ComparableRun, without_size
from nccl_bench.analysis.paired_ratios import PairedColumns
from nccl_bench.analysis.student import student_quantile
from nccl_bench.catalog.arms import TWIN_SUFFIX, twin_of
from nccl_bench.catalog.timings import TIMINGS, Timing

# The allowed probability that communicator variance exceeds the noise floor on one side: for the floor from bands of
# one timing, and for the floor from the means of all timings.
_ERROR_OF_BANDS = 0.05
_ERROR_OF_MEANS = 0.03
# The distance from 1 of the twin's mean over all sizes of a timing, on quiet machines (2x H200). It counts as much as
# the mean of one more timing, because a single mean can be near 1 by chance. It does not count if the machine is not
# quiet: if the means of the run are usually more than three times as far from 1.
_USUAL_MEAN = 0.003
_MOST_OF_QUIET = 3 * _USUAL_MEAN


@dataclass(frozen=True, slots=True, kw_only=True)
class _Twin:
    """The twin's ratios in one kind of case and one timing; all numbers are logarithms."""

    medians: Sequence[float]  # the median ratio of each size, the smallest size first
    sampling_error: float  # the standard error of the mean of ``medians``, because there are few rounds

    @property
    def mean(self) -> float:
        return fmean(self.medians)

    @property
    def scatter(self) -> float:
        """The usual distance of one size's ratio from the mean of all sizes, as a logarithm."""
        mean = self.mean
        return math.sqrt(fmean((value - mean) ** 2 for value in self.medians))

    @property
    def weight(self) -> float:
        """The weight of the mean beside means of other timings: 1 if rounds hardly vary, 0 if they vary much."""
        return _USUAL_MEAN**2 / (_USUAL_MEAN**2 + self.sampling_error**2)

    def usual(self, sizes: int) -> float:
        """Return the usual distance from 1 of the twin's mean over ``sizes`` neighbouring sizes."""
        sizes = min(sizes, len(self.medians))
        of_one = fmean(value**2 for value in self.medians)
        total = sum(self.medians[:sizes])
        squares = [total**2]
        for first, after in zip(self.medians, self.medians[sizes:], strict=False):
            total += after - first
            squares.append(total**2)
        # The few long bands can be near 1 by chance. So take at least the variance that independent sizes would have.
        variance = max(fmean(squares) / sizes**2, of_one / sizes)
        return math.sqrt(max(0.0, variance - self.sampling_error**2 * len(self.medians) / sizes))

    def floor(self, sizes: int) -> float:
        """Return the distance from 1 that no band of ``sizes`` sizes exceeds, with high probability."""
        bands = max(1.0, len(self.medians) / sizes)
        return NormalDist().inv_cdf(1 - _ERROR_OF_BANDS / bands) * self.usual(sizes)


class CommunicatorVariance:
    """The communicator variance within one run, from the twin of ``arm``; if ``arm`` has no twin, from another twin."""

    def __init__(self, run: ComparableRun, arm: str) -> None:
        cells = run.cells
        twins = sorted(
            {name for name in cells.arm.distinct() if name.endswith(TWIN_SUFFIX)},
            key=lambda name: (name != twin_of(arm), name),
        )
        # The ratio of each size, and its deviation.
        ratios: dict[Point, dict[int, tuple[float, float | None]]] = {}
        self._apart = False
        # The first twin is that of `arm`. Each size needs only one twin.
        for twin in twins:
            base = twin.removesuffix(TWIN_SUFFIX)
            paired = cells.paired([twin], base)
            estimates = PairedColumns(paired.of_cells)
            for line, ratio, deviation in zip(
                paired.lines[paired.starts].tolist(), estimates.ratios, estimates.deviations, strict=True
            ):
                case, timing, _ = cells.of_lines[line]
                of_kind = ratios.setdefault((case.kind, timing), {})
                if case.size_bytes not in of_kind:
                    of_kind[case.size_bytes] = (ratio, deviation)
                    self._apart = self._apart or run.in_different_processes(twin, base)
        self._twins = {kind: _twin([of_kind[size] for size in sorted(of_kind)]) for kind, of_kind in ratios.items()}
        # A kind can have hundreds of sizes, and each of them needs the scatter.
        self._scatters = {kind: twin.scatter for kind, twin in self._twins.items()}
        self._floors: dict[tuple[Point, int, bool], float] = {}

    def floor(self, point: Point, sizes: int, *, in_different_processes: bool = False) -> float | None:
        """Return the noise floor of a band with ``sizes`` sizes of the kind of ``point``, as a logarithm.

        The floor is the same for every pair of arms: every ratio, including the twin's, compares two communicators and
        contains the variance of both. If the arms of the pair ran ``in_different_processes``, the floor is at least the
        largest deviation of the twin at any size, because the twin's process is one example of how processes differ.
        Returns ``None`` if no size has times of a twin.
        """
        kind = without_size(point)
        twin = self._twins.get(kind)
        if twin is None:
            return None
        key = (kind, sizes, in_different_processes)
        floor = self._floors.get(key)
        if floor is None:
            floor = max(twin.floor(sizes), self._floor_of_run(kind))
            self._floors[key] = floor = max(floor, *map(abs, twin.medians)) if in_different_processes else floor
        return floor

    def scatter(self, point: Point) -> float:
        """Return how far the twin's ratio of one size usually lies from the mean of all sizes, as a logarithm."""
        return self._scatters.get(without_size(point), 0.0)

    def _floor_of_run(self, kind: Point) -> float:
        """Return the distance from 1 that the mean over all sizes of a timing does not exceed, with high probability.

        The distance comes from the means of all timings. But if the twin has processes of its own, they can differ in
        CPU speed. Then there are two groups of timings: timings that depend on the CPU's speed, and the others. Only
        the group of this timing counts.
        """
        case, timing = kind
        twins = [self._twins.get((case, other)) for other in Timing if not self._apart or _alike(timing, other)]
        known = [twin for twin in twins if twin is not None]
        looks = sum(twin.weight for twin in known)
        squares = sum(twin.weight * twin.mean**2 for twin in known)
        if squares <= max(1.0, looks) * _MOST_OF_QUIET**2:
            looks, squares = looks + 1, squares + _USUAL_MEAN**2
        else:
            # The quantile of a single mean would allow no verdict at all.
            looks = max(2.0, looks)
        return student_quantile(2 * _ERROR_OF_MEANS, looks) * math.sqrt(squares / looks)


def combined(first: float | None, second: float | None) -> float | None:
    """Return the noise floor of a quotient: the ratio of one run divided by the ratio of another run.

    A run without a twin gets the other run's floor. The quotient contains the variance of four communicators, two of
    each run. The runs are independent, so the squares of the logarithms add up.
    """
    first = second if first is None else first
    second = first if second is None else second
    return None if first is None or second is None else math.hypot(first, second)


def _twin(ratios: Sequence[tuple[float, float | None]]) -> _Twin:
    medians = [math.log(ratio) for ratio, _ in ratios]
    errors = [deviation or 0.0 for _, deviation in ratios]
    return _Twin(medians=medians, sampling_error=math.sqrt(sum(error**2 for error in errors)) / len(errors))


@lru_cache
def _alike(first: Timing, second: Timing) -> bool:
    return TIMINGS[first].includes_launch_cost == TIMINGS[second].includes_launch_cost
