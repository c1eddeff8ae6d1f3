"""The shared arm's own times on two sides, and when they make a change of another arm doubtful.

The change of an arm between two sides is a ratio of ratios: its times on both sides are divided by those of the shared
arm. This is right only while the machine makes both arms slower or faster alike. It does not if, at one of two CPU
speeds, one arm waits for the CPU and the other for the device: then only one of the two follows the CPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from nccl_bench.analysis.estimates import RelativeRatios
from nccl_bench.analysis.statistics import FAMILYWISE_ERROR, Verdict
from nccl_bench.analysis.wording import format_ratios, signed_percent_range, significant


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedTimes:
    """The median times of the shared arm on both sides."""

    arm: str  # the name of the shared arm
    before_us: float  # median time before, microseconds
    after_us: float  # median time after, microseconds
    # The smallest change, after / before, that the rounds allow; 1 if they allow that the arm did not change.
    sure_ratio: float

    @classmethod
    def of(cls, arm: str, before: Sequence[float], after: Sequence[float]) -> "SharedTimes":
        """Return the times of ``arm``, whose rounds of one size on both sides are given, microseconds."""
        # This interval is not corrected for other sizes, so it is narrower than that of a verdict and finds more.
        estimate = RelativeRatios(before, after)
        interval = estimate.interval(FAMILYWISE_ERROR)
        low, high = (interval.low, interval.high) if interval else (estimate.ratio, estimate.ratio)
        return cls(arm=arm, before_us=median(before), after_us=median(after), sure_ratio=min(max(low, 1.0), high))

    @property
    def ratio(self) -> float:
        """The change of the shared arm itself, after / before."""
        return self.after_us / self.before_us


class OwnTimes(Protocol):
    """An arm's own times on both sides, and those of the shared arm; a comparison has them."""

    @property
    def baseline_us(self) -> float:
        """Median time of the arm before, microseconds."""

    @property
    def candidate_us(self) -> float:
        """Median time of the arm after, microseconds."""

    @property
    def shared(self) -> SharedTimes | None:
        """The times of the shared arm; ``None`` if the times are not relative to an arm."""


def unconfirmed(sizes: Sequence[OwnTimes], threshold: float) -> frozenset[Verdict]:
    """Return ``FASTER`` or ``SLOWER`` or both, if own times do not confirm this direction.

    The shared arm then surely changed by more than ``threshold``, and the arm's own time did not change by more than
    ``threshold`` in this direction. Of several sizes, the median changes count.
    """
    shared = [each.shared.sure_ratio for each in sizes if each.shared is not None]
    if not shared or 1 - threshold <= median(shared) <= 1 + threshold:
        return frozenset()
    own = median(each.candidate_us / each.baseline_us for each in sizes)
    confirmed = {Verdict.FASTER: own < 1 - threshold, Verdict.SLOWER: own > 1 + threshold}
    return frozenset(direction for direction, is_confirmed in confirmed.items() if not is_confirmed)


def moved_text(sizes: Sequence[OwnTimes]) -> str:
    """Return in words how the shared arm and the arm's own times changed."""
    shared = [each.shared for each in sizes if each.shared is not None]
    own = signed_percent_range([each.candidate_us / each.baseline_us for each in sizes])
    if not shared:
        return f"the shared arm itself changed; the arm's own time changed by {own}"
    if len(shared) == 1:
        times = f"{significant(shared[0].before_us)} us before and {significant(shared[0].after_us)} us after"
        return f"{shared[0].arm} itself took {times}; the arm's own time changed by {own}"
    ratios = format_ratios([each.ratio for each in shared])
    return f"the times of {shared[0].arm} itself changed to {ratios}; the arm's own times changed by {own}"
