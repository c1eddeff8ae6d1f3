"""The step times of two sides, each of one or more runs that measured one workload."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import geometric_mean

from nccl_bench.analysis.cells import Point
from nccl_bench.analysis.comparison import Basis, Comparison
from nccl_bench.analysis.estimates import Estimate, Medians, UnknownVariation, mean_ratios
from nccl_bench.analysis.judging import Claim
from nccl_bench.analysis.loading import LoadedRun
from nccl_bench.analysis.shared_arm import Factors, SharedTimes, unconfirmed
from nccl_bench.analysis.statistics import FAMILYWISE_ERROR
from nccl_bench.analysis.step_messages import other_groups
from nccl_bench.analysis.step_ratio import StepQuotient
from nccl_bench.analysis.step_run import StepNoise, StepRun
from nccl_bench.analysis.step_time import (
    ArmStep,
    Contribution,
    MissingMessage,
    StepPair,
    StepTime,
    judge_steps,
)
from nccl_bench.analysis.two_sides import SidesComparison
from nccl_bench.analysis.variance import combined
from nccl_bench.catalog.timings import TIMINGS
from nccl_bench.config.limits import Limits

# The comparison of each case and timing of a pair of arms.
_Compared = Mapping[Point, Comparison]


def step_time_of_sides(
    before: Sequence[LoadedRun], after: Sequence[LoadedRun], sides: SidesComparison, limits: Limits
) -> tuple[StepTime | None, str]:
    """Return the step times of two sides, and the reason if there are none. It is empty if no run has a workload."""
    every = [None if loaded.run is None else StepRun.of(loaded.run, loaded.comparable) for loaded in (*before, *after)]
    known = [step_run for step_run in every if step_run is not None]
    if not known:
        return None, ""
    if len(known) < len(every):
        return None, "No step time: only some of the runs measured a workload."
    first = known[0]
    if any(each.workload.calls_by_message != first.workload.calls_by_message for each in known):
        return None, "No step time: the runs measured different workloads: give runs of one workload."
    if len({each.run.world_size for each in known}) > 1:
        return None, "No step time: the runs have different numbers of ranks."
    two = _Sides(known[: len(before)], known[len(before) :], sides)
    pairs = list(dict.fromkeys((each.baseline, each.candidate) for each in sides.comparisons))
    steps = [two.pair(*pair, limits.default) for pair in pairs]
    return (
        StepTime(
            workload=first.workload,
            messages=first.messages,
            other_groups=other_groups(first.workload, first.run.world_size),
            shared_arm=sides.shared_arm,
            arms=tuple(arm for pair in steps for arm in (pair.baseline, pair.candidate)),
            comparisons=tuple(judge_steps(steps, limits.default, variation_is_known=sides.basis is not Basis.NOTHING)),
        ),
        "",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _OwnTimes:
    """The step times of an arm, and the step times of the shared arm."""

    baseline_us: float  # the step time before, microseconds
    candidate_us: float  # the step time after, microseconds
    shared: SharedTimes | None  # the step times of the shared arm


class _Sides:
    def __init__(self, before: Sequence[StepRun], after: Sequence[StepRun], sides: SidesComparison) -> None:
        self._before, self._after = before, after
        self._basis, self._shared = sides.basis, sides.shared_arm
        self._comparisons = sides.comparisons

    def pair(self, first: str, second: str, threshold: float) -> StepPair:
        compared = {
            (each.case, each.timing): each
            for each in self._comparisons
            if (each.baseline, each.candidate) == (first, second)
        }
        baseline, candidate = _arm_step(self._before, first), _arm_step(self._after, second)
        missing = tuple(
            MissingMessage(message=message, reason="not compared")
            for message in self._before[0].messages
            if message.point not in compared
            and message not in {each.message for each in (*baseline.missing, *candidate.missing)}
        )
        baseline = replace(baseline, missing=(*baseline.missing, *missing))
        claim: Claim | None = None
        if not baseline.missing and not candidate.missing and (estimate := self._estimate(first, second)) is not None:
            floor = self._floor(first, second)
            own = _OwnTimes(
                baseline_us=baseline.step_us, candidate_us=candidate.step_us, shared=self._shared_times(compared)
            )
            claim = Claim(
                estimate=estimate,
                threshold=threshold,
                noise_floor=None if floor is None else math.expm1(floor),
                needs_noise_floor=self._basis is Basis.SHARED_ARM,
                cpu_speeds_differ=self._basis is Basis.SHARED_ARM and self._differ_in_cpu_speed(first, second),
                unconfirmed=unconfirmed([own], threshold),
            )
        return StepPair(
            baseline=baseline,
            candidate=candidate,
            contributions=tuple(self._contributions(compared)),
            claim=claim,
        )

    def _estimate(self, first: str, second: str) -> Estimate | None:
        if self._basis is Basis.SHARED_ARM and self._shared is not None:
            (before,), (after,) = self._before, self._after
            ratios = [
                step_run.ratio(step_run.comparable, arm, self._shared)
                for step_run, arm in ((before, first), (after, second))
            ]
            quotient = [ratio for ratio in ratios if ratio is not None]
            return StepQuotient(*quotient) if len(quotient) == 2 else None
        sides = tuple(self._values(side, arm) for side, arm in ((self._before, first), (self._after, second)))
        if not all(sides):
            return None
        if self._basis is Basis.NOTHING:
            return UnknownVariation(*sides)
        return mean_ratios([Medians(kind=(first, second), sides=sides)])[0]

    def _values(self, side: Sequence[StepRun], arm: str) -> list[float]:
        """Return the step time of ``arm`` in each launch of ``side``, relative to the shared arm if there is one."""
        if self._shared is None:
            return [time_us for step_run in side for time_us in step_run.sums_us(arm)]
        ratios = (step_run.ratio(launch, arm, self._shared) for step_run in side for launch in step_run.launches)
        return [ratio.ratio for ratio in ratios if ratio is not None]

    def _floor(self, first: str, second: str) -> float | None:
        if self._basis is not Basis.SHARED_ARM or self._shared is None:
            return None
        floors = [
            StepNoise(step_run, self._shared).floor(
                in_different_processes=step_run.comparable.in_different_processes(arm, self._shared)
            )
            for step_run, arm in ((self._before[0], first), (self._after[0], second))
        ]
        return combined(*floors)

    def _differ_in_cpu_speed(self, first: str, second: str) -> bool:
        assert self._shared is not None
        return self._before[0].differ_in_cpu_speed(first, self._shared) or self._after[0].differ_in_cpu_speed(
            second, self._shared
        )

    def _shared_times(self, compared: _Compared) -> SharedTimes | None:
        """Return the step times of the shared arm on both sides; ``None`` if no arm is shared."""
        if self._shared is None:
            return None
        before, after = (_arm_step(side, self._shared) for side in (self._before, self._after))
        sure = after.step_us / before.step_us
        if before.interval is not None and after.interval is not None:
            low = after.interval.low / before.interval.high
            high = after.interval.high / before.interval.low
            sure = min(max(low, 1.0), high)
        follows_cpu = self._basis is Basis.SHARED_ARM and any(
            TIMINGS[each].includes_launch_cost for _, each in compared
        )
        return SharedTimes(
            arm=self._shared,
            before_us=before.step_us,
            after_us=after.step_us,
            sure_ratio=sure,
            follows_cpu=follows_cpu,
            cpu_factors=self._cpu_factors(compared),
        )

    def _cpu_factors(self, compared: _Compared) -> Factors | None:
        """Return the factors by which the CPU's speed can have changed messages of the shared arm.

        Returns ``None`` if messages with factors have at most half of the step time: then step times show the change.
        """
        calls = self._before[0].calls
        weights = {point: calls[point] * each.baseline_us for point, each in compared.items() if point in calls}
        factors = {
            point: each.shared.cpu_factors
            for point, each in compared.items()
            if each.shared is not None and each.shared.cpu_factors is not None and point in weights
        }
        if 2 * sum(weights[point] for point in factors) <= sum(weights.values()):
            return None
        ends = [end for of_point in factors.values() if of_point is not None for end in of_point]
        return min(ends), max(ends)

    def _contributions(self, compared: _Compared) -> Iterator[Contribution]:
        for message in self._before[0].messages:
            if message.point is not None and message.point in compared:
                each = compared[message.point]
                yield Contribution(
                    message=message,
                    baseline_us=message.calls * each.baseline_us,
                    candidate_us=message.calls * each.candidate_us,
                    ratio=each.ratio,
                )


def _arm_step(side: Sequence[StepRun], arm: str) -> ArmStep:
    """Return the step time of ``arm`` in the runs of a side."""
    of_runs = [step_run.arm_step(arm) for step_run in side]
    if len(of_runs) == 1:
        return of_runs[0]
    missing = tuple(dict.fromkeys(each for of_run in of_runs for each in of_run.missing))
    sums = [time_us for step_run in side for time_us in step_run.sums_us(arm)]
    if missing or not sums:
        return ArmStep(
            arm=arm,
            step_us=geometric_mean([max(each.step_us, 1e-9) for each in of_runs]),
            interval=None,
            missing=missing,
        )
    (estimate,) = mean_ratios([Medians(kind=arm, sides=(sums,))])
    return ArmStep(arm=arm, step_us=estimate.ratio, interval=estimate.interval(FAMILYWISE_ERROR), missing=())
