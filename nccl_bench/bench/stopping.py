"""When there are rounds enough: by how well the ratios are known, never by what they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nccl_bench.analysis.statistics import narrow_enough
from nccl_bench.catalog.arms import twin_of

# Samples are reduced over the ranks once for this many rounds: a control collective between batches would cool caches.
ROUNDS_PER_BLOCK = 3
# A gate that opens early is doubled; after this many times the rounds wanted, what was kept has to do.
ATTEMPTS_PER_ROUND = 3

# Microseconds per operation by arm and round; rounds whose batch was discarded are absent.
Kept = Mapping[str, Mapping[int, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """The rule for one timing of one case.

    Every arm gets ``fewest`` rounds. More follow, ``most`` at the most, until the interval of each ratio to
    ``baseline`` within a round, the twin's among them, is narrow enough for ``threshold``: at the level ``error``, and
    by its width alone. Stopping on a verdict would raise false alarms.
    """

    baseline: str
    fewest: int
    most: int
    threshold: float
    error: float

    def block(self, kept: Kept, attempts: int, *, in_time: bool) -> int:
        """How many rounds to do next, 0 where there are enough; ``attempts`` is how many were tried.

        Fewer than ``fewest`` are kept only of arms whose batches are discarded too often. Unless ``in_time``, no more
        than these are done.
        """
        complete = min(map(len, kept.values()))
        wanted = self.fewest
        if in_time and complete >= self.fewest and not self._sure(kept):
            wanted = self.most
        return max(0, min(ROUNDS_PER_BLOCK, wanted - complete, ATTEMPTS_PER_ROUND * wanted - attempts))

    def _sure(self, kept: Kept) -> bool:
        """Whether every ratio is known well enough, as where there is nothing to compare."""
        if self.baseline not in kept or not set(kept) - {self.baseline, twin_of(self.baseline)}:
            return True
        of_baseline = kept[self.baseline]
        return all(
            narrow_enough(
                [time_us / of_baseline[number] for number, time_us in times.items() if number in of_baseline],
                self.error,
                self.threshold,
            )
            for name, times in kept.items()
            if name != self.baseline
        )
