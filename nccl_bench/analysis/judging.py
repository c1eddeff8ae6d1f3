"""The rule for verdicts: it is the same for one size and for a band of sizes."""

from collections.abc import Collection, Sequence
from enum import StrEnum

import msgspec
import numpy as np

from nccl_bench.analysis.estimates import Estimate, EstimateColumns
from nccl_bench.analysis.statistics import FAMILYWISE_ERROR, Interval, Verdict, holm, verdict_of


class OpenReason(StrEnum):
    """The reason why a verdict is ``inconclusive``."""

    BELOW_THRESHOLD = "below threshold"  # the direction is sure, but the difference may be below the threshold
    WITHIN_NOISE = "within noise"  # the direction is not sure, or communicator variance can exceed the threshold
    TOO_FEW_ROUNDS = "too few rounds"  # there are not enough rounds for an interval
    NO_TWIN = "no twin"  # communicator variance is unknown, because no twin was measured
    DIFFERENT_PROCESSES = "different processes"  # one launch cannot tell apart the arms and the CPU speeds of processes
    ONE_LAUNCH = "one launch"  # only one launch of several measured the ratio
    SHARED_ARM_MOVED = "shared arm moved"  # the machine changed between two runs, and that alone can explain the change


# No dataclass: a run can have a million claims, and msgspec makes one in a fraction of the time.
class Claim(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A ratio to be judged."""

    estimate: Estimate  # the estimated ratio, candidate / baseline
    threshold: float  # the smallest difference that matters, as a share
    noise_floor: float | None  # the noise floor as a share; None if it is unknown or not needed
    needs_noise_floor: bool  # True if the interval does not contain communicator variance
    cpu_speeds_differ: bool  # True if the ratio contains the difference between the CPU speeds of two processes
    # The directions, of FASTER and SLOWER, that the own times of two sides do not confirm: see `shared_arm`.
    unconfirmed: Collection[Verdict] = ()

    def judge(self, interval: Interval | None, error: float) -> "Judgement":
        """Return the verdict of the ``interval`` at the level ``error``, if it stays when the noise floor is added.

        ``faster`` and ``slower`` need an interval that lies beyond the threshold even if its ratios are nearer to 1 by
        the noise floor, and that is not ``unconfirmed``. ``equivalent`` needs a noise floor of at most the threshold.
        """
        verdict, reason = verdict_of(interval, self.threshold), None
        if verdict is Verdict.EQUIVALENT:
            decided = (self.noise_floor or 0.0) <= self.threshold
        else:
            decided = verdict_of(nearer(interval, self.noise_floor), self.threshold) is verdict
            decided = decided and verdict is not Verdict.INCONCLUSIVE and not self.cpu_speeds_differ
            decided = decided and verdict not in self.unconfirmed
        if self.needs_noise_floor and self.noise_floor is None:
            decided = False
        if not decided:
            verdict, reason = Verdict.INCONCLUSIVE, self._reason(interval, error)
        return Judgement(
            interval=interval,
            verdict=verdict,
            reason=reason,
            pairs_needed=self.estimate.pairs_needed(error) if interval is None else None,
        )

    def _reason(self, interval: Interval | None, error: float) -> OpenReason:
        if self.cpu_speeds_differ and verdict_of(interval, self.threshold) is not Verdict.EQUIVALENT:
            return OpenReason.DIFFERENT_PROCESSES
        if interval is None:
            few = self.estimate.pairs_needed(error) is not None
            return OpenReason.TOO_FEW_ROUNDS if few else OpenReason.ONE_LAUNCH
        if self.needs_noise_floor and self.noise_floor is None:
            return OpenReason.NO_TWIN
        sure = direction(interval, self.noise_floor)
        if sure is None or verdict_of(interval, self.threshold) is Verdict.EQUIVALENT:
            return OpenReason.WITHIN_NOISE
        return OpenReason.SHARED_ARM_MOVED if sure in self.unconfirmed else OpenReason.BELOW_THRESHOLD


class Judgement(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The verdict about a ratio."""

    interval: Interval | None  # the interval of the ratio; None if rounds are too few or variation is unknown
    verdict: Verdict  # the verdict
    reason: OpenReason | None  # the reason for `inconclusive`; None for every other verdict
    pairs_needed: int | None  # rounds that are needed; None if there is an interval, or if no number is enough


def judge(claims: Sequence[Claim]) -> list[Judgement]:
    """Return a judgement for each claim. With probability 1 - ``FAMILYWISE_ERROR`` or more, all intervals are right."""
    estimates = EstimateColumns([claim.estimate for claim in claims])
    least = estimates.decisive_errors(np.array([claim.threshold for claim in claims]))
    levels = holm(least, FAMILYWISE_ERROR)
    intervals = estimates.intervals(levels)
    return [claim.judge(interval, error) for claim, interval, error in zip(claims, intervals, levels, strict=True)]


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
