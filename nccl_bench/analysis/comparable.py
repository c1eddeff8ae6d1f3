"""The times of a run, in the form that comparisons use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nccl_bench.analysis.estimates import PairedRatios
from nccl_bench.analysis.kernels import kernels_of
from nccl_bench.analysis.spread import quartile
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import Placement
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.columns import ListColumn
from nccl_bench.records.kernels import Kernels
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Status

# The times of rounds in microseconds; each key is the number of a round. Later launches have keys of their own: the key
# of a round in launch n is its number plus (n - 1) times `LAUNCH_STRIDE`, which is above every number in a record.
Rounds = Mapping[int, float]
LAUNCH_STRIDE = 2**63
# A point at which arms are compared: a case and a timing.
Point = tuple[Case, Timing]
# A case, a timing and the name of an arm.
Cell = tuple[Case, Timing, str]


class LineRounds(Mapping[int, float]):
    """The rounds of one line of samples."""

    __slots__ = ("numbers", "samples_us")

    def __init__(self, numbers: Sequence[int], samples_us: NDArray[np.float64]) -> None:
        self.numbers = numbers
        self.samples_us = samples_us

    def __getitem__(self, number: int) -> float:
        return dict(self.items())[number]

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)

    def values(self) -> Sequence[float]:  # type: ignore[override]  # a view of the values would be slower
        values: list[float] = self.samples_us.tolist()
        return values

    def items(self) -> zip[tuple[int, float]]:  # type: ignore[override]
        return zip(self.numbers, self.values(), strict=True)


# No slots: a run keeps its times by point.
@dataclass(frozen=True, kw_only=True)
class ComparableRun:
    """The times of one run."""

    name: str  # the name in messages: the path of the run, or the name in run.json
    arms: tuple[str, ...]  # the names of all arms without twins, the baseline first
    cells: Mapping[Cell, Rounds]  # the times by cell; a cell without times is absent
    placements: Mapping[Cell, Placement] = field(default_factory=dict)  # of an arm's calls; absent if it is the case's
    kernels: Mapping[Cell, Kernels] = field(default_factory=dict)  # what NCCL ran in each cell, if its log was read
    process_sets: Mapping[str, int] = field(default_factory=dict)  # the process set of each arm, if there are several
    medians_only: bool = False  # True if each cell has only one time, so that the variation is unknown

    @classmethod
    def of(cls, run: Run, name: str) -> ComparableRun:
        """Return the times of ``run``; a cell is absent if its results are wrong or all its batches were discarded.

        A cell is also absent if its results are wrong in one launch of several.
        """
        wrong = run.samples.cell[~run.samples.status.equals(Status.OK)]
        samples = run.samples.take(run.samples.is_timed & ~np.isin(run.samples.cell, wrong))
        one_launch = bool((samples.launch == 1).all())
        cells: dict[Cell, Rounds] = {}
        of_launches: dict[Cell, dict[int, float]] = {}
        placements = {}
        columns = (samples.case, samples.timing, samples.arm, samples.rounds, samples.placement)
        for *of_cell, rounds, placement, launch, times_us in zip(
            *(column.to_list() for column in columns),
            samples.launch.tolist(),
            samples.samples_us,
            strict=True,
        ):
            cell: Cell = tuple(of_cell)
            if one_launch:
                cells[cell] = LineRounds(rounds, times_us)
            else:
                first = (launch - 1) * LAUNCH_STRIDE
                cells[cell] = all_rounds = of_launches.setdefault(cell, {})
                all_rounds.update(
                    (first + number, time_us) for number, time_us in zip(rounds, times_us.tolist(), strict=True)
                )
            if placement is not cell[0].placement:
                placements[cell] = placement
        return cls(
            name=name,
            arms=run.arms,
            cells=cells,
            placements=placements,
            kernels=kernels_of(samples),
            process_sets={arm: index for index, names in enumerate(run.process_sets) for arm in names},
            medians_only=bool(cells) and max(map(len, cells.values())) < 2,
        )

    @cached_property
    def by_point(self) -> Mapping[Point, Mapping[str, Rounds]]:
        """The times of each arm, by case and timing."""
        points: dict[Point, dict[str, Rounds]] = {}
        for (case, timing, arm), rounds in self.cells.items():
            points.setdefault((case, timing), {})[arm] = rounds
        return points

    @cached_property
    def medians_us(self) -> Mapping[Cell, float]:
        """The median time of each cell in microseconds."""
        times_us = ListColumn.of_arrays([_times(rounds) for rounds in self.cells.values()])
        medians = np.empty(len(times_us))
        for lines in times_us.of_equal_length():
            medians[lines] = quartile(np.sort(times_us.matrix(lines), axis=1), 2)
        return dict(zip(self.cells, medians.tolist(), strict=True))

    def median_us(self, point: Point, arm: str) -> float | None:
        """Return the median time of ``arm`` in microseconds; ``None`` if ``arm`` has no times at ``point``."""
        return self.medians_us.get((*point, arm))

    def placement(self, point: Point, arm: str) -> Placement:
        """Return the placement in which ``arm`` was called at ``point``."""
        # Most runs have no such cells, and this is asked for every cell.
        return self.placements.get((*point, arm), point[0].placement) if self.placements else point[0].placement

    def kernels_with(self, cell: Cell, other: ComparableRun, other_cell: Cell) -> tuple[Kernels, Kernels] | None:
        """Return what NCCL ran in ``cell`` and in ``other_cell`` of the run ``other``; ``None`` if one is unknown."""
        first, second = self.kernels.get(cell), other.kernels.get(other_cell)
        return None if first is None or second is None else (first, second)

    def ratios(self, point: Point, arm: str, base: str) -> list[float]:
        """Return the ratio ``arm`` / ``base`` of each round in which both arms have a time."""
        times = self.by_point.get(point, {})
        ratios: list[float] = []
        if arm in times and base in times:
            ratios = ratios_of_rounds([(times[arm], times[base])]).numbers.tolist()
        return ratios

    def pairs(self, arms: Sequence[str], base: str) -> tuple[list[tuple[Point, str]], list[PairedRatios]]:
        """Return each point and arm of ``arms`` with a round that ``base`` has too, and the estimate of its ratio."""
        cells = [
            (point, arm, times[arm], times[base])
            for point, times in self.by_point.items()
            if base in times
            for arm in arms
            if arm in times
        ]
        ratios = ratios_of_rounds([(of_arm, of_base) for *_, of_arm, of_base in cells])
        known = np.flatnonzero(ratios.lengths)
        estimates = PairedRatios.of_each(ratios.take(known))
        return [cells[index][:2] for index in known.tolist()], estimates

    def in_different_processes(self, arm: str, base: str) -> bool:
        """Return True if ``arm`` and ``base`` ran in different process sets."""
        return self.process_sets.get(arm) != self.process_sets.get(base)

    def launches(self) -> tuple[ComparableRun, ...]:
        """Return the times of each launch as a run of its own."""
        # Most runs have one launch, and some have thousands of cells.
        if all(
            isinstance(rounds, LineRounds) or max(rounds, default=0) < LAUNCH_STRIDE for rounds in self.cells.values()
        ):
            return (self,)
        cells: dict[int, dict[Cell, dict[int, float]]] = {}
        for cell, rounds in self.cells.items():
            for key, time_us in rounds.items():
                cells.setdefault(key // LAUNCH_STRIDE, {}).setdefault(cell, {})[key % LAUNCH_STRIDE] = time_us
        return tuple(replace(self, cells=of_launch) for _, of_launch in sorted(cells.items()))


def ratios_of_rounds(pairs: Sequence[tuple[Rounds, Rounds]]) -> ListColumn:
    """Return, for each pair, the ratio of the times of both in each round that both have."""
    # Nearly all pairs have the same rounds. Their times are divided at once.
    times_us = [[_times(rounds) for rounds in side] for side in zip(*pairs, strict=True)] or [[], []]
    for index, (of_arm, of_base) in enumerate(pairs):
        if not (
            isinstance(of_arm, LineRounds) and isinstance(of_base, LineRounds) and of_arm.numbers == of_base.numbers
        ):
            base_us = dict(of_base.items())
            both = [(time_us, base_us[number]) for number, time_us in of_arm.items() if number in base_us]
            for side, column in zip(times_us, zip(*both, strict=True) if both else ((), ()), strict=True):
                side[index] = np.array(column)
    of_arms, of_bases = (ListColumn.of_arrays(side) for side in times_us)
    return ListColumn(of_arms.numbers / of_bases.numbers, of_arms.ends)


def _times(rounds: Rounds) -> NDArray[np.float64]:
    return rounds.samples_us if isinstance(rounds, LineRounds) else np.array([*rounds.values()], dtype=np.float64)


def medians_us(side: Sequence[ComparableRun], point: Point, arm: str) -> list[float]:
    """Return the median time of ``arm`` at ``point`` in each run of ``side``, in microseconds, if the run has times."""
    return [time_us for run in side if (time_us := run.median_us(point, arm)) is not None]


def without_size(point: Point) -> Point:
    """Return ``point`` without its size: the points of one kind of case and one timing then are equal."""
    case, timing = point
    return case.kind, timing
