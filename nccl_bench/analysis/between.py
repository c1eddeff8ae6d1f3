"""Two sides of one or more runs each, compared: runs are not paired, so the variation between runs has to be known.

Several runs a side tell it themselves. One run a side says nothing about it, so there an arm that both have stands in:
each side's times are taken relative to it, and what moved both arms alike, the machine, drops out. Without such an arm
there are ratios and no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from statistics import fmean, median

from nccl_bench.analysis.statistics import (
    FAMILYWISE_ERROR,
    Interval,
    Verdict,
    decisive_error,
    holds_beyond,
    holm,
    interval,
    pairs_needed,
    student_quantile,
    verdict_of,
)
from nccl_bench.capabilities import TWIN_SUFFIX, twin_of
from nccl_bench.collectives import Case, Timing

# Of one run: the time of each round, or of no round in particular where only a summary is left.
Rounds = Mapping[int, float]
Place = tuple[Case, Timing]
Cell = tuple[Case, Timing, str]
Cells = Mapping[Cell, Rounds]
# No interval reaches farther than a millionfold, as a logarithm: of runs that differ a lot its ends may not be numbers.
_FARTHEST = math.log(1e6)


class Ground(StrEnum):
    """What the intervals stand on."""

    RUNS = "the variation between the runs of each side"
    SHARED_ARM = "rounds within each run, relative to an arm that both sides have"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One run as far as it can be compared: its baseline first among ``arms``; a ``summary`` has only medians left."""

    name: str
    arms: tuple[str, ...]
    cells: Cells
    summary: bool = False

    def median_us(self, place: Place, arm: str) -> float | None:
        """The median time in microseconds; ``None`` where it was not measured."""
        times = self.cells.get((*place, arm))
        return median(times.values()) if times else None

    def ratios(self, place: Place, arm: str, base: str) -> list[float]:
        """``arm`` over ``base`` in the rounds that both have."""
        arm_us, base_us = self.cells.get((*place, arm), {}), self.cells.get((*place, base), {})
        return [time_us / base_us[number] for number, time_us in arm_us.items() if number in base_us]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One arm before and after, in one case and timing.

    ``interval`` and ``verdict`` are ``None`` where there is no ground for any; ``pairs_needed`` is set where rounds are
    too few for an interval: so many on each side would do. ``below_floor``: a verdict was withheld, since what the
    shared arm's own twin shows could have made it.
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
    below_floor: bool
    pairs_needed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """Everything that two sides have in common, and of the arms that were asked for the cells that only one has.

    A cell has to be in every run of a side, beside that of the ``shared`` arm that its times are relative to, if any:
    one that both sides have, and not so, is in ``only_before`` and ``only_after``. ``why`` says what the verdicts stand
    on, or why there are none.
    """

    ground: Ground
    why: str
    shared: str | None
    changes: tuple[Change, ...]
    only_before: tuple[Cell, ...]
    only_after: tuple[Cell, ...]


def between(
    before: Sequence[Source],
    after: Sequence[Source],
    threshold: Callable[[Case, Timing], float],
    *,
    arms: tuple[str, str] | None = None,
    shared: str | None = None,
) -> Between:
    """``after`` against ``before``: every arm of both against itself, or the second of ``arms`` against the first.

    ``shared`` is an arm that the change does not touch. Without it, and one run a side, the baseline of both stands in
    if they have the same one. Ratios are of medians, after / before.
    """
    if shared is None and min(len(before), len(after)) == 1:
        shared = _shared_baseline(before, after, arms)
    ground, why = _ground(before, after, shared)
    keys = [
        (place, first, second)
        for first, second in ([arms] if arms else _pairs(before, after, shared))
        for place in _places(before, first)
        if _have(before, place, first, shared) and _have(after, place, second, shared)
    ]
    estimates = [_Estimate(before, after, ground, shared, *key) for key in keys]
    limits = [threshold(*place) for place, _, _ in keys]
    least = [decisive_error(estimate.at, limit) for estimate, limit in zip(estimates, limits, strict=True)]
    changes = tuple(
        estimate.change(limit, level)
        for estimate, limit, level in zip(estimates, limits, holm(least, FAMILYWISE_ERROR), strict=True)
    )
    return Between(
        ground=ground,
        why=why,
        shared=shared,
        changes=changes,
        only_before=_rest(before, shared, arms and arms[0], {(*place, first) for place, first, _ in keys}),
        only_after=_rest(after, shared, arms and arms[1], {(*place, second) for place, _, second in keys}),
    )


