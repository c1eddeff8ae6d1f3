"""The step times of one run, and the comparison of its arms."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

from nccl_bench.analysis.cells import Point
from nccl_bench.analysis.comparable import ComparableRun, without_size
from nccl_bench.analysis.estimates import Estimate, Medians, mean_ratios
from nccl_bench.analysis.judging import Claim
from nccl_bench.analysis.paired_ratios import median_ratio
from nccl_bench.analysis.statistics import FAMILYWISE_ERROR
from nccl_bench.analysis.step_messages import (
    other_groups,
    reason_without_time,
    step_messages,
    workload_of_run,
)
from nccl_bench.analysis.step_ratio import MedianSum, StepRatio, Summand, Term
from nccl_bench.analysis.step_time import (
    ArmStep,
    Contribution,
    MissingMessage,
    StepPair,
    StepTime,
    judge_steps,
)
from nccl_bench.analysis.variance import CommunicatorVariance
from nccl_bench.catalog.arms import twin_of
from nccl_bench.catalog.timings import TIMINGS
from nccl_bench.config.limits import Limits
from nccl_bench.config.workload import Workload
from nccl_bench.records.run import Run


# No slots: the launches are computed once.
class StepRun:
    """A run that measured a workload."""

    def __init__(self, run: Run, comparable: ComparableRun, workload: Workload) -> None:
        self.run = run
        self.comparable = comparable
        self.workload = workload
        self.messages = step_messages(run, workload)

    @classmethod
    def of(cls, run: Run, comparable: ComparableRun) -> StepRun | None:
        """Return the step times of ``run``, whose times are ``comparable``; ``None`` without a measured workload."""
        workload = workload_of_run(run)
        step_run = None if workload is None else cls(run, comparable, workload)
        return step_run if step_run is not None and step_run.messages else None

    @cached_property
    def launches(self) -> Sequence[ComparableRun]:
        """The times of each launch."""
        return self.comparable.launches()

    @cached_property
    def calls(self) -> Mapping[Point, float]:
        """The calls in a step at each case and timing. Several messages can be rounded to the same case."""
        calls: dict[Point, float] = {}
        for message in self.messages:
            if message.point is not None:
                calls[message.point] = calls.get(message.point, 0.0) + message.calls
        return calls

    @property
    def is_measured(self) -> bool:
        """True if every message has a case."""
        return bool(self.messages) and all(message.point is not None for message in self.messages)

    def missing(self, arm: str) -> tuple[MissingMessage, ...]:
        """Return the messages that ``arm`` has no time for."""
        return tuple(
            MissingMessage(message=message, reason=reason_without_time(self.run, message, arm))
            for message in self.messages
            if message.point is None or (*message.point, arm) not in self.comparable.cells
        )

    def sums_us(self, arm: str) -> list[float]:
        """Return the step time of ``arm`` in each launch that has all messages, in microseconds."""
        sums = []
        for launch in self.launches:
            times = [(calls, launch.median_us(point, arm)) for point, calls in self.calls.items()]
            known = [calls * time_us for calls, time_us in times if time_us is not None]
            if self.is_measured and len(known) == len(times):
                sums.append(sum(known))
        return sums

    def arm_step(self, arm: str) -> ArmStep:
        """Return the step time of ``arm``."""
        missing = self.missing(arm)
        medians = [
            Summand(
                values=[*self.comparable.cells[*point, arm].values()],
                median=self.comparable.medians_us[*point, arm],
                factor=calls,
            )
            for point, calls in self.calls.items()
            if (*point, arm) in self.comparable.cells
        ]
        step_us = sum(each.factor * each.median for each in medians)
        sums = self.sums_us(arm)
        if missing or not sums:
            return ArmStep(arm=arm, step_us=step_us, interval=None, missing=missing)
        if len(self.launches) > 1:
            (estimate,) = mean_ratios([Medians(kind=arm, sides=(sums,))])
            return ArmStep(arm=arm, step_us=estimate.ratio, interval=estimate.interval(FAMILYWISE_ERROR), missing=())
        return ArmStep(
            arm=arm, step_us=step_us, interval=MedianSum(medians).interval(step_us, FAMILYWISE_ERROR), missing=()
        )

    def ratio(self, launch: ComparableRun, arm: str, base: str) -> StepRatio | None:
        """Return the ratio of the step times of two arms in a launch; ``None`` if a message has no common round."""
        ratios = {point: launch.ratios(point, arm, base) for point in self.calls}
        if not self.is_measured or not all(ratios.values()):
            return None
        return StepRatio(
            [
                Term(
                    calls=calls,
                    base_us=launch.medians_us[*point, base],
                    base_times_us=[*launch.cells[*point, base].values()],
                    ratios=ratios[point],
                )
                for point, calls in self.calls.items()
            ]
        )

    def contributions(self, arm: str, base: str) -> tuple[Contribution, ...]:
        """Return the messages that both arms have."""
        ratios = {
            point: median_ratio(of_point)
            for point in self.calls
            if (of_point := self.comparable.ratios(point, arm, base))
        }
        medians_us = self.comparable.medians_us
        return tuple(
            Contribution(
                message=message,
                baseline_us=message.calls * medians_us[*message.point, base],
                candidate_us=message.calls * medians_us[*message.point, arm],
                ratio=ratios[message.point],
            )
            for message in self.messages
            if message.point is not None and message.point in ratios
        )

    def differ_in_cpu_speed(self, arm: str, base: str) -> bool:
        """Return True if two processes with different CPU speeds can cause the ratio of two arms."""
        follows_cpu = any(TIMINGS[timing].includes_launch_cost for _, timing in self.calls)
        return follows_cpu and self.comparable.in_different_processes(arm, base)


class StepNoise:
    """The noise floor of step times, for a run of one launch. It comes from the twin of ``base`` or another twin."""

    def __init__(self, step_run: StepRun, base: str) -> None:
        self._variance = CommunicatorVariance(step_run.comparable, base)
        medians_us = step_run.comparable.medians_us
        self._weights = [
            (point, calls * medians_us[*point, base])
            for point, calls in step_run.calls.items()
            if (*point, base) in medians_us
        ]
        of_twin = step_run.ratio(step_run.comparable, twin_of(base), base)
        self._of_twin = 0.0 if of_twin is None else abs(math.log(of_twin.ratio))

    def floor(self, *, in_different_processes: bool) -> float | None:
        """Return the noise floor of the ratio of two step times, as a logarithm; ``None`` if no twin shows it.

        All messages of one kind and timing get the floor of a band. If they all take the same time, the band has as
        many sizes as there are messages. If a few messages take most of the time, the band has fewer sizes. The result
        is the mean of the floors, weighted by time, because communicators may deviate equally in all kinds and timings.
        """
        by_kind: dict[Point, list[float]] = {}
        for point, weight in self._weights:
            by_kind.setdefault(without_size(point), []).append(weight)
        total = 0.0
        for kind, weights in by_kind.items():
            sizes = max(1, round(sum(weights) ** 2 / sum(weight**2 for weight in weights)))
            floor = self._variance.floor(kind, sizes, in_different_processes=in_different_processes)
            if floor is None:
                return None
            total += floor * sum(weights)
        return max(self._of_twin, total / sum(weight for _, weight in self._weights)) if self._weights else None


def step_time(
    run: Run, comparable: ComparableRun, limits: Limits, baseline: str, candidates: Sequence[str]
) -> StepTime | None:
    """Return the step times of ``run``, whose times are ``comparable``; ``None`` if it measured no workload."""
    step_run = StepRun.of(run, comparable)
    if step_run is None:
        return None
    twin = twin_of(baseline)
    has_twin = any(name == twin for _, _, name in comparable.cells)
    steps = {name: step_run.arm_step(name) for name in (baseline, *candidates, *([twin] if has_twin else []))}
    noise = StepNoise(step_run, baseline) if len(step_run.launches) == 1 else None

    def pairs(arms: Iterable[str]) -> list[StepPair]:
        return [_pair(step_run, steps[arm], steps[baseline], limits.default, noise) for arm in arms]

    of_twin = judge_steps(pairs([twin]), limits.default) if has_twin else []
    return StepTime(
        workload=step_run.workload,
        messages=step_run.messages,
        other_groups=other_groups(step_run.workload, run.world_size),
        arms=tuple(steps[name] for name in (baseline, *candidates)),
        comparisons=tuple(judge_steps(pairs(candidates), limits.default)),
        twin=next(iter(of_twin), None),
    )


def _pair(
    step_run: StepRun, candidate: ArmStep, baseline: ArmStep, threshold: float, noise: StepNoise | None
) -> StepPair:
    arm, base = candidate.arm, baseline.arm
    of_launches = [step_run.ratio(launch, arm, base) for launch in step_run.launches]
    ratios = [ratio for ratio in of_launches if ratio is not None]
    claim: Claim | None = None
    if ratios and not baseline.missing and not candidate.missing:
        estimate: Estimate = ratios[0]
        if noise is None:
            (estimate,) = mean_ratios([Medians(kind=arm, sides=([each.ratio for each in ratios],))])
        apart = step_run.comparable.in_different_processes(arm, base)
        floor = None if noise is None else noise.floor(in_different_processes=apart)
        claim = Claim(
            estimate=estimate,
            threshold=threshold,
            noise_floor=None if floor is None else math.expm1(floor),
            needs_noise_floor=noise is not None,
            cpu_speeds_differ=noise is not None and step_run.differ_in_cpu_speed(arm, base),
        )
    return StepPair(
        baseline=baseline,
        candidate=candidate,
        contributions=step_run.contributions(arm, base),
        claim=claim,
        launches=len(ratios) or 1,
    )
