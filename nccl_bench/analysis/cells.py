"""The times of cells as columns, and the ratios of times of the same round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nccl_bench.analysis.indexes import indexes_in, round_codes, starts_of
from nccl_bench.analysis.spread import quartile
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.columns import Indexes, ListColumn, SampleColumns, ValueColumn, common_codes, take_lines

# A point at which arms are compared: a case and a timing.
Point = tuple[Case, Timing]
# A case, a timing and the name of an arm.
Cell = tuple[Case, Timing, str]
# The times of rounds in microseconds; each key is the number of a round. Later launches have different keys: the key
# of a round in launch n is its number plus (n - 1) times `LAUNCH_STRIDE`, which is above every number in a record.
Rounds = Mapping[int, float]
LAUNCH_STRIDE = 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedLines:
    """The lines of arms that share rounds with the base, as columns, in the order of point, arm and launch."""

    lines: Indexes  # the line of the arm
    bases: Indexes  # the line of the base in the same launch
    ratios: ListColumn  # the ratios arm / base of the rounds that both lines have; no list is empty
    starts: Indexes  # the index of the first line of each cell

    @property
    def of_cells(self) -> ListColumn:
        """The ratios of each cell; the ratios of all launches are in one list."""
        return self.ratios.joined(self.starts)


# No slots: the order of the cells is computed once.
@dataclass(frozen=True, eq=False, kw_only=True)
class Cells(Mapping[Cell, Rounds]):
    """The times of each cell. A line of the columns has the rounds of a cell in one launch."""

    case: ValueColumn[Case]  # the measured case
    timing: ValueColumn[Timing]  # the way of measuring
    arm: ValueColumn[str]  # the arm's name
    rounds: ValueColumn[tuple[int, ...]]  # the number of each round
    launch: NDArray[np.int64]  # the launch, counted from 1
    samples_us: ListColumn  # the time of each round

    @classmethod
    def of_samples(cls, samples: SampleColumns) -> Cells:
        """Return the times of ``samples``, which all have times."""
        return cls(**{column.name: getattr(samples, column.name) for column in fields(cls)})

    @classmethod
    def of(cls, cells: Mapping[Cell, Rounds]) -> Cells:
        """Return the times in ``cells``."""
        if isinstance(cells, Cells):
            return cells
        lines: dict[tuple[Cell, int], dict[int, float]] = {}
        for cell, rounds in cells.items():
            for key, time_us in rounds.items():
                lines.setdefault((cell, key // LAUNCH_STRIDE + 1), {})[key % LAUNCH_STRIDE] = time_us
        return cls(
            case=ValueColumn.of([case for (case, _, _), _ in lines]),
            timing=ValueColumn.of([timing for (_, timing, _), _ in lines]),
            arm=ValueColumn.of([arm for (_, _, arm), _ in lines]),
            rounds=ValueColumn.of([tuple(rounds) for rounds in lines.values()]),
            launch=np.array([launch for _, launch in lines], dtype=np.int64),
            samples_us=ListColumn.of([[*rounds.values()] for rounds in lines.values()], np.float64),
        )

    def __getitem__(self, cell: Cell) -> Rounds:
        return {
            (self.launch.item(line) - 1) * LAUNCH_STRIDE + number: time_us
            for line in self._lines[cell]
            for number, time_us in zip(self.rounds[line], self.samples_us[line].tolist(), strict=True)
        }

    def __contains__(self, cell: object) -> bool:
        return cell in self._lines

    def __iter__(self) -> Iterator[Cell]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    @cached_property
    def _lines(self) -> Mapping[Cell, list[int]]:
        """The lines of each cell."""
        lines: dict[Cell, list[int]] = {}
        for line, cell in enumerate(self.of_lines):
            lines.setdefault(cell, []).append(line)
        return lines

    @cached_property
    def of_lines(self) -> Sequence[Cell]:
        """The cell of each line."""
        return list(zip(self.case.to_list(), self.timing.to_list(), self.arm.to_list(), strict=True))

    @property
    def most_rounds(self) -> int:
        """The largest number of rounds of a cell, summed over its launches."""
        _, cells = np.unique(self.number, return_inverse=True)
        return int(np.bincount(cells, self.samples_us.lengths).max(initial=0))

    @cached_property
    def point(self) -> Indexes:
        """The index, for each line, of the first line with the same case and timing."""
        _, first, point = np.unique(common_codes(self.case, self.timing), return_index=True, return_inverse=True)
        numbers: Indexes = first[point]
        return numbers

    @cached_property
    def number(self) -> Indexes:
        """A number for each line. Lines of the same cell have the same number."""
        return self.point * len(self.arm.values) + self.arm.codes

    def only(self, lines: NDArray[np.bool_]) -> Cells:
        """Return the times of the lines that a mask selects."""
        return take_lines(self, lines)

    @cached_property
    def medians_us(self) -> NDArray[np.float64]:
        """The median time of each line's cell over the rounds of all launches, microseconds."""
        order = np.argsort(self.number, kind="stable")
        starts = starts_of(self.number[order])
        times_us = self.samples_us.take(order).joined(starts)
        medians = np.empty(len(starts))
        for cells in times_us.of_equal_length():
            medians[cells] = quartile(np.sort(times_us.matrix(cells), axis=1), 2)
        of_lines = np.empty(len(order))
        of_lines[order] = np.repeat(medians, np.diff(starts, append=len(order)))
        return of_lines

    def paired(self, arms: Sequence[str], base: str) -> PairedLines:
        """Return the lines of ``arms`` with a round that ``base`` has too. Points come in the order of measurement."""
        place = self.arm.map(lambda arm: arms.index(arm) if arm in arms else -1, np.intp)
        _, launch = np.unique(self.launch, return_inverse=True)
        group = self.point * (launch.max(initial=0) + 1) + launch
        of_base, of_arms = np.flatnonzero(self.arm.equals(base)), np.flatnonzero(place >= 0)
        at = indexes_in(group[of_base], group[of_arms])
        lines, bases = of_arms[at >= 0], of_base[at[at >= 0]]
        order = np.lexsort((launch[lines], place[lines], self.point[lines]))
        ratios = self._ratios(lines[order], bases[order])
        known = order[ratios.lengths > 0]
        return PairedLines(
            lines=lines[known],
            bases=bases[known],
            ratios=ListColumn.with_lengths(ratios.numbers, ratios.lengths[ratios.lengths > 0]),
            starts=starts_of(self.number[lines[known]]),
        )

    def _ratios(self, lines: Indexes, bases: Indexes) -> ListColumn:
        """Return the ratios of each of ``lines`` to its line of ``bases``, in the rounds that both lines have."""
        times_us = self.samples_us
        if (self.rounds.codes[lines] == self.rounds.codes[bases]).all():
            of_lines = times_us.take(lines)
            return ListColumn(of_lines.numbers / times_us.take(bases).numbers, of_lines.ends)
        pairs, above, below = self._common_rounds(lines, bases)
        ratios = times_us.numbers[above] / times_us.numbers[below]
        return ListColumn.with_lengths(ratios, np.bincount(pairs, minlength=len(lines)))

    def _common_rounds(self, lines: Indexes, bases: Indexes) -> tuple[Indexes, Indexes, Indexes]:
        """Return each round that both lines of a pair have: the number of the pair, and the positions of both times."""
        # All lines, followed by all bases.
        both = np.append(lines, bases)
        codes, count = round_codes(self.rounds.take(both))
        pairs = np.repeat(np.tile(np.arange(len(lines)), 2), codes.lengths)
        places = self.samples_us.flat_places(both)
        # A number for each round of each pair.
        rounds, end = pairs * count + codes.numbers, codes.ends[len(lines)]
        at = indexes_in(rounds[end:], rounds[:end])
        return pairs[:end][at >= 0], places[:end][at >= 0], places[end:][at[at >= 0]]
