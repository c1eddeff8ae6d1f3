"""The rule for the number of rounds. The precision of the ratios decides, never the values of the ratios."""

from collections.abc import Mapping
from dataclasses import dataclass

from nccl_bench.analysis.statistics import narrow_enough, paired_ratios
from nccl_bench.catalog.arms import twin_of

# The ranks combine their samples once in this many rounds. Combining after each batch would disturb the caches.
ROUNDS_PER_BLOCK = 3
# A timing makes at most this many attempts for each wanted round, because some batches can be discarded.
ATTEMPTS_PER_ROUND = 3

# Arm -> round -> microseconds per operation. A round whose batch was discarded is absent.
Kept = Mapping[str, Mapping[int, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """The rule for one timing of one case: measure until the ratios to the baseline are known precisely enough.

    Only the width of the intervals counts. A rule that stops at the first verdict would raise false alarms.
    """

    baseline: str  # the arm that all other arms are compared with
    fewest: int  # the lower limit of rounds while there is time
    fewest_late: int  # the lower limit of rounds when the time is up
    most: int  # the upper limit of rounds
    threshold: float  # the smallest difference that matters; an interval must be narrow enough to show it
    error: float  # the allowed error probability of each interval

    def block(self, kept: Kept, attempts: int, *, in_time: bool) -> int:
        """Return the number of rounds to do next, or 0 if there are enough. ``attempts`` counts the rounds so far.

        If not ``in_time``, stop at ``fewest_late`` rounds. An arm with many discarded batches can end with fewer.
        """
        complete = min(map(len, kept.values()))
        wanted = self.fewest if in_time else self.fewest_late
        if in_time and complete >= self.fewest and not self._precise(kept):
            wanted = self.most
        return max(0, min(ROUNDS_PER_BLOCK, wanted - complete, ATTEMPTS_PER_ROUND * wanted - attempts))

    def _precise(self, kept: Kept) -> bool:
        """Return whether every ratio to the baseline, including the ratio of the twin, is known precisely enough."""
        if self.baseline not in kept or not set(kept) - {self.baseline, twin_of(self.baseline)}:
            return True
        baseline_us = kept[self.baseline]
        return all(
            narrow_enough(paired_ratios(times_us, baseline_us), self.error, self.threshold)
            for name, times_us in kept.items()
            if name != self.baseline
        )
