"""Step time: the communication time of one step of a model, from the messages of a workload.

For each message, multiply its number of calls by the time of a call. The step time is the sum over all messages,
divided by the number of steps. So one number for each arm shows which arm is better for this model. The interval of
this number contains the uncertainty of all messages.

- With one launch, the interval comes from the intervals of the messages: see ``step_ratio``. The noise floor is the
  mean of the noise floors of the messages, weighted by their time. It is at least the deviation of the twin's own step
  time.
- With several launches, each launch has its own step time, and the interval comes from the differences between them.

A sum that lacks a message is no step time, so it gets no verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nccl_bench.analysis.estimates import Estimate
from nccl_bench.analysis.judging import Claim, Claims, Judgement, OpenReason, judge
from nccl_bench.analysis.statistics import Interval, Verdict
from nccl_bench.analysis.step_messages import StepMessage
from nccl_bench.config.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingMessage:
    """A message for which an arm has no time."""

    message: StepMessage  # the message without a time
    # The reason why there is no time: declined, wrong, skipped, hang, crash, discarded, not measured, or not compared.
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmStep:
    """The step time of an arm."""

    arm: str  # the arm
    step_us: float  # the sum of calls times time over the measured messages, in microseconds for each step
    interval: Interval | None  # the interval of `step_us`; None if rounds are too few, or a message is missing
    missing: tuple[MissingMessage, ...]  # the messages that the sum lacks


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """A message and its share of the step times of two arms or sides."""

    message: StepMessage  # the message
    baseline_us: float  # the baseline's time for all calls of the message in a step, microseconds
    candidate_us: float  # the candidate's time for all calls of the message in a step, microseconds
    ratio: float  # the ratio of the message, candidate / baseline

    @property
    def saved_us(self) -> float:
        """The time in a step that the candidate saves in this message, microseconds; negative if it is slower."""
        return self.baseline_us * (1 - self.ratio)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepComparison:
    """The step time of a candidate compared with that of a baseline."""

    baseline: ArmStep  # the step time of the baseline; for two sides, of the arm before
    candidate: ArmStep  # the step time of the candidate; for two sides, of the arm after
    contributions: tuple[Contribution, ...]  # the messages that both arms have, in the order of the workload
    threshold: float  # the smallest difference that matters, as a share
    ratio: float | None  # candidate / baseline; None if a message is missing
    interval: Interval | None  # the interval of the ratio; None if there is no interval
    verdict: Verdict | None  # the verdict; None if a message is missing or the variation is unknown
    reason: OpenReason | None  # the reason for `inconclusive`; None for every other verdict
    noise_floor: float | None  # the noise floor as a share; None if it is unknown or not needed
    launches: int  # the number of launches with a step time of both arms; 1 for two sides
    communicator_variance: float | None  # the standard deviation of the ratio from launch to launch; None if unknown

    @property
    def missing(self) -> tuple[MissingMessage, ...]:
        """The messages for which the baseline or the candidate has no time."""
        return tuple(dict.fromkeys((*self.baseline.missing, *self.candidate.missing)))

    @property
    def is_decided(self) -> bool:
        """True if the verdict is not open."""
        return self.verdict not in (Verdict.INCONCLUSIVE, None)

    @property
    def largest(self) -> tuple[Contribution, ...]:
        """The contributions, those with the largest difference first."""
        return tuple(sorted(self.contributions, key=lambda each: -abs(each.saved_us)))


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """The step times of a run, or of two sides."""

    workload: Workload  # the messages
    messages: tuple[StepMessage, ...]  # the messages of groups with as many ranks as the run has
    other_groups: str  # how many calls need another number of ranks, in words; empty if there are no such calls
    arms: tuple[ArmStep, ...]  # the step time of each arm
    comparisons: tuple[StepComparison, ...]  # each candidate against the baseline
    shared_arm: str | None = None  # the arm to which the ratios of two sides are relative; None if there is none
    twin: StepComparison | None = None  # the baseline's twin against the baseline; None without a twin

    def of(self, candidates: Iterable[str] | None) -> tuple[StepComparison, ...]:
        """Return the comparisons of ``candidates``; ``None`` stands for all."""
        chosen = None if candidates is None else {*candidates}
        return tuple(each for each in self.comparisons if chosen is None or each.candidate.arm in chosen)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPair:
    """Two step times to compare."""

    baseline: ArmStep  # the step time of the baseline
    candidate: ArmStep  # the step time of the candidate
    contributions: tuple[Contribution, ...]  # the messages that both arms have
    claim: Claim | None  # the ratio to judge; None if a message is missing
    launches: int = 1  # the number of launches with a step time of both arms; 1 for two sides


def judge_steps(
    pairs: Sequence[StepPair], threshold: float, *, variation_is_known: bool = True
) -> list[StepComparison]:
    """Return the comparison of each pair. With 95 % confidence, no verdict about a step time is wrong."""
    claims = [pair.claim for pair in pairs if pair.claim is not None]
    judgements = iter(judge(Claims.of(claims)))
    return [
        _compared(pair, threshold, None if pair.claim is None else next(judgements), known=variation_is_known)
        for pair in pairs
    ]


def _compared(pair: StepPair, threshold: float, judged: Judgement | None, *, known: bool) -> StepComparison:
    estimate: Estimate | None = None if pair.claim is None else pair.claim.estimate
    decided = judged if known else None
    return StepComparison(
        baseline=pair.baseline,
        candidate=pair.candidate,
        contributions=pair.contributions,
        threshold=threshold,
        ratio=None if estimate is None else estimate.ratio,
        interval=None if judged is None else judged.interval,
        verdict=None if decided is None else decided.verdict,
        reason=None if decided is None else decided.reason,
        noise_floor=None if pair.claim is None else pair.claim.noise_floor,
        launches=pair.launches,
        communicator_variance=None if estimate is None else estimate.communicator_variance,
    )
