"""The times of a run, in the form that comparisons use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from nccl_bench.analysis.statistics import paired_ratios
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import Placement
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Samples, Status

# The times of rounds in microseconds; each key is the number of a round.
Rounds = Mapping[int, float]
# A point at which arms are compared: a case and a timing.
Point = tuple[Case, Timing]
# A case, a timing and the name of an arm.
Cell = tuple[Case, Timing, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparableRun:
    """The times of one run."""

    name: str  # the name in messages: the path of the run, or the name in run.json
    arms: tuple[str, ...]  # the names of all arms without twins, the baseline first
    cells: Mapping[Cell, Rounds]  # the times by cell; a cell without times is absent
    placements: Mapping[Cell, Placement] = field(default_factory=dict)  # of an arm's calls; absent: that of the case
    medians_only: bool = False  # True if each cell has only one time, so that the variation is unknown

    @classmethod
    def of(cls, run: Run, name: str) -> ComparableRun:
        """Return the times of ``run``; a cell is absent if its results are wrong or all its batches were discarded."""
        measured = {
            (line.case, line.timing, line.arm): line
            for line in run.lines
            if isinstance(line, Samples) and line.status is Status.OK and line.samples_us
        }
        return cls(
            name=name,
            arms=run.arms,
            cells={cell: line.rounds_us() for cell, line in measured.items()},
            placements={cell: line.placement for cell, line in measured.items()},
            medians_only=bool(measured) and all(len(line.rounds) < 2 for line in measured.values()),
        )

    def median_us(self, point: Point, arm: str) -> float | None:
        """Return the median time of ``arm`` in microseconds; ``None`` if ``arm`` has no times at ``point``."""
        times = self.cells.get((*point, arm))
        return median(times.values()) if times else None

    def placement(self, point: Point, arm: str) -> Placement:
        """Return the placement in which ``arm`` was called at ``point``."""
        return self.placements.get((*point, arm), point[0].placement)

    def ratios(self, point: Point, arm: str, base: str) -> list[float]:
        """Return the ratio ``arm`` / ``base`` of each round in which both arms have a time."""
        return paired_ratios(self.cells.get((*point, arm), {}), self.cells.get((*point, base), {}))


def medians_us(side: Sequence[ComparableRun], point: Point, arm: str) -> list[float]:
    """Return the median time of ``arm`` at ``point`` in each run of ``side``, in microseconds, if the run has times."""
    return [time_us for run in side if (time_us := run.median_us(point, arm)) is not None]
