"""One run as far as it can be compared with others: the time of every round, and what its twin tells of luck."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

from nccl_bench.analysis.statistics import Floor, interval
from nccl_bench.catalog.arms import TWIN_SUFFIX, twin_of
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import Timing

# Standard deviations. Normal luck is beyond 3 at one size in 370, beyond 2 at some of 14 sizes in every other sweep.
_EASILY = 3.0
# Of one run: the time of each round, or of no round in particular where only a summary is left.
Rounds = Mapping[int, float]
Place = tuple[Case, Timing]
Cell = tuple[Case, Timing, str]
Cells = Mapping[Cell, Rounds]


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


def medians(side: Sequence[Source], place: Place, arm: str) -> list[float]:
    """The medians in microseconds of the runs of ``side`` that have one."""
    return [time_us for source in side if (time_us := source.median_us(place, arm)) is not None]


class Luck:
    """What the twin of one run tells of the luck of its communicators: that of ``arm``, or whichever it has."""

    def __init__(self, source: Source, arm: str) -> None:
        twins = sorted(
            {name for _, _, name in source.cells if name.endswith(TWIN_SUFFIX)},
            key=lambda name: (name != twin_of(arm), name),
        )
        self._ratios: dict[Place, list[float]] = {}
        for place in dict.fromkeys((case, timing) for case, timing, _ in source.cells):
            every = (source.ratios(place, twin, twin.removesuffix(TWIN_SUFFIX)) for twin in twins)
            if ratios := next(filter(None, every), None):
                self._ratios[place] = ratios
        self._medians = {place: median(map(math.log, ratios)) for place, ratios in self._ratios.items()}
        squares: dict[Place, list[float]] = {}
        for place, of_place in self._medians.items():
            squares.setdefault(_kind(place), []).append(of_place**2)
        # At one size a twin can be lucky too, so all sizes of a sweep tell what is usual.
        self._usual = {kind: _EASILY * math.sqrt(fmean(of_kind)) for kind, of_kind in squares.items()}

    def floor(self, place: Place, error: float) -> Floor | None:
        """The floor of one arm against another in this run, the twin's interval being at ``error``.

        The luck in it is that of two communicators, and so it is in a twin against its own arm. ``None`` where there is
        no twin at any size.
        """
        usual = self._usual.get(_kind(place))
        if usual is None:
            return None
        ratios = self._ratios.get(place)
        if ratios is None:
            return Floor(reach=usual, luck=usual)
        found = interval(ratios, error)
        # Too few rounds for an interval: what was seen, which the comparison's own lack of one goes beyond.
        low, high = (found.low, found.high) if found else (min(ratios), max(ratios))
        return Floor(reach=max(math.log(high), -math.log(low)), luck=max(abs(self._medians[place]), usual))


def of_both(first: Floor | None, second: Floor | None) -> Floor | None:
    """The floor of a ratio of two runs' ratios; a side without a twin is as lucky as the other.

    Four communicators make its logarithm, (new - shared) of one run less that of the other. A twin has two of the four,
    those of its side, and the sides are independent: the squares add up.
    """
    first, second = first or second, second or first
    if first is None or second is None:
        return None
    return Floor(reach=math.hypot(first.reach, second.reach), luck=math.hypot(first.luck, second.luck))


def _kind(place: Place) -> Place:
    """What sizes of one sweep have in common."""
    case, timing = place
    return replace(case, size_bytes=0, count=0), timing
