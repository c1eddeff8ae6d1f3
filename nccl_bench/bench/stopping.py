"""The rule for the number of rounds: it depends on how precisely the ratios are known, never on their values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nccl_bench.analysis.statistics import narrow_enough
from nccl_bench.catalog.arms import twin_of

# Samples are reduced over the ranks once in this many rounds: a control collective between batches would cool caches.
ROUNDS_PER_BLOCK = 3
# A batch whose gate opens early is discarded. A timing ends after this many attempts for each wanted round.
ATTEMPTS_PER_ROUND = 3

# Arm -> round -> microseconds per operation. Rounds whose batch was discarded are absent.
Kept = Mapping[str, Mapping[int, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """The rule for one timing of one case: rounds follow until the ratios to the baseline are known well enough.

    A rule that stopped on a verdict would raise false alarms, so only the width of the intervals counts.
    """

    baseline: str  # the arm that the others are compared with
    fewest: int  # every arm gets this many rounds
    most: int  # no arm gets more rounds
    threshold: float  # the ratios' intervals must be narrow enough to show a change of this size
    error: float  # the error level of the intervals

    def block(self, kept: Kept, attempts: int, *, in_time: bool) -> int:
        """Return how many rounds to do next, 0 where there are enough; ``attempts`` were done so far.

        Without ``in_time`` no more than the fewest rounds are done. An arm whose batches are discarded too often keeps
        fewer than these.
        """
        complete = min(map(len, kept.values()))
        wanted = self.fewest
        if in_time and complete >= self.fewest and not self._precise(kept):
            wanted = self.most
        return max(0, min(ROUNDS_PER_BLOCK, wanted - complete, ATTEMPTS_PER_ROUND * wanted - attempts))

    def _precise(self, kept: Kept) -> bool:
        """Return whether every ratio within a round is known well enough, the twin's included."""
        if self.baseline not in kept or not set(kept) - {self.baseline, twin_of(self.baseline)}:
            return True
        baseline_us = kept[self.baseline]
        return all(
            narrow_enough(
                [time_us / baseline_us[number] for number, time_us in times_us.items() if number in baseline_us],
                self.error,
                self.threshold,
            )
            for name, times_us in kept.items()
            if name != self.baseline
        )
