"""The record of a comparison, and the function that judges pairs of arms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from nccl_bench.analysis.comparable import Point
from nccl_bench.analysis.estimates import Estimate
from nccl_bench.analysis.judging import Claim, OpenReason, judge
from nccl_bench.analysis.shared_arm import SharedTimes, unconfirmed
from nccl_bench.analysis.statistics import Interval, Verdict, verdict_of
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import Placement
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.config.limits import Limits
from nccl_bench.records.kernels import Kernels

__all__ = ["ArmPair", "Basis", "Comparison", "Evidence", "Noise", "OpenReason", "compare_pairs"]


class Basis(StrEnum):
    """The kind of data from which intervals and verdicts are computed."""

    ROUNDS = "rounds of one run"
    LAUNCHES = "the variation between the launches of one run"
    SHARED_ARM = "rounds within each run, relative to an arm that both sides have"
    RUNS = "the variation between the runs of each side"
    NOTHING = "nothing"

    @property
    def of_one_run(self) -> bool:
        """True if the arms of one run are compared, and not two sides."""
        return self in (Basis.ROUNDS, Basis.LAUNCHES)

    @property
    def has_variance(self) -> bool:
        """True if intervals contain communicator variance, so that they need no noise floor."""
        return self in (Basis.LAUNCHES, Basis.RUNS)


# No dataclasses: a run can have a million comparisons, and msgspec makes one in a fraction of the time.
class Comparison(msgspec.Struct, frozen=True, gc=False, eq=False, kw_only=True):
    """A candidate compared with a baseline in one case and timing."""

    case: Case  # the case of both arms
    timing: Timing  # the timing of both arms
    baseline: str  # arm that the candidate is compared with; for two sides, the arm before the change
    candidate: str  # arm that is judged; for two sides, the arm after the change
    baseline_us: float  # median time of the baseline, microseconds
    candidate_us: float  # median time of the candidate, microseconds
    ratio: float  # candidate / baseline; below 1 the candidate is faster
    threshold: float  # the smallest difference that matters, as a share of the baseline's time
    interval: Interval | None  # the interval of the ratio; None if rounds are too few or variation is unknown
    verdict: Verdict | None  # the judgement; None if the variation is unknown
    reason: OpenReason | None = None  # the reason for the verdict `inconclusive`; None for every other verdict
    noise_floor: float | None  # the noise floor (0.25 is a factor of 1.25); None if it is unknown or not needed
    pairs_needed: int | None  # rounds that are needed; None if there is an interval, or if no number is enough
    placements: tuple[Placement, Placement]  # the placements in which the baseline and the candidate were called
    kernels: tuple[Kernels, Kernels] | None = None  # what NCCL ran for both arms; None if it is unknown
    launches: int = 1  # the number of launches with a ratio; 1 for two sides
    # The standard deviation of the ratio from launch to launch, or from run to run, as a share; None if it is unknown.
    communicator_variance: float | None = None
    shared: SharedTimes | None = None  # the times of the shared arm; None if no arm is shared
    # The data from which the verdict of a band is computed; None for a comparison without data.
    evidence: Evidence | None = None

    def __eq__(self, other: object) -> bool:
        """Return True if all fields but the data behind them are equal."""
        names = [name for name in self.__struct_fields__ if name != "evidence"]
        return isinstance(other, Comparison) and all(getattr(self, name) == getattr(other, name) for name in names)

    @property
    def processes_differ(self) -> bool:
        """True if the verdict is inconclusive because the arms ran in different processes."""
        return self.reason is OpenReason.DIFFERENT_PROCESSES

    @property
    def below_floor(self) -> bool:
        """True if the verdict is inconclusive because of the noise floor or a missing twin."""
        undecided = self.verdict is Verdict.INCONCLUSIVE and not self.processes_differ
        return undecided and verdict_of(self.interval, self.threshold) is not Verdict.INCONCLUSIVE

    @property
    def saved_us(self) -> float:
        """The time that a call of the candidate saves, microseconds; negative if it is slower.

        The ratio compares times of the same round. The difference of the two medians would mix fast and slow rounds.
        """
        return self.saved_at(self.ratio)

    def saved_at(self, ratio: float) -> float:
        """Return the time that a call would save if its ratio was ``ratio``, such as an end of the interval."""
        return self.baseline_us * (1 - ratio)


class ArmPair(msgspec.Struct, frozen=True, gc=False, eq=False, kw_only=True):
    """Two arms to compare in one case and timing."""

    point: Point  # the case and the timing
    baseline: str  # the arm that the candidate is compared with
    candidate: str  # the arm that is judged
    baseline_us: float  # median time of the baseline, microseconds
    candidate_us: float  # median time of the candidate, microseconds
    estimate: Estimate  # the estimated ratio, candidate / baseline
    placements: tuple[Placement, Placement]  # the placements in which the baseline and the candidate were called
    kernels: tuple[Kernels, Kernels] | None = None  # what NCCL ran for the baseline and the candidate; None if unknown
    launches: int = 1  # the number of launches of the run with a ratio; 1 for two sides
    in_different_processes: bool = False  # True if the estimate divides times of different process sets
    shared: SharedTimes | None = None  # the times of the shared arm; None if no arm is shared

    @property
    def cpu_speeds_differ(self) -> bool:
        """True if the ratio contains the difference between the CPU speeds of two processes."""
        return self.in_different_processes and TIMINGS[self.point[1]].includes_launch_cost


class Noise(Protocol):
    """The communicator variance that the intervals do not contain; all numbers are logarithms."""

    def floor(self, pair: ArmPair, sizes: int) -> float | None:
        """Return the noise floor of a band with ``sizes`` sizes; ``None`` if no twin shows it."""

    def scatter(self, pair: ArmPair) -> float:
        """Return how far the ratios of neighbouring sizes differ by communicator variance alone."""


class Evidence(msgspec.Struct, frozen=True, gc=False, eq=False, kw_only=True):
    """The data behind a comparison."""

    pair: ArmPair  # the arms, with the estimated ratio
    basis: Basis  # the kind of data
    noise: Noise | None  # the communicator variance; None if the intervals contain it

    def claim(self, threshold: float, others: Sequence[Evidence] = ()) -> Claim:
        """Return the claim about the ratio that this size and ``others`` have in common."""
        pairs = [self.pair, *[each.pair for each in others]]
        estimate = self.pair.estimate.pooled([pair.estimate for pair in pairs[1:]]) if others else self.pair.estimate
        floor = None if self.noise is None else self.noise.floor(self.pair, len(pairs))
        return Claim(
            estimate=estimate,
            threshold=threshold,
            noise_floor=None if floor is None else math.expm1(floor),
            needs_noise_floor=self.noise is not None,
            cpu_speeds_differ=self.noise is not None and self.pair.cpu_speeds_differ,
            unconfirmed=() if self.pair.shared is None else unconfirmed(pairs, threshold),
        )


def compare_pairs(
    pairs: Sequence[ArmPair], limits: Limits, basis: Basis, noise: Noise | None = None
) -> tuple[Comparison, ...]:
    """Return a comparison for each pair. With probability 1 - ``FAMILYWISE_ERROR`` or more, no verdict is wrong.

    Omit ``noise`` if the intervals already contain communicator variance; intervals over several runs do. Without that
    variance, a pair whose ``cpu_speeds_differ`` is never called faster or slower: one twin is one draw of that
    difference.
    """
    evidence = [Evidence(pair=pair, basis=basis, noise=noise) for pair in pairs]
    thresholds = [
        limits.threshold(case.collective, timing, case.size_bytes) for case, timing in (pair.point for pair in pairs)
    ]
    claims = [each.claim(threshold) for each, threshold in zip(evidence, thresholds, strict=True)]
    comparisons = []
    for each, claim, judged in zip(evidence, claims, judge(claims), strict=True):
        pair, unknown = each.pair, basis is Basis.NOTHING
        comparisons.append(
            Comparison(
                case=pair.point[0],
                timing=pair.point[1],
                baseline=pair.baseline,
                candidate=pair.candidate,
                baseline_us=pair.baseline_us,
                candidate_us=pair.candidate_us,
                ratio=pair.estimate.ratio,
                threshold=claim.threshold,
                interval=judged.interval,
                verdict=None if unknown else judged.verdict,
                reason=None if unknown else judged.reason,
                noise_floor=claim.noise_floor,
                pairs_needed=judged.pairs_needed,
                placements=pair.placements,
                kernels=pair.kernels,
                launches=pair.launches,
                communicator_variance=pair.estimate.communicator_variance,
                shared=pair.shared,
                evidence=each,
            )
        )
    return tuple(comparisons)
