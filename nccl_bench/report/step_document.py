"""The step times in the document that ``--format json`` prints: their types, and how they are made."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from nccl_bench.analysis.judging import OpenReason
from nccl_bench.analysis.statistics import Interval, Verdict
from nccl_bench.analysis.step_time import ArmStep, Contribution, StepComparison, StepTime
from nccl_bench.catalog.timings import Timing


class MissingRecord(Struct, kw_only=True):
    """A message without a time."""

    message: Annotated[str, Meta(description="the message in words")]
    reason: Annotated[
        str, Meta(description="declined, wrong, skipped, hang, crash, discarded, not measured or not compared")
    ]


class ArmStepRecord(Struct, omit_defaults=True, kw_only=True):
    """The step time of an arm."""

    arm: str
    step_us: Annotated[
        float,
        Meta(description="the sum of calls times time, divided by the steps, microseconds; without missing messages"),
    ]
    low_us: Annotated[
        float | None, Meta(description="the lower end of its 95 % interval; absent if a message is missing")
    ] = None
    high_us: Annotated[float | None, Meta(description="the upper end of its 95 % interval")] = None
    missing: Annotated[list[MissingRecord], Meta(description="the messages that the sum lacks")] = []


class ContributionRecord(Struct, omit_defaults=True, kw_only=True):
    """A message and its share of the step times of two arms or sides."""

    message: Annotated[str, Meta(description="the message in words")]
    collective: str
    dtype: str
    size_bytes: Annotated[int, Meta(description="the size in the workload; the measured size can be rounded down")]
    timing: Annotated[Timing, Meta(description="how the model makes the calls: eager or graph")]
    measured_as: Annotated[
        Timing | None, Meta(description="the timing that was measured instead; absent if it is the same")
    ] = None
    calls: Annotated[float, Meta(description="the calls in a step")]
    baseline_us: Annotated[float, Meta(description="the time of these calls of the baseline, microseconds a step")]
    candidate_us: Annotated[float, Meta(description="the time of these calls of the candidate, microseconds a step")]
    ratio: Annotated[float, Meta(description="candidate / baseline")]
    saved_us: Annotated[float, Meta(description="what the candidate saves, microseconds a step; negative: it costs")]


class StepComparisonRecord(Struct, omit_defaults=True, kw_only=True):
    """The step times of two arms."""

    baseline_arm: Annotated[str, Meta(description="the arm that the candidate is compared with; the arm before")]
    candidate_arm: Annotated[str, Meta(description="the arm that is judged; the arm after")]
    baseline_us: Annotated[float, Meta(description="the step time of the baseline, microseconds")]
    candidate_us: Annotated[float, Meta(description="the step time of the candidate, microseconds")]
    ratio: Annotated[float | None, Meta(description="candidate / baseline; absent if a message is missing")] = None
    ratio_low: Annotated[float | None, Meta(description="the lower end of the ratio's interval")] = None
    ratio_high: Annotated[float | None, Meta(description="the upper end of the ratio's interval")] = None
    threshold: Annotated[float, Meta(description="the smallest difference that matters, as a share")]
    verdict: Annotated[
        Verdict | None, Meta(description="the verdict about the candidate; absent if a message is missing")
    ] = None
    reason: Annotated[OpenReason | None, Meta(description="the reason for the verdict inconclusive")] = None
    noise_floor: Annotated[float | None, Meta(description="the noise floor, as a share")] = None
    launches: Annotated[int | None, Meta(description="launches with a step time of both; absent for one")] = None
    communicator_variance: Annotated[
        float | None, Meta(description="standard deviation of the ratio from launch to launch, as a share")
    ] = None
    missing: Annotated[list[MissingRecord], Meta(description="the messages without a time of both arms")] = []
    contributions: Annotated[list[ContributionRecord], Meta(description="the messages, in the order of the workload")]


class StepRecord(Struct, omit_defaults=True, kw_only=True):
    """The communication time of a step of a workload."""

    steps: Annotated[int, Meta(description="the number of steps that the calls of the workload are counted over")]
    source: Annotated[
        list[str], Meta(description="the files that the messages were read from, or the model that sends them")
    ]
    calls: Annotated[int, Meta(description="the number of calls of the workload in all steps")]
    calls_of_run: Annotated[int, Meta(description="the calls of groups with as many ranks as the run")]
    other_groups: Annotated[
        str | None, Meta(description="the calls of groups with another number of ranks, in words; absent if none")
    ] = None
    arms: list[ArmStepRecord]
    comparisons: list[StepComparisonRecord]
    twin_ratio: Annotated[
        float | None, Meta(description="the step time of the baseline's twin / that of the baseline")
    ] = None


def step_record(step: StepTime) -> StepRecord:
    """Return ``step`` in the form of the document."""
    return StepRecord(
        steps=step.workload.steps,
        source=list(step.workload.source),
        calls=step.workload.calls,
        calls_of_run=sum(each.message.count for each in step.messages),
        other_groups=step.other_groups or None,
        arms=list(map(_arm, step.arms)),
        comparisons=list(map(_comparison, step.comparisons)),
        twin_ratio=None if step.twin is None else step.twin.ratio,
    )


def _arm(arm: ArmStep) -> ArmStepRecord:
    low, high = _ends(arm.interval)
    return ArmStepRecord(arm=arm.arm, step_us=arm.step_us, low_us=low, high_us=high, missing=_missing(arm))


def _comparison(comparison: StepComparison) -> StepComparisonRecord:
    low, high = _ends(comparison.interval)
    return StepComparisonRecord(
        baseline_arm=comparison.baseline.arm,
        candidate_arm=comparison.candidate.arm,
        baseline_us=comparison.baseline.step_us,
        candidate_us=comparison.candidate.step_us,
        ratio=comparison.ratio,
        ratio_low=low,
        ratio_high=high,
        threshold=comparison.threshold,
        verdict=comparison.verdict,
        reason=comparison.reason,
        noise_floor=comparison.noise_floor,
        launches=comparison.launches if comparison.launches > 1 else None,
        communicator_variance=comparison.communicator_variance,
        missing=_missing(comparison),
        contributions=list(map(_contribution, comparison.contributions)),
    )


def _contribution(part: Contribution) -> ContributionRecord:
    message, point = part.message.message, part.message.point
    measured = None if point is None or point[1] is message.timing else point[1]
    return ContributionRecord(
        message=part.message.name,
        collective=message.collective,
        dtype=message.dtype,
        size_bytes=message.size_bytes,
        timing=message.timing,
        measured_as=measured,
        calls=part.message.calls,
        baseline_us=part.baseline_us,
        candidate_us=part.candidate_us,
        ratio=part.ratio,
        saved_us=part.saved_us,
    )


def _missing(of: ArmStep | StepComparison) -> list[MissingRecord]:
    return [MissingRecord(message=each.message.name, reason=each.reason) for each in of.missing]


def _ends(interval: Interval | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval.low, interval.high)
