"""The rows of the summary. A run can have a million rows, so the object of a row is made when the row is read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from nccl_bench.analysis.cells import Point
from nccl_bench.analysis.comparable import ComparableRun
from nccl_bench.analysis.comparison import Comparison
from nccl_bench.analysis.indexes import indexes_in
from nccl_bench.analysis.joined_launches import join_launches
from nccl_bench.analysis.measured_columns import CASE_COLUMNS, Numbers
from nccl_bench.analysis.one_run import median_ratios
from nccl_bench.analysis.row_columns import RowLines, columns_of
from nccl_bench.analysis.summary import COLUMNS, Row
from nccl_bench.records.columns import Indexes
from nccl_bench.records.lines import without_gaps
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Skipped, Status

# The ratio to the baseline, by case and timing, and by arm.
OtherRatios = Mapping[tuple[Point, str], float]
# An iteration over the rows makes this many objects at once.
_AT_ONCE = 50_000


class Rows(Sequence[Row]):
    """The rows of a run, in the order of measurement."""

    __slots__ = ("_columns", "_functions", "_lines", "_places", "_without_samples")

    def __init__(self, lines: RowLines | None, places: Indexes, without_samples: Mapping[int, Row]) -> None:
        self._lines = lines  # the data of the rows with samples
        self._places = places  # the index of each row with samples among all rows, increasing
        self._without_samples = without_samples  # all other rows by their index, increasing
        self._functions = {} if lines is None else columns_of(lines)
        self._columns: dict[str, Sequence[Any]] = {}

    @classmethod
    def of(cls, rows: Iterable[Row] = ()) -> Rows:
        """Return rows that are objects."""
        return cls(None, np.empty(0, dtype=np.intp), dict(enumerate(rows)))

    def __len__(self) -> int:
        return len(self._places) + len(self._without_samples)

    def __iter__(self) -> Iterator[Row]:
        for part in self.parts():
            yield from map(Row, *part.columns().values())

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> Rows: ...

    def __getitem__(self, index: int | slice) -> Row | Rows:
        if isinstance(index, slice):
            return self.at(range(len(self))[index])
        return next(iter(self.at([range(len(self))[index]])))

    def at(self, indexes: Sequence[int]) -> Rows:
        """Return the rows at ``indexes``, which increase."""
        lines = np.flatnonzero(np.isin(self._places, np.array(indexes, dtype=np.intp)))
        objects = {at: self._without_samples[at] for at in indexes if at in self._without_samples}
        return Rows(
            None if self._lines is None else self._lines.take(lines), *without_gaps(self._places[lines], objects)
        )

    def parts(self) -> Iterator[Rows]:
        """Yield the rows in parts, so that the columns of a part need little memory."""
        return (self[first : first + _AT_ONCE] for first in range(0, len(self), _AT_ONCE))

    def column(self, name: str) -> Sequence[Any]:
        """Return the value of a column in each row."""
        if name not in self._columns:
            self._columns[name] = self._column(name)
        return self._columns[name]

    def _of_samples(self, name: str) -> Sequence[Any] | Numbers:
        return self._functions[name]() if name in self._functions else [None] * len(self._places)

    def _column(self, name: str) -> Sequence[Any]:
        values = self._of_samples(name)
        values = values.to_list() if isinstance(values, Numbers) else values
        if not self._without_samples:
            return values
        of_all = np.full(len(self), None, dtype=object)
        of_all[self._places] = values
        of_all[[*self._without_samples]] = [getattr(row, name) for row in self._without_samples.values()]
        together: list[Any] = of_all.tolist()
        return together

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return the number that each row has in a column; NaN for an absent number."""
        # A list of a million numbers needs much memory, so it is neither made nor kept.
        values = self._of_samples(name)
        numbers = np.empty(len(self))
        numbers[self._places] = values.floats if isinstance(values, Numbers) else np.array(values, dtype=np.float64)
        of_rows = [getattr(row, name) for row in self._without_samples.values()]
        numbers[[*self._without_samples]] = np.array(of_rows, dtype=np.float64)
        return numbers

    def columns(self) -> dict[str, Sequence[Any]]:
        """Return the values of each column, in the order of ``COLUMNS``; absent values are ``None``."""
        return {name: self.column(name) for name in COLUMNS}


def rows_of(run: Run, comparisons: Sequence[Comparison] = (), other_ratios: OtherRatios | None = None) -> Rows:
    """Return a row for each record of ``run``, in the order of measurement; the launches of a cell share a row.

    Intervals, verdicts and noise floors come from ``comparisons``, which compare the arms of this run.
    ``other_ratios`` has the ratios of arms without comparisons.
    """
    if other_ratios is None:
        other_ratios = other_ratios_of(run, ComparableRun.of(run, run.meta["name"]), comparisons)
    joined = join_launches(run)
    samples = joined.samples
    cells = [
        samples.numbers_of((each.case, each.timing, each.candidate) for each in comparisons),
        samples.numbers_of((*point, arm) for point, arm in other_ratios),
    ]
    compared, not_compared = (indexes_in(np.array(numbers, dtype=np.intp), samples.cell) for numbers in cells)
    ratios = np.array([*other_ratios.values(), np.nan])
    lines = RowLines(
        samples=samples,
        launches=_launches(run)[np.searchsorted(np.unique(run.samples.cell), samples.cell)],
        baseline=run.baseline,
        comparisons=comparisons,
        compared=compared,
        other_ratios=ratios[np.where(compared < 0, not_compared, -1)],
    )
    rows: dict[int, Row] = {}
    skipped: set[Row] = set()
    for position, line in joined.lines.others.items():
        arm, reason = (None, line.reason) if isinstance(line, Skipped) else (line.arm, None)
        case = {name: getattr(line.case, name) for name in CASE_COLUMNS} if line.case else {}
        row = Row(**case, world_size=run.world_size, arm=arm, status=line.kind, reason=reason)
        # A case that does not fit into memory is skipped in every launch.
        if row not in skipped:
            rows[position] = row
        if isinstance(line, Skipped):
            skipped.add(row)
    return Rows(lines, *without_gaps(joined.lines.positions, rows))


def other_ratios_of(run: Run, comparable: ComparableRun, comparisons: Iterable[Comparison]) -> OtherRatios:
    """Return the ratios of arms without comparisons, such as a twin; ``comparable`` has the times of ``run``."""
    compared = {run.baseline, *(each.candidate for each in comparisons)}
    uncompared = [arm for arm in run.samples.arm.distinct() if arm not in compared]
    cells, paired = comparable.cells, comparable.cells.paired(uncompared, run.baseline)
    of_cells = map(cells.of_lines.__getitem__, paired.lines[paired.starts].tolist())
    return {
        ((case, timing), arm): math.exp(fmean(map(math.log, of_launches)))
        for (case, timing, arm), of_launches in zip(of_cells, median_ratios(paired), strict=True)
    }


def _launches(run: Run) -> NDArray[np.intp]:
    """Return how many launches of each cell have a time; the index is the cell's number. 0 if results are wrong."""
    samples = run.samples
    _, cells = np.unique(samples.cell, return_inverse=True)
    counts = np.bincount(cells, samples.is_timed).astype(np.intp)
    counts[cells[~samples.status.equals(Status.OK)]] = 0
    return counts
