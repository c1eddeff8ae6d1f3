"""One cell before and after: its ratio, its interval at any level, and the verdict on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from statistics import fmean, median

from nccl_bench.analysis.sources import Luck, Place, Source, medians, of_both
from nccl_bench.analysis.statistics import (
    Interval,
    Verdict,
    holds_beyond,
    interval,
    pairs_needed,
    student_quantile,
    verdict_of,
)
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import Timing

# No interval reaches farther than a millionfold, as a logarithm: of runs that differ a lot its ends may not be numbers.
_FARTHEST = math.log(1e6)


class Ground(StrEnum):
    """What the intervals stand on."""

    RUNS = "the variation between the runs of each side"
    SHARED_ARM = "rounds within each run, relative to an arm that both sides have"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One arm before and after, in one case and timing.

    ``interval`` and ``verdict`` are ``None`` where there is no ground for any; ``pairs_needed`` is set where rounds are
    too few for an interval, which takes so many on each side. ``floor`` is how far from 1 the twins of both sides reach
    together, as a share, ``None`` where neither has one or nothing is relative to a shared arm; ``below_floor``: a
    verdict was withheld for it, or for want of twins.
    """

    case: Case
    timing: Timing
    before_arm: str
    after_arm: str
    before_us: float
    after_us: float
    ratio: float
    threshold: float
    interval: Interval | None
    verdict: Verdict | None
    floor: float | None
    below_floor: bool
    pairs_needed: int | None


class Estimate:
    """The ratio of one cell, and its interval at any level."""

    def __init__(
        self,
        before: Sequence[Source],
        after: Sequence[Source],
        ground: Ground,
        shared: str | None,
        place: Place,
        first: str,
        second: str,
        lucks: tuple[Luck, Luck] | None,
    ) -> None:
        self._place, self._arms, self._ground, self._lucks = place, (first, second), ground, lucks
        sides = ((before, first), (after, second))
        self._us = [median(medians(side, place, arm)) for side, arm in sides]
        # Logarithms, one for each run of a side.
        self._values = [
            [
                math.log(time_us / base_us)
                for time_us, base_us in zip(
                    medians(side, place, arm),
                    medians(side, place, shared) if shared is not None else [1.0] * len(side),
                    strict=True,
                )
            ]
            for side, arm in sides
        ]
        self._ratios: list[list[float]] = []
        self._log_ratio = fmean(self._values[1]) - fmean(self._values[0])
        if ground is Ground.SHARED_ARM:
            assert shared is not None
            self._ratios = [sorted(side[0].ratios(place, arm, shared)) for side, arm in sides]
            self._log_ratio = math.log(median(self._ratios[1]) / median(self._ratios[0]))

    def at(self, error: float) -> Interval | None:
        """The interval whose error is ``error`` at the most."""
        if self._ground is Ground.RUNS:
            half = min(_FARTHEST, student_quantile(error, self._freedom) * self._standard_error)
            return Interval(low=math.exp(self._log_ratio - half), high=math.exp(self._log_ratio + half), error=error)
        if self._ground is Ground.NOTHING:
            return None
        first, second = (interval(ratios, error / 2) for ratios in self._ratios)
        if first is None or second is None:
            return None
        return Interval(low=second.low / first.high, high=second.high / first.low, error=first.error + second.error)

    @cached_property
    def _standard_error(self) -> float:
        """Of the difference of the sides' means, from the variance of both together: one machine, one variation."""
        deviations = [value - fmean(values) for values in self._values for value in values]
        spread = sum(deviation**2 for deviation in deviations) / self._freedom
        return math.sqrt(spread * sum(1 / len(values) for values in self._values))

    @property
    def _freedom(self) -> int:
        return sum(map(len, self._values)) - 2

    def change(self, threshold: float, level: float) -> Change:
        """The cell at its level."""
        found = self.at(level)
        ratio = math.exp(self._log_ratio)
        verdict = None if self._ground is Ground.NOTHING else verdict_of(found, threshold)
        floor, below = None, False
        if self._lucks is not None:
            # Each side's share of the level, as its rounds have.
            floor = of_both(*(luck.floor(self._place, level / 2) for luck in self._lucks))
            if found is not None and verdict is not Verdict.INCONCLUSIVE:
                below = not holds_beyond(found, ratio, threshold, floor)
        return Change(
            case=self._place[0],
            timing=self._place[1],
            before_arm=self._arms[0],
            after_arm=self._arms[1],
            before_us=self._us[0],
            after_us=self._us[1],
            ratio=ratio,
            threshold=threshold,
            interval=found,
            verdict=Verdict.INCONCLUSIVE if below else verdict,
            floor=None if floor is None else floor.share,
            below_floor=below,
            pairs_needed=pairs_needed(level / 2) if self._ground is Ground.SHARED_ARM and found is None else None,
        )
