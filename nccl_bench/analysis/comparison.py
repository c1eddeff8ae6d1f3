"""The record of a comparison, and the function that judges pairs of arms."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from nccl_bench.analysis.comparable import Point
from nccl_bench.analysis.estimates import Estimate
from nccl_bench.analysis.statistics import FAMILYWISE_ERROR, Interval, Verdict, holm, verdict_of
from nccl_bench.analysis.variance import NoiseFloor
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import Placement
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.config.limits import Limits


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


class OpenReason(StrEnum):
    """The reason why a verdict is ``inconclusive``."""

    BELOW_THRESHOLD = "below threshold"  # the direction is sure, but the difference may be below the threshold
    WITHIN_NOISE = "within noise"  # the direction is not sure, or communicator variance can exceed the threshold
    TOO_FEW_ROUNDS = "too few rounds"  # there are not enough rounds for an interval
    NO_TWIN = "no twin"  # communicator variance is unknown, because no twin was measured
    DIFFERENT_PROCESSES = "different processes"  # one launch cannot tell apart the arms and the CPU speeds of processes
    ONE_LAUNCH = "one launch"  # only one launch of several measured the ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
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
    below_floor: bool  # True if the verdict is inconclusive because of the noise floor or a missing twin
    pairs_needed: int | None  # rounds that are needed; None if there is an interval, or if no number is enough
    placements: tuple[Placement, Placement]  # the placements in which the baseline and the candidate were called
    launches: int = 1  # the number of launches with a ratio; 1 for two sides
    processes_differ: bool = False  # True if the verdict is inconclusive because the arms ran in different processes
    # The standard deviation of the ratio from launch to launch, or from run to run, as a share; None if it is unknown.
    communicator_variance: float | None = None

    @property
    def saved_us(self) -> float:
        """The time that a call of the candidate saves, microseconds; negative if it is slower.

        The ratio compares times of the same round. The difference of the two medians would mix fast and slow rounds.
        """
        return self.saved_at(self.ratio)

    def saved_at(self, ratio: float) -> float:
        """Return the time that a call would save if its ratio was ``ratio``, such as an end of the interval."""
        return self.baseline_us * (1 - ratio)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmPair:
    """Two arms to compare in one case and timing."""

    point: Point  # the case and the timing
    baseline: str  # the arm that the candidate is compared with
    candidate: str  # the arm that is judged
    baseline_us: float  # median time of the baseline, microseconds
    candidate_us: float  # median time of the candidate, microseconds
    estimate: Estimate  # the estimated ratio, candidate / baseline
    placements: tuple[Placement, Placement]  # the placements in which the baseline and the candidate were called
    launches: int = 1  # the number of launches of the run with a ratio; 1 for two sides
    in_different_processes: bool = False  # True if the estimate divides times of different process sets

    @property
    def cpu_speeds_differ(self) -> bool:
        """True if the ratio contains the difference between the CPU speeds of two processes."""
        return self.in_different_processes and TIMINGS[self.point[1]].includes_launch_cost


def compare_pairs(
    pairs: Sequence[ArmPair],
    limits: Limits,
    basis: Basis,
    noise_floor: Callable[[ArmPair, float], NoiseFloor | None] | None = None,
) -> tuple[Comparison, ...]:
    """Return a comparison for each pair. With probability 1 - ``FAMILYWISE_ERROR`` or more, no verdict is wrong.

    ``noise_floor`` is a function: it returns the noise floor of a pair, for an interval's error. Omit ``noise_floor``
    if the intervals already contain communicator variance; intervals over several runs do. Without that variance, a
    pair whose ``cpu_speeds_differ`` is never called faster or slower: one twin is one draw of that difference.
    """
    points = [pair.point for pair in pairs]
    thresholds = [limits.threshold(case.collective, timing, case.size_bytes) for case, timing in points]
    least = [pair.estimate.decisive_error(threshold) for pair, threshold in zip(pairs, thresholds, strict=True)]
    comparisons = []
    for pair, threshold, level in zip(pairs, thresholds, holm(least, FAMILYWISE_ERROR), strict=True):
        interval = pair.estimate.interval(level)
        verdict = None if basis is Basis.NOTHING else verdict_of(interval, threshold)
        floor, below_floor, processes_differ = None, False, False
        if noise_floor is not None:
            floor = noise_floor(pair, level)
            if interval is not None and verdict is not Verdict.INCONCLUSIVE:
                below_floor = floor is None or not floor.allows(interval, pair.estimate.ratio, threshold)
            if below_floor:
                verdict = Verdict.INCONCLUSIVE
            if pair.cpu_speeds_differ and verdict is not Verdict.EQUIVALENT:
                verdict, below_floor, processes_differ = Verdict.INCONCLUSIVE, False, True
        reason = None
        if verdict is Verdict.INCONCLUSIVE:
            reason = _reason(pair, interval, floor, level, basis, processes_differ)
        comparisons.append(
            Comparison(
                case=pair.point[0],
                timing=pair.point[1],
                baseline=pair.baseline,
                candidate=pair.candidate,
                baseline_us=pair.baseline_us,
                candidate_us=pair.candidate_us,
                ratio=pair.estimate.ratio,
                threshold=threshold,
                interval=interval,
                verdict=verdict,
                reason=reason,
                noise_floor=None if floor is None else floor.share,
                below_floor=below_floor,
                processes_differ=processes_differ,
                pairs_needed=pair.estimate.pairs_needed(level) if interval is None else None,
                placements=pair.placements,
                launches=pair.launches,
                communicator_variance=pair.estimate.communicator_variance,
            )
        )
    return tuple(comparisons)


def _reason(
    pair: ArmPair, interval: Interval | None, floor: NoiseFloor | None, level: float, basis: Basis, differ: bool
) -> OpenReason:
    if differ:
        return OpenReason.DIFFERENT_PROCESSES
    if interval is None:
        few = pair.estimate.pairs_needed(level) is not None
        return OpenReason.TOO_FEW_ROUNDS if few else OpenReason.ONE_LAUNCH
    if floor is None and not basis.has_variance:
        return OpenReason.NO_TWIN
    factor = 1.0 if floor is None else 1 + floor.share
    sure = interval.high * factor < 1 or interval.low / factor > 1
    return OpenReason.BELOW_THRESHOLD if sure else OpenReason.WITHIN_NOISE
