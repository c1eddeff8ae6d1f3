"""One run as far as it can be compared with others: the time of every round of every cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from nccl_bench.collectives import Case, Timing

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
