"""The times of a run, in the form that comparisons use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from nccl_bench.analysis.cells import Cell, Cells, Point
from nccl_bench.analysis.kernels import kernels_of
from nccl_bench.catalog.collectives import Placement
from nccl_bench.records.kernels import Kernels
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Status


# No slots: a run keeps its times by point.
@dataclass(frozen=True, kw_only=True)
class ComparableRun:
    """The times of one run."""

    name: str  # the name in messages: the path of the run, or the name in run.json
    arms: tuple[str, ...]  # the names of all arms without twins, the baseline first
    # The times by cell; a cell without times is absent. Any mapping of `Rounds` becomes `Cells`.
    cells: Cells
    placements: Mapping[Cell, Placement] = field(default_factory=dict)  # of an arm's calls; absent if it is the case's
    kernels: Mapping[Cell, Kernels] = field(default_factory=dict)  # the kernels of each cell, if NCCL's log was read
    process_sets: Mapping[str, int] = field(default_factory=dict)  # the process set of each arm, if there are several
    medians_only: bool = False  # True if each cell has only one time, so that the variation is unknown
    # The ratios of each cell, by arm and base; computed at the first use.
    _ratios: dict[tuple[str, str], Mapping[Cell, list[float]]] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Make the columns of the times."""
        object.__setattr__(self, "cells", Cells.of(self.cells))

    @classmethod
    def of(cls, run: Run, name: str) -> ComparableRun:
        """Return the times of ``run``; a cell is absent if its results are wrong or all its batches were discarded.

        A cell is also absent if its results are wrong in one launch of several.
        """
        wrong = run.samples.cell[~run.samples.status.equals(Status.OK)]
        samples = run.samples.take(run.samples.is_timed & ~np.isin(run.samples.cell, wrong))
        cells = Cells.of_samples(samples)
        usual = samples.case.map(lambda case: case.placement, object)
        unusual = np.flatnonzero(samples.placement.map(lambda own: own, object) != usual).tolist()
        return cls(
            name=name,
            arms=run.arms,
            cells=cells,
            placements={cells.of_lines[line]: samples.placement[line] for line in unusual},
            kernels=kernels_of(samples),
            process_sets={arm: index for index, names in enumerate(run.process_sets) for arm in names},
            medians_only=cells.most_rounds == 1,
        )

    @cached_property
    def medians_us(self) -> Mapping[Cell, float]:
        """The median time of each cell in microseconds."""
        return dict(zip(self.cells.of_lines, self.cells.medians_us.tolist(), strict=True))

    def median_us(self, point: Point, arm: str) -> float | None:
        """Return the median time of ``arm`` in microseconds; ``None`` if ``arm`` has no times at ``point``."""
        return self.medians_us.get((*point, arm))

    def placement(self, point: Point, arm: str) -> Placement:
        """Return the placement in which ``arm`` was called at ``point``."""
        # Most runs have no cell with another placement. The first test is fast, because every cell comes here.
        return self.placements.get((*point, arm), point[0].placement) if self.placements else point[0].placement

    def kernels_with(self, cell: Cell, other: ComparableRun, other_cell: Cell) -> tuple[Kernels, Kernels] | None:
        """Return the kernels of ``cell`` and of ``other_cell`` in the run ``other``; ``None`` if either is unknown."""
        first, second = self.kernels.get(cell), other.kernels.get(other_cell)
        return None if first is None or second is None else (first, second)

    def ratios(self, point: Point, arm: str, base: str) -> Sequence[float]:
        """Return the ratio ``arm`` / ``base`` of each round in which both arms have a time."""
        if (arm, base) not in self._ratios:
            paired = self.cells.paired([arm], base)
            cells = [self.cells.of_lines[line] for line in paired.lines[paired.starts].tolist()]
            self._ratios[arm, base] = dict(zip(cells, paired.of_cells.to_lists(), strict=True))
        return self._ratios[arm, base].get((*point, arm), ())

    def in_different_processes(self, arm: str, base: str) -> bool:
        """Return True if ``arm`` and ``base`` ran in different process sets."""
        return self.process_sets.get(arm) != self.process_sets.get(base)

    def launches(self) -> tuple[ComparableRun, ...]:
        """Return the times of each launch as a run of its own."""
        launches = np.unique(self.cells.launch)
        if len(launches) < 2:
            return (self,)
        return tuple(replace(self, cells=self.cells.only(self.cells.launch == launch)) for launch in launches)


def medians_us(side: Sequence[ComparableRun], point: Point, arm: str) -> list[float]:
    """Return the median time of ``arm`` at ``point`` in each run of ``side``, in microseconds, if the run has times."""
    return [time_us for run in side if (time_us := run.median_us(point, arm)) is not None]


def without_size(point: Point) -> Point:
    """Return ``point`` without its size: the points of one kind of case and one timing then are equal."""
    case, timing = point
    return case.kind, timing
