"""The shared arm's own times on two sides, and when they make a change of another arm doubtful.

The change of an arm between two sides is a ratio of ratios: its times on both sides are divided by those of the shared
arm. This is right only while the machine changes the times of both arms by the same factor. A CPU that changes its
speed does not do this: an arm that waits for the device does not follow the CPU, and an arm that waits for the CPU
longer follows it more.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from nccl_bench.analysis.estimates import RelativeRatios
from nccl_bench.analysis.statistics import FAMILYWISE_ERROR, Verdict
from nccl_bench.analysis.wording import significant, size_with_unit, time_range
from nccl_bench.catalog.cases import Case

# The smallest and the largest factor by which the machine alone can have changed a time, after / before.
Factors = tuple[float, float]
# If calls wait for the CPU, the CPU's speed can change an arm up to twice as much as the shared arm, as logarithms.
_MOST_RESPONSE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedTimes:
    """The median times of the shared arm on both sides."""

    arm: str  # the name of the shared arm
    before_us: float  # median time before, microseconds
    after_us: float  # median time after, microseconds
    # The smallest change, after / before, that the rounds allow; 1 if they allow that the arm did not change.
    sure_ratio: float
    follows_cpu: bool = False  # True if a change of the CPU's speed between the sides can have changed the times
    # The factors by which the CPU changed the shared arm's times that wait for the CPU. None if the factors are not
    # needed: either the times above wait for the CPU and show the change, or no compared arm waits for the CPU.
    cpu_factors: Factors | None = None

    @classmethod
    def of(
        cls, arm: str, before: Sequence[float], after: Sequence[float], *, follows_cpu: bool = False
    ) -> "SharedTimes":
        """Return the times of ``arm`` from its rounds at one size, ``before`` and ``after``, microseconds."""
        # Do not correct this interval for the number of sizes. So it is narrower than that of a verdict and finds more.
        estimate = RelativeRatios(before, after)
        interval = estimate.interval(FAMILYWISE_ERROR)
        low, high = (interval.low, interval.high) if interval else (estimate.ratio, estimate.ratio)
        return cls(
            arm=arm,
            before_us=median(before),
            after_us=median(after),
            sure_ratio=min(max(low, 1.0), high),
            follows_cpu=follows_cpu,
        )

    @property
    def ratio(self) -> float:
        """The change of the shared arm itself, after / before."""
        return self.after_us / self.before_us


class OwnTimes(Protocol):
    """An arm's own times on both sides, and the times of the shared arm. A `Comparison` has these fields."""

    @property
    def baseline_us(self) -> float:
        """Median time of the arm before, microseconds."""

    @property
    def candidate_us(self) -> float:
        """Median time of the arm after, microseconds."""

    @property
    def shared(self) -> SharedTimes | None:
        """The times of the shared arm; ``None`` if the times are not relative to an arm."""


class OwnTimesAtSize(OwnTimes, Protocol):
    """The own times of an arm at a known size."""

    @property
    def case(self) -> Case:
        """The case, which has a size."""


def unconfirmed(sizes: Sequence[OwnTimes], threshold: float) -> frozenset[Verdict]:
    """Return the directions, ``FASTER``, ``SLOWER`` or both, that the arm's own times do not confirm.

    The machine alone can have changed the arm's own time by some factor. Own times confirm a direction only if they
    changed by more than this factor and the ``threshold``. If there are several sizes, the median change counts.
    """
    shared = [each.shared for each in sizes if each.shared is not None]
    factors = _machine_factors(shared, threshold) if shared else None
    if factors is None:
        return frozenset()
    own = median(each.candidate_us / each.baseline_us for each in sizes)
    least, most = factors
    confirmed = {Verdict.FASTER: own < (1 - threshold) * least, Verdict.SLOWER: own > (1 + threshold) * most}
    return frozenset(direction for direction, is_confirmed in confirmed.items() if not is_confirmed)


def _machine_factors(shared: Sequence[SharedTimes], threshold: float) -> Factors | None:
    """Return the factors by which the machine can have changed the arm's own time; ``None`` for a steady machine."""
    elsewhere = [each.cpu_factors for each in shared if each.cpu_factors is not None]
    if 2 * len(elsewhere) > len(shared):
        changes = [factor for factors in elsewhere for factor in factors]
    elif 1 - threshold <= median(each.sure_ratio for each in shared) <= 1 + threshold:
        return None
    else:
        changes = [median(each.ratio for each in shared)]
    response = _MOST_RESPONSE if shared[0].follows_cpu else 0
    factors = [1.0, *(change**response for change in changes)]
    return min(factors), max(factors)


def moved_text(sizes: Sequence[OwnTimesAtSize]) -> str:
    """Return why ``sizes`` cannot be compared, with the times of the size at which the arm's own time changed most."""
    most = max(sizes, key=lambda each: abs(math.log(each.candidate_us / each.baseline_us)))
    shared, own = most.shared, own_times_text([most])
    cpu = what_moved([most])
    if shared is None:
        return f"not comparable, {cpu} changed; {own}"
    times = f"{significant(shared.before_us)} -> {significant(shared.after_us)} us"
    where = "" if len(sizes) == 1 else f"most at {size_with_unit(most.case.size_bytes)}: "
    if shared.cpu_factors is None:
        return f"not comparable, {cpu} changed; {where}{own}, {shared.arm} {times}"
    known = min(shared.cpu_factors) > 0 and max(shared.cpu_factors) < math.inf
    changed = "changed" if known else "may have changed"
    return f"not comparable, {cpu} {changed}; {where}{own}; {shared.arm}, {times}, does not show how much"


def what_moved(sizes: Sequence[OwnTimes]) -> str:
    """Return in words what can have changed the times of ``sizes`` between the sides."""
    return "the CPU's speed" if any(each.shared and each.shared.follows_cpu for each in sizes) else "the machine"


def own_times_text(sizes: Sequence[OwnTimes]) -> str:
    """Return how the arm's own times changed, at the first and at the last of ``sizes``: own time 6.07 -> 6.38 us."""
    return f"{_own(sizes)} {_own_times(sizes)}"


def own_change_text(sizes: Sequence[OwnTimes]) -> str:
    """Return by how much the arm's own times changed, and the times: own time +0.31 us (6.07 -> 6.38 us)."""
    changes_us = [each.candidate_us - each.baseline_us for each in sizes]
    return f"{_own(sizes)} {time_range(changes_us)} ({_own_times(sizes)})"


def _own(sizes: Sequence[OwnTimes]) -> str:
    return "own time" if len(sizes) == 1 else "own times"


def _own_times(sizes: Sequence[OwnTimes]) -> str:
    texts = [f"{significant(each.baseline_us)} -> {significant(each.candidate_us)}" for each in sizes]
    return f"{', '.join(texts) if len(texts) <= 2 else f'{texts[0]} ... {texts[-1]}'} us"
