"""The times of a run in the form in which arms and runs are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Samples, Status

# The time of each round in microseconds, by the round's number.
Rounds = Mapping[int, float]
Place = tuple[Case, Timing]
# A place and the name of an arm.
Cell = tuple[Case, Timing, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparableRun:
    """The times of one run."""

    name: str  # the run's name in messages: its path, or the name that it was measured under
    arms: tuple[str, ...]  # the names of its arms without twins, baseline first
    cells: Mapping[Cell, Rounds]  # the times of each cell that has any
    medians_only: bool = False  # True if no cell has more than one time, so that rounds show no variation

    @classmethod
    def of(cls, run: Run, name: str) -> ComparableRun:
        """Return the times of ``run``; cells with wrong results or without a kept batch are absent."""
        cells = {
            (line.case, line.timing, line.arm): line.rounds_us()
            for line in run.lines
            if isinstance(line, Samples) and line.status is Status.OK and line.samples_us
        }
        return cls(
            name=name, arms=run.arms, cells=cells, medians_only=bool(cells) and max(map(len, cells.values())) < 2
        )

    def median_us(self, place: Place, arm: str) -> float | None:
        """Return the median time in microseconds; ``None`` if it was not measured."""
        times = self.cells.get((*place, arm))
        return median(times.values()) if times else None

    def ratios(self, place: Place, arm: str, base: str) -> list[float]:
        """Return the ratio ``arm`` / ``base`` of each round that both arms have."""
        arm_us, base_us = self.cells.get((*place, arm), {}), self.cells.get((*place, base), {})
        return [time_us / base_us[number] for number, time_us in arm_us.items() if number in base_us]


def medians_us(side: Sequence[ComparableRun], place: Place, arm: str) -> list[float]:
    """Return the medians in microseconds of the runs of ``side`` that have one."""
    return [time_us for run in side if (time_us := run.median_us(place, arm)) is not None]