class _Estimate:
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
    ) -> None:
        self._place, self._arms, self._ground = place, (first, second), ground
        sides = ((before, first), (after, second))
        self._us = [median(_medians(side, place, arm)) for side, arm in sides]
        # Logarithms, one for each run of a side.
        self._values = [
            [
                math.log(time_us / base_us)
                for time_us, base_us in zip(
                    _medians(side, place, arm),
                    _medians(side, place, shared) if shared is not None else [1.0] * len(side),
                    strict=True,
                )
            ]
            for side, arm in sides
        ]
        self._ratios: list[list[float]] = []
        self._floor = 0.0
        self._log_ratio = fmean(self._values[1]) - fmean(self._values[0])
        if ground is Ground.SHARED_ARM:
            assert shared is not None
            self._ratios = [sorted(side[0].ratios(place, arm, shared)) for side, arm in sides]
            self._log_ratio = math.log(median(self._ratios[1]) / median(self._ratios[0]))
            twins = [side[0].ratios(place, twin_of(shared), shared) for side, _ in sides]
            # What one communicator's life can do, it can do on either side.
            self._floor = sum(abs(median(twin) - 1) for twin in twins if twin)

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
        decided = verdict not in (None, Verdict.INCONCLUSIVE)
        below = decided and found is not None and not holds_beyond(found, threshold, self._floor)
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
            below_floor=below,
            pairs_needed=pairs_needed(level / 2) if self._ground is Ground.SHARED_ARM and found is None else None,
        )


def _medians(side: Sequence[Source], place: Place, arm: str) -> list[float]:
    return [time_us for source in side if (time_us := source.median_us(place, arm)) is not None]


def _ground(before: Sequence[Source], after: Sequence[Source], shared: str | None) -> tuple[Ground, str]:
    if max(len(before), len(after)) > 1:
        relative = f", relative to {shared}" if shared is not None else ""
        return Ground.RUNS, f"{len(before)} and {len(after)} runs a side{relative}"
    if before[0].summary or after[0].summary:
        return (
            Ground.NOTHING,
            "only medians are left of a run, and how much they vary is not known: give the directories of both runs",
        )
    if shared is None:
        return (
            Ground.NOTHING,
            "two runs are not paired, and these have no unchanged arm in common that would tell what the machine did: "
            "give several runs a side, or have both measure an arm that the change does not touch (--shared)",
        )
    return Ground.SHARED_ARM, f"one run a side, relative to {shared} of the same round"


def _shared_baseline(before: Sequence[Source], after: Sequence[Source], arms: tuple[str, str] | None) -> str | None:
    baselines = {source.arms[0] for source in (*before, *after)}
    common = set.intersection(*(set(source.arms) for source in (*before, *after)))
    # An arm alone in common is what is to be compared.
    if len(baselines) == 1 and (arms or len(common) > 1) and not baselines & set(arms or ()):
        return baselines.pop()
    return None


def _pairs(before: Sequence[Source], after: Sequence[Source], shared: str | None) -> list[tuple[str, str]]:
    """Every arm that all runs have, with itself; where there is none, all that two sides have against each other.

    That is, besides the ``shared`` one.
    """
    first, second = (
        [arm for arm in side[0].arms if arm != shared and all(arm in source.arms for source in side)]
        for side in (before, after)
    )
    common = [(arm, arm) for arm in first if arm in second]
    return common or [(one, other) for one in first for other in second]


def _places(side: Sequence[Source], arm: str) -> list[Place]:
    return list(dict.fromkeys((case, timing) for source in side for case, timing, name in source.cells if name == arm))


def _have(side: Sequence[Source], place: Place, arm: str, shared: str | None) -> bool:
    """Whether every run has it; beside the shared arm in the same round, or there is nothing to be relative to."""
    return all(source.ratios(place, arm, arm if shared is None else shared) for source in side)


def _rest(side: Sequence[Source], shared: str | None, arm: str | None, used: set[Cell]) -> tuple[Cell, ...]:
    """The cells of a side, or of one ``arm``, that had no counterpart; the shared arm's and twins' are not meant to."""
    cells = dict.fromkeys(cell for source in side for cell in source.cells)
    return tuple(
        cell
        for cell in cells
        if cell not in used and cell[2] != shared and arm in (None, cell[2]) and not cell[2].endswith(TWIN_SUFFIX)
    )
