"""The rule for verdicts: it is the same for one size and for a band of sizes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nccl_bench.analysis.estimates import Estimate, EstimateColumns, EstimateList
from nccl_bench.analysis.paired_ratios import Floats, intervals_of
from nccl_bench.analysis.statistics import FAMILYWISE_ERROR, Interval, Verdict, holm, verdict_of

Mask = NDArray[np.bool_]


class OpenReason(StrEnum):
    """The reason why a verdict is ``inconclusive``."""

    BELOW_THRESHOLD = "below threshold"  # the direction is sure, but the difference may be below the threshold
    WITHIN_NOISE = "within noise"  # the direction is not sure, or communicator variance can exceed the threshold
    TOO_FEW_ROUNDS = "too few rounds"  # there are not enough rounds for an interval
    NO_TWIN = "no twin"  # communicator variance is unknown, because no twin was measured
    DIFFERENT_PROCESSES = "different processes"  # in one launch, the CPU speed of a process looks like that of its arm
    ONE_LAUNCH = "one launch"  # only one launch of several measured the ratio
    SHARED_ARM_MOVED = "shared arm moved"  # the machine changed between two runs, and that alone can explain the change


# The codes of verdicts in arrays.
_FASTER, _SLOWER, _EQUIVALENT, _INCONCLUSIVE = range(4)
_DIRECTIONS = (_FASTER, _SLOWER)
_VERDICTS = tuple(Verdict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A ratio to be judged."""

    estimate: Estimate  # the estimated ratio, candidate / baseline
    threshold: float  # the smallest difference that matters, as a share
    noise_floor: float | None  # the noise floor as a share; None if it is unknown or not needed
    needs_noise_floor: bool  # True if the interval does not contain communicator variance
    cpu_speeds_differ: bool  # True if the ratio contains the difference between the CPU speeds of two processes
    # FASTER, SLOWER or both, if the arm's own times on both sides do not confirm this direction: see `shared_arm`.
    unconfirmed: Collection[Verdict] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Ratios to be judged, as columns: entry i of each column is about claim i."""

    estimates: EstimateColumns  # the estimated ratios, candidate / baseline
    thresholds: list[float]  # the smallest difference that matters, as a share
    noise_floors: list[float | None]  # the noise floor as a share; None if it is unknown or not needed
    needs_noise_floor: Mask  # True if the interval does not contain communicator variance
    cpu_speeds_differ: Mask  # True if the ratio contains the difference between the CPU speeds of two processes
    # A row for FASTER and a row for SLOWER: True if the arm's own times on both sides do not confirm this direction.
    # See `shared_arm`.
    unconfirmed: Mask

    @classmethod
    def of(cls, claims: Sequence[Claim]) -> Claims:
        """Return ``claims`` as columns."""
        return cls(
            estimates=EstimateList([claim.estimate for claim in claims]),
            thresholds=[claim.threshold for claim in claims],
            noise_floors=[claim.noise_floor for claim in claims],
            needs_noise_floor=np.array([claim.needs_noise_floor for claim in claims], dtype=bool),
            cpu_speeds_differ=np.array([claim.cpu_speeds_differ for claim in claims], dtype=bool),
            unconfirmed=unconfirmed_of([claim.unconfirmed for claim in claims]),
        )


def unconfirmed_of(directions: Sequence[Collection[Verdict]]) -> Mask:
    """Return the column ``unconfirmed`` of ``Claims`` from the directions of each claim."""
    rows = [[direction in of_claim for of_claim in directions] for direction in (Verdict.FASTER, Verdict.SLOWER)]
    return np.array(rows, dtype=bool)


class Judgement(NamedTuple):
    """The verdict about a ratio."""

    interval: Interval | None  # the interval of the ratio; None if rounds are too few or variation is unknown
    verdict: Verdict  # the verdict
    reason: OpenReason | None  # the reason for `inconclusive`; None for every other verdict
    pairs_needed: int | None  # rounds that are needed; None if there is an interval, or if no number is enough


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgements:
    """The verdicts about ratios, as columns: entry i of each column belongs to judgement i."""

    intervals: list[Interval | None]  # the interval of the ratio; None if rounds are too few
    verdicts: list[Verdict]  # the verdict
    reasons: list[OpenReason | None]  # the reason for `inconclusive`; None for every other verdict
    pairs_needed: list[int | None]  # rounds that are needed; None if there is an interval, or if no number is enough

    def __iter__(self) -> Iterator[Judgement]:
        return map(Judgement, self.intervals, self.verdicts, self.reasons, self.pairs_needed)


def judge(claims: Claims) -> Judgements:
    """Return a judgement for each claim. With probability 1 - ``FAMILYWISE_ERROR`` or more, all intervals are right.

    The noise floor must not change a verdict. ``faster`` and ``slower`` need an interval that lies beyond the threshold
    even after its ratios move towards 1 by the noise floor, and a direction that is not ``unconfirmed``. ``equivalent``
    needs a noise floor of at most the threshold.
    """
    levels = holm(claims.estimates.decisive_errors(claims.thresholds), FAMILYWISE_ERROR)
    ends = claims.estimates.intervals(levels)
    low, high, _ = ends
    thresholds, floors = np.array(claims.thresholds), np.array(claims.noise_floors, dtype=np.float64)
    lacks_floor, floors = np.isnan(floors) & claims.needs_noise_floor, np.nan_to_num(floors)
    near = low / (1 + floors), high * (1 + floors)
    verdicts, sure = _codes(low, high, thresholds), _codes(*near, np.zeros(len(low)))
    is_same = verdicts == _EQUIVALENT
    # `unconfirmed` is about the direction of the verdict; `unsure` is about the direction that is sure.
    unconfirmed, unsure = (np.choose(codes, [*claims.unconfirmed, np.False_, np.False_]) for codes in (verdicts, sure))
    stays = (verdicts != _INCONCLUSIVE) & (_codes(*near, thresholds) == verdicts)
    stays &= ~claims.cpu_speeds_differ & ~unconfirmed
    decided = np.where(is_same, floors <= thresholds, stays) & ~lacks_floor
    pairs = {
        index: claims.estimates.pairs_needed(index, levels[index]) for index in np.flatnonzero(np.isnan(low)).tolist()
    }
    # The first condition that is true names the reason.
    conditions: Mapping[OpenReason | None, Mask] = {
        None: decided,
        OpenReason.DIFFERENT_PROCESSES: claims.cpu_speeds_differ & ~is_same,
        OpenReason.TOO_FEW_ROUNDS: np.isin(np.arange(len(low)), [index for index, number in pairs.items() if number]),
        OpenReason.ONE_LAUNCH: np.isnan(low),
        OpenReason.NO_TWIN: lacks_floor,
        OpenReason.WITHIN_NOISE: ~np.isin(sure, _DIRECTIONS) | is_same,
        OpenReason.SHARED_ARM_MOVED: unsure,
        OpenReason.BELOW_THRESHOLD: np.ones(len(low), dtype=bool),
    }
    reasons = [*conditions]
    return Judgements(
        intervals=intervals_of(ends),
        verdicts=[_VERDICTS[code] for code in np.where(decided, verdicts, _INCONCLUSIVE).tolist()],
        reasons=[reasons[at] for at in np.argmax([*conditions.values()], axis=0).tolist()],
        pairs_needed=[pairs.get(index) for index in range(len(low))],
    )


def _codes(low: Floats, high: Floats, thresholds: Floats) -> NDArray[np.intp]:
    """Return the code of the verdict of each interval, by the rule of ``verdict_of``; NaN stands for no interval."""
    within = (1 - thresholds <= low) & (high <= 1 + thresholds)
    return np.select(
        [high < 1 - thresholds, low > 1 + thresholds, within], [_FASTER, _SLOWER, _EQUIVALENT], _INCONCLUSIVE
    )


def nearer(interval: Interval | None, noise_floor: float | None) -> Interval | None:
    """Return ``interval`` after its ratios moved towards 1 by the factor of ``noise_floor``."""
    if interval is None or not noise_floor:
        return interval
    factor = 1 + noise_floor
    return Interval(low=interval.low / factor, high=interval.high * factor, error=interval.error)


def direction(interval: Interval | None, noise_floor: float | None) -> Verdict | None:
    """Return ``FASTER`` or ``SLOWER`` if ``interval`` is beyond the noise floor on one side; otherwise ``None``."""
    verdict = verdict_of(nearer(interval, noise_floor), 0.0)
    return verdict if verdict in (Verdict.FASTER, Verdict.SLOWER) else None
