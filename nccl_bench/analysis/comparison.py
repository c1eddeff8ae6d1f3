"""The one record of a comparison, and how pairs of arms become comparisons with verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from nccl_bench.analysis.comparable import Place
from nccl_bench.analysis.estimates import Estimate
from nccl_bench.analysis.statistics import FAMILYWISE_ERROR, Interval, Verdict, holm, verdict_of
from nccl_bench.analysis.variance import NoiseFloor
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.limits import Limits


class Basis(StrEnum):
    """The data that intervals and verdicts are computed from."""

    ROUNDS = "rounds of one run"
    SHARED_ARM = "rounds within each run, relative to an arm that both sides have"
    RUNS = "the variation between the runs of each side"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A candidate compared with a baseline in one case and timing."""

    case: Case  # the case of both arms
    timing: Timing  # the timing of both arms
    baseline: str  # the arm compared with; of two sides, the arm of the side before
    candidate: str  # the arm compared; of two sides, the arm of the side after
    baseline_us: float  # median time of the baseline, microseconds
    candidate_us: float  # median time of the candidate, microseconds
    ratio: float  # candidate / baseline; below 1 the candidate is faster
    threshold: float  # the difference that matters, as a share of the baseline's time
    interval: Interval | None  # None if rounds are too few, or nothing is known about their variation
    verdict: Verdict | None  # None if nothing is known about the variation
    noise_floor: float | None  # how far from 1 the twin reaches, as a share; None without a twin, or if none is needed
    below_floor: bool  # True if the verdict was withheld because of the noise floor, or because there is no twin
    pairs_needed: int | None  # the rounds that an interval needs; None if there is one


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmPair:
    """Two arms in one case and timing, before their comparison has its level."""

    place: Place  # the case and the timing
    baseline: str  # the arm compared with
    candidate: str  # the arm compared
    baseline_us: float  # median time of the baseline, microseconds
    candidate_us: float  # median time of the candidate, microseconds
    estimate: Estimate  # the ratio of the two


def compare(
    pairs: Sequence[ArmPair],
    limits: Limits,
    basis: Basis,
    noise_floor: Callable[[Place, float], NoiseFloor | None] | None = None,
) -> tuple[Comparison, ...]:
    """Return a comparison for each of ``pairs``; all verdicts together are wrong with ``FAMILYWISE_ERROR`` at most.

    ``noise_floor`` returns the floor of a place at an error. It is ``None`` if intervals contain communicator variance,
    as intervals over several runs do.
    """
    places = [pair.place for pair in pairs]
    thresholds = [limits.threshold(case.collective, timing, case.size_bytes) for case, timing in places]
    least = [pair.estimate.decisive_error(threshold) for pair, threshold in zip(pairs, thresholds, strict=True)]
    comparisons = []
    for pair, threshold, level in zip(pairs, thresholds, holm(least, FAMILYWISE_ERROR), strict=True):
        interval = pair.estimate.interval(level)
        verdict = None if basis is Basis.NOTHING else verdict_of(interval, threshold)
        floor, below_floor = None, False
        if noise_floor is not None:
            floor = noise_floor(pair.place, level)
            if interval is not None and verdict is not Verdict.INCONCLUSIVE:
                below_floor = floor is None or not floor.allows(interval, pair.estimate.ratio, threshold)
        comparisons.append(
            Comparison(
                case=pair.place[0],
                timing=pair.place[1],
                baseline=pair.baseline,
                candidate=pair.candidate,
                baseline_us=pair.baseline_us,
                candidate_us=pair.candidate_us,
                ratio=pair.estimate.ratio,
                threshold=threshold,
                interval=interval,
                verdict=Verdict.INCONCLUSIVE if below_floor else verdict,
                noise_floor=None if floor is None else floor.share,
                below_floor=below_floor,
                pairs_needed=pair.estimate.pairs_needed(level) if interval is None else None,
            )
        )
    return tuple(comparisons)
