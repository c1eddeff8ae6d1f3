"""The record of a comparison."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from nccl_bench.analysis.judging import OpenReason
from nccl_bench.analysis.shared_arm import SharedTimes
from nccl_bench.analysis.statistics import Interval, Verdict, verdict_of
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import Placement
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.kernels import Kernels

if TYPE_CHECKING:
    from nccl_bench.analysis.arm_pairs import Evidence

__all__ = ["Basis", "Comparison", "OpenReason"]


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


# No dataclass: a run can have a million comparisons, and msgspec makes one in a fraction of the time.
class Comparison(msgspec.Struct, frozen=True, gc=False, eq=False):
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
    placements: tuple[Placement, Placement]  # the placements in which the baseline and the candidate were called
    pairs_needed: int | None  # rounds that are needed; None if there is an interval, or if no number is enough
    reason: OpenReason | None = None  # the reason for the verdict `inconclusive`; None for every other verdict
    noise_floor: float | None = None  # the noise floor (0.25 is a factor of 1.25); None if it is unknown or not needed
    kernels: tuple[Kernels, Kernels] | None = None  # the kernels of both arms; None if they are unknown
    launches: int = 1  # the number of launches with a ratio; 1 for two sides
    # The standard deviation of the ratio from launch to launch, or from run to run, as a share; None if it is unknown.
    communicator_variance: float | None = None
    shared: SharedTimes | None = None  # the times of the shared arm; None if no arm is shared
    # The data from which the verdict of a band is computed; None for a comparison without data.
    evidence: Evidence | None = None
    number: int = 0  # the number of the pair of arms in `evidence`

    def __eq__(self, other: object) -> bool:
        """Return True if all fields but ``evidence`` and ``number`` are equal."""
        names = [name for name in self.__struct_fields__ if name not in ("evidence", "number")]
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
