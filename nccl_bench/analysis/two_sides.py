"""Comparisons of two sides, each of one or more runs.

Rounds of two runs are not paired, so a verdict needs the variation between runs. Several runs on each side show this
variation, and so do several launches of one run. With one launch on each side, all times are divided by the time of an
arm that both runs measured. Such quotients do not depend on the machine's clock rate, if it changes the times of both
arms by the same factor: see `shared_arm`. Without a shared arm there are no verdicts, only median ratios.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from nccl_bench.analysis.arm_pairs import ArmPairs, Noise, PairKind, compare_pairs
from nccl_bench.analysis.cells import Cell, Point
from nccl_bench.analysis.comparable import ComparableRun, medians_us, without_size
from nccl_bench.analysis.comparison import Basis, Comparison
from nccl_bench.analysis.cpu_waits import CpuWaits
from nccl_bench.analysis.estimates import Estimate, EstimateList, Medians, RelativeRatios, UnknownVariation, mean_ratios
from nccl_bench.analysis.shared_arm import SharedTimes
from nccl_bench.analysis.variance import CommunicatorVariance, combined
from nccl_bench.analysis.wording import counted
from nccl_bench.catalog.arms import TWIN_SUFFIX, fair_pair
from nccl_bench.catalog.timings import TIMINGS
from nccl_bench.config.limits import Limits
from nccl_bench.records.columns import ValueColumn

Side = Sequence[ComparableRun]
# The point, the arm before and the arm after.
_Key = tuple[Point, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SidesComparison:
    """All comparisons of two sides, and the cells that have no counterpart."""

    basis: Basis  # the data from which the verdicts are computed
    reason: str  # the basis in words, or the reason why there are no verdicts
    shared_arm: str | None  # the arm to which all times are relative; None if there is none
    shared_ratios: tuple[float, ...]  # ratios after / before of the shared arm; they get no verdicts
    comparisons: tuple[Comparison, ...]  # comparisons of the cells that every run has
    only_before: tuple[Cell, ...]  # cells of ``before`` that are not compared
    only_after: tuple[Cell, ...]  # cells of ``after`` that are not compared


def compare_sides(
    before: Side,
    after: Side,
    limits: Limits,
    *,
    arms: tuple[str, str] | None = None,
    shared_arm: str | None = None,
) -> SidesComparison:
    """Compare ``after`` with ``before``: every arm with itself, or the second of ``arms`` with the first.

    ``shared_arm`` is an arm that the change does not touch. Without ``shared_arm``, if a side has only one run and all
    runs have the same baseline, the baseline is the shared arm. Each ratio is a quotient of medians, after / before.
    """
    if shared_arm is None and min(len(before), len(after)) == 1:
        shared_arm = _shared_baseline(before, after, arms)
    basis, reason = _basis(before, after, shared_arm)
    if basis is Basis.NOTHING:
        shared_arm = None
    keys = [
        (point, first, second)
        for first, second in ([arms] if arms else _arm_pairs(before, after, shared_arm))
        for point in dict.fromkeys((case, timing) for run in before for case, timing, arm in run.cells if arm == first)
        if _every_run_has(before, point, first, shared_arm) and _every_run_has(after, point, second, shared_arm)
        if shared_arm is None or _same_placement((*before, *after), point, shared_arm)
    ]
    estimates = _estimates(_launches(before), _launches(after), basis, shared_arm, keys)
    shared_times: dict[Point, SharedTimes] = {}
    if shared_arm is not None:
        for point in dict.fromkeys(point for point, _, _ in keys):
            first, second = (
                [us for run in side for us in run.cells[*point, shared_arm].values()] for side in (before, after)
            )
            # With several runs, the interval already contains the difference in CPU speed between runs.
            follows_cpu = basis is Basis.SHARED_ARM and TIMINGS[point[1]].includes_launch_cost
            shared_times[point] = SharedTimes.of(shared_arm, first, second, follows_cpu=follows_cpu)
    waits = CpuWaits(before, after, shared_arm, shared_times) if basis is Basis.SHARED_ARM and shared_arm else None

    def shared_at(point: Point, first: str, second: str) -> SharedTimes:
        times = shared_times[point]
        return replace(times, cpu_factors=waits.factors(point, first, second)) if waits else times

    pairs = ArmPairs(
        case=ValueColumn.of([case for (case, _), _, _ in keys]),
        timing=ValueColumn.of([timing for (_, timing), _, _ in keys]),
        baseline=ValueColumn.of([first for _, first, _ in keys]),
        candidate=ValueColumn.of([second for _, _, second in keys]),
        baseline_us=[median(medians_us(before, point, first)) for point, first, _ in keys],
        candidate_us=[median(medians_us(after, point, second)) for point, _, second in keys],
        estimates=EstimateList(estimates),
        placements=[
            (before[0].placement(point, first), after[0].placement(point, second)) for point, first, second in keys
        ],
        kernels=[before[0].kernels_with((*point, first), after[0], (*point, second)) for point, first, second in keys],
        launches=[1] * len(keys),
        in_different_processes=np.array(
            [
                _in_different_processes(before, first, shared_arm) or _in_different_processes(after, second, shared_arm)
                for _, first, second in keys
            ],
            dtype=bool,
        ),
        shared=None if shared_arm is None else [shared_at(*key) for key in keys],
    )
    # Every run makes its own communicators, so intervals over several runs contain communicator variance.
    noise = None
    if basis is Basis.SHARED_ARM and shared_arm is not None:
        noise = _NoiseOfSides(before[0], after[0], shared_arm)
    return SidesComparison(
        basis=basis,
        reason=reason,
        shared_arm=shared_arm,
        shared_ratios=tuple(times.ratio for times in shared_times.values()),
        comparisons=compare_pairs(pairs, limits, basis, noise),
        only_before=_not_compared(before, shared_arm, arms and arms[0], {(*point, first) for point, first, _ in keys}),
        only_after=_not_compared(after, shared_arm, arms and arms[1], {(*point, second) for point, _, second in keys}),
    )


def _basis(before: Side, after: Side, shared_arm: str | None) -> tuple[Basis, str]:
    if any(run.medians_only for run in (*before, *after)):
        return (
            Basis.NOTHING,
            "at least one run has a single time for each cell, like a summary or another tool's file, so it is "
            "unknown how much times vary: give the directories of all runs",
        )
    launches = [len(_launches(side)) for side in (before, after)]
    if max(launches) > 1:
        relative = f", relative to the arm {shared_arm}" if shared_arm is not None else ""
        noun = "run" if launches == [len(before), len(after)] else "launch"
        return Basis.RUNS, f"{counted(launches[0], noun)} before and {counted(launches[1], noun)} after{relative}"
    if shared_arm is None:
        return (
            Basis.NOTHING,
            "each side has only one run, and no unchanged arm in common shows changes of the machine: give several "
            "runs on each side, or measure in both runs an arm that the change does not touch (--shared)",
        )
    return Basis.SHARED_ARM, f"one run on each side, relative to the arm {shared_arm} in the same round"


def _shared_baseline(before: Side, after: Side, arms: tuple[str, str] | None) -> str | None:
    baselines = {run.arms[0] for run in (*before, *after)}
    common = set.intersection(*(set(run.arms) for run in (*before, *after)))
    # The shared arm is never compared. So the baseline is not the shared arm if the runs have no other arm in common.
    if len(baselines) == 1 and (arms or len(common) > 1) and not baselines & set(arms or ()):
        return baselines.pop()
    return None


def _launches(side: Side) -> list[ComparableRun]:
    return [launch for run in side for launch in run.launches()]


class _NoiseOfSides(Noise):
    """The communicator variance of ratios of two runs."""

    def __init__(self, before: ComparableRun, after: ComparableRun, shared_arm: str) -> None:
        self._variances = [(run, CommunicatorVariance(run, shared_arm)) for run in (before, after)]
        self._shared_arm = shared_arm

    def floor(self, kind: PairKind, sizes: int) -> float | None:
        first, second = (
            variance.floor(kind.point, sizes, in_different_processes=run.in_different_processes(arm, self._shared_arm))
            for (run, variance), arm in zip(self._variances, (kind.baseline, kind.candidate), strict=True)
        )
        return combined(first, second)

    def scatter(self, kind: PairKind) -> float:
        return math.hypot(*(variance.scatter(kind.point) for _, variance in self._variances))


def _in_different_processes(side: Side, arm: str, shared_arm: str | None) -> bool:
    """Return True if a run of ``side`` divides times of ``arm`` by times of other processes."""
    return shared_arm is not None and any(run.in_different_processes(arm, shared_arm) for run in side)


def _estimates(before: Side, after: Side, basis: Basis, shared_arm: str | None, keys: Sequence[_Key]) -> list[Estimate]:
    """Return the estimated ratio, after / before, for each of ``keys``. Here each launch counts as a run."""
    if basis is Basis.SHARED_ARM and shared_arm is not None:
        return [
            RelativeRatios(before[0].ratios(point, first, shared_arm), after[0].ratios(point, second, shared_arm))
            for point, first, second in keys
        ]
    sides = [
        (_medians(before, point, first, shared_arm), _medians(after, point, second, shared_arm))
        for point, first, second in keys
    ]
    if basis is Basis.NOTHING:
        return [UnknownVariation(*of_key) for of_key in sides]
    kinds = [(without_size(point), first, second) for point, first, second in keys]
    return list(mean_ratios([Medians(kind=kind, sides=of_key) for kind, of_key in zip(kinds, sides, strict=True)]))


def _medians(side: Side, point: Point, arm: str, shared_arm: str | None) -> list[float]:
    """Return the median time of ``arm`` in each run, divided by that of ``shared_arm`` if there is one."""
    if shared_arm is None:
        return medians_us(side, point, arm)
    times = [(run.median_us(point, arm), run.median_us(point, shared_arm)) for run in side]
    return [time_us / base_us for time_us, base_us in times if time_us is not None and base_us is not None]


def _arm_pairs(before: Side, after: Side, shared_arm: str | None) -> list[tuple[str, str]]:
    """Pair each arm that all runs have with itself. Without such an arm, pair each arm before with each arm after.

    If another tool and the arm that calls NCCL in the same way are a pair, this pair is the first.
    """
    first, second = (
        [arm for arm in side[0].arms if arm != shared_arm and all(arm in run.arms for run in side)]
        for side in (before, after)
    )
    common = [(arm, arm) for arm in first if arm in second]
    pairs = common or [(baseline, candidate) for baseline in first for candidate in second]
    return sorted(pairs, key=lambda pair: fair_pair(*pair) is None)


def _every_run_has(side: Side, point: Point, arm: str, shared_arm: str | None) -> bool:
    """Return True if each run of ``side`` has a round with both arms, and calls ``arm`` in the same placement.

    Without ``shared_arm``, a round with ``arm`` is enough.
    """
    have = all((*point, arm) in run.cells if shared_arm is None else run.ratios(point, arm, shared_arm) for run in side)
    return have and _same_placement(side, point, arm)


def _same_placement(runs: Side, point: Point, arm: str) -> bool:
    """Return True if all runs called ``arm`` in the same placement.

    Times of calls in different placements are not compared.
    """
    return len({run.placement(point, arm) for run in runs}) == 1


def _not_compared(side: Side, shared_arm: str | None, arm: str | None, compared: set[Cell]) -> tuple[Cell, ...]:
    """Return the cells of ``arm`` (``None``: of all arms) that are not compared; omit twins and the shared arm."""
    cells = dict.fromkeys(cell for run in side for cell in run.cells if not cell[2].endswith(TWIN_SUFFIX))
    return tuple(cell for cell in cells if cell not in compared and cell[2] != shared_arm and arm in (None, cell[2]))
