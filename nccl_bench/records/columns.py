"""The lines of a run as columns of numbers. A run can have a million lines, and an object for each would be slow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import chain, pairwise
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.collectives import Placement
from nccl_bench.catalog.timings import Timing
from nccl_bench.plan.memory import Arena
from nccl_bench.records.cost_split import CostSplit
from nccl_bench.records.kernels import Kernels
from nccl_bench.records.scenario_times import PartTimes, Skew
from nccl_bench.records.schema import BuffersRegistered, GpuState, PerIteration, Samples, Status

Value = TypeVar("Value")
# A dataclass whose fields are columns.
Columns = TypeVar("Columns", bound=Any)
Indexes = NDArray[np.intp]
# The most lists that become a matrix at once. More lists would need more memory and save no time.
_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True)
class ValueColumn(Generic[Value]):
    """A column whose values repeat from line to line."""

    values: tuple[Value, ...]  # the distinct values; some may be in no line
    codes: NDArray[np.int32]  # for each line, the index of its value; -1 for None

    @classmethod
    def of(cls, values: Sequence[Value | None]) -> ValueColumn[Value]:
        """Return the column of ``values``."""
        codes = Codes()
        of_lines = np.array([codes[value] for value in values], dtype=np.int32)
        return cls(tuple(codes.in_order), of_lines)

    def take(self, indexes: NDArray[Any]) -> ValueColumn[Value]:
        """Return the column of some lines; ``indexes`` are their indexes, or a mask."""
        return ValueColumn(self.values, self.codes[indexes])

    def __getitem__(self, index: int) -> Any:
        """Return the value of a line; ``None`` for a line without a value."""
        code = self.codes[index]
        return None if code < 0 else self.values[code]

    def map(self, function: Callable[[Any], Any], dtype: Any = bool) -> NDArray[Any]:
        """Return the results of ``function`` for the value of each line, which is ``None`` for a line without one."""
        results = np.empty(len(self.values) + 1, dtype=dtype)
        present = range(len(self.values))
        if len(self.values) > len(self.codes):
            # This column has few lines, so they use only a part of the table of values.
            present = np.unique(self.codes[self.codes >= 0]).tolist()
        of_present = np.fromiter(map(function, map(self.values.__getitem__, present)), dtype, len(present))
        results[present] = of_present
        if self.codes.min(initial=0) < 0:
            # Code -1 selects the last element.
            results[-1] = function(None)
        return results[self.codes]

    def changed(self, function: Callable[[Value], Value]) -> ValueColumn[Value]:
        """Return the column with the result of ``function`` for each value. Equal results become one value."""
        results = ValueColumn.of([*map(function, self.values)])
        # Code -1 selects the last element.
        return ValueColumn(results.values, np.append(results.codes, np.int32(-1))[self.codes])

    def to_list(self) -> list[Any]:
        """Return the value of each line."""
        values: list[Any] = self.map(lambda value: value, object).tolist()
        return values

    def distinct(self) -> tuple[Value, ...]:
        """Return the values that the lines have, in the order in which they first occur."""
        codes, first = np.unique(self.codes, return_index=True)
        return tuple(self.values[code] for code in codes[np.argsort(first)] if code >= 0)

    def equals(self, *values: Any) -> NDArray[np.bool_]:
        """Return whether the value of each line is one of ``values``."""
        chosen = frozenset(values)
        return self.map(chosen.__contains__)


@dataclass(frozen=True, slots=True)
class ListColumn:
    """A column with a list of numbers for each line, all in one array."""

    numbers: NDArray[Any]  # the numbers of all lines
    ends: Indexes  # the list of line i is numbers[ends[i] : ends[i + 1]]

    @classmethod
    def of(cls, lists: Sequence[Sequence[float]], dtype: Any) -> ListColumn:
        """Return the column of ``lists``."""
        ends = _ends_of(np.fromiter(map(len, lists), np.intp, len(lists)))
        return cls(np.fromiter(chain.from_iterable(lists), dtype, ends[-1]), ends)

    @classmethod
    def with_lengths(cls, numbers: NDArray[Any], lengths: Indexes) -> ListColumn:
        """Return the column of lists that stand in ``numbers`` one after the other."""
        return cls(numbers, _ends_of(lengths))

    @property
    def lengths(self) -> Indexes:
        """The length of each list."""
        return np.diff(self.ends)

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, index: int) -> NDArray[Any]:
        """Return the list of a line."""
        return self.numbers[self.ends[index] : self.ends[index + 1]]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        ends: list[int] = self.ends.tolist()
        return (self.numbers[start:end] for start, end in pairwise(ends))

    def of_equal_length(self, most: int = _AT_ONCE) -> Iterator[Indexes]:
        """Yield the indexes of lines whose lists have the same length, at most ``most`` at once; no empty lists."""
        lengths = self.lengths
        # Lengths are small numbers, so counting them is faster than sorting them.
        for length in np.flatnonzero(np.bincount(lengths)[1:]) + 1:
            lines = np.flatnonzero(lengths == length)
            yield from (lines[first : first + most] for first in range(0, len(lines), most))

    def places(self, lines: Indexes) -> Indexes:
        """Return where the numbers of ``lines`` are: a row for each line. Their lists must have the same length."""
        return self.ends[lines][:, None] + np.arange(self.ends[lines[0] + 1] - self.ends[lines[0]])

    def matrix(self, lines: Indexes) -> NDArray[Any]:
        """Return the lists of ``lines``, which all have the same length, as the rows of a matrix."""
        return self.numbers[self.places(lines)]

    def take(self, indexes: NDArray[Any]) -> ListColumn:
        """Return the column of some lines; ``indexes`` are their indexes, or a mask."""
        return ListColumn(self.numbers[self.flat_places(indexes)], _ends_of(self.lengths[indexes]))

    def flat_places(self, indexes: NDArray[Any]) -> Indexes:
        """Return the places of the numbers of some lines, one list after the other."""
        lengths = self.lengths[indexes]
        ends = _ends_of(lengths)
        # The place of a number is the start of its list, plus its place in the list.
        places: Indexes = np.arange(ends[-1]) + np.repeat(self.ends[:-1][indexes] - ends[:-1], lengths)
        return places

    def joined(self, starts: Indexes) -> ListColumn:
        """Return one list for each group of neighbouring lines; ``starts`` are the first lines of the groups."""
        return ListColumn(self.numbers, np.append(self.ends[starts], self.ends[-1]))

    def without(self, lines: NDArray[np.bool_]) -> ListColumn:
        """Return the column with an empty list for each of ``lines``, a mask."""
        lengths = self.lengths
        kept = np.repeat(~lines, lengths)
        return ListColumn(self.numbers[kept], _ends_of(np.where(lines, 0, lengths)))

    def to_lists(self) -> list[list[Any]]:
        """Return the list of each line."""
        numbers, ends = self.numbers.tolist(), self.ends.tolist()
        return [numbers[start:end] for start, end in pairwise(ends)]


# No slots: the cells are computed once.
@dataclass(frozen=True, eq=False)
class SampleColumns:
    """The lines of samples as columns. A column has the name and the meaning of a field of ``Samples``."""

    case: ValueColumn[Case]  # the measured case
    arm: ValueColumn[str]  # the arm's name
    timing: ValueColumn[Timing]  # the way of measuring
    status: ValueColumn[Status]  # the result of the check
    rounds: ValueColumn[tuple[int, ...]]  # the number of each round
    arena: ValueColumn[Arena]  # the buffers
    per_iteration: ValueColumn[PerIteration]  # times of single operations
    gpus: ValueColumn[GpuState]  # the state of the GPUs
    reason: ValueColumn[str]  # how the arm declined
    registered: ValueColumn[BuffersRegistered]  # whether NCCL had the buffers registered
    arm_placement: ValueColumn[Placement]  # the placement of the arm's calls, if it is not that of the case
    cost: ValueColumn[CostSplit]  # the parts of a call
    kernels: ValueColumn[Kernels]  # the kernels that NCCL ran
    skew: ValueColumn[Skew]  # the times of the late rank
    parts: ValueColumn[PartTimes]  # the times of the parts of an overlap
    world_size: NDArray[np.int64]  # the number of ranks
    ops_per_batch: NDArray[np.int64]  # operations in one timed batch
    discarded: NDArray[np.int64]  # discarded batches
    launch: NDArray[np.int64]  # the launch, counted from 1
    wrong: NDArray[np.int64]  # wrong elements; -1 for None
    tolerance_ulp: NDArray[np.int64]  # allowed error; -1 for None
    late: NDArray[np.int64]  # elements that the arm wrote too late; -1 for None
    samples_us: ListColumn  # time per operation in each round, the maximum over ranks
    fastest_rank_us: ListColumn  # time per operation in each round, the minimum over ranks
    slowest_rank: ListColumn  # the rank with the maximum in each round
    arms_before: ListColumn  # how many arms were measured before this one in each round
    began_s: ListColumn  # the start of the timed part of each batch, seconds from the start of the run

    def __len__(self) -> int:
        return len(self.launch)

    def take(self, indexes: NDArray[Any]) -> SampleColumns:
        """Return some of the lines; ``indexes`` are their indexes, or a mask."""
        if indexes.dtype == np.bool_ and indexes.all():
            return self
        return take_lines(self, indexes)

    @cached_property
    def is_timed(self) -> NDArray[np.bool_]:
        """True for each line that has times."""
        return self.samples_us.lengths > 0

    @cached_property
    def kind(self) -> ValueColumn[Case]:
        """The case of each line without its size."""
        return self.case.changed(lambda case: case.kind)

    @cached_property
    def placement(self) -> ValueColumn[Placement]:
        """The placement of each line's calls."""
        placements = tuple(Placement)
        codes = np.array([placements.index(case.placement) for case in self.case.values], dtype=np.int32)
        own = self.arm_placement.map(lambda value: -1 if value is None else placements.index(value), np.int32)
        return ValueColumn(placements, np.where(own < 0, codes[self.case.codes], own))

    @cached_property
    def point(self) -> Indexes:
        """A number for each line: lines of the same case and timing have the same number."""
        return common_codes(self.case, self.timing)

    @cached_property
    def cell(self) -> Indexes:
        """A number for each line: lines of the same case, timing and arm have the same number."""
        return common_codes(self.case, self.timing, self.arm)

    def are_in(self, cells: Iterable[tuple[Case, Timing, str]]) -> NDArray[np.bool_]:
        """Return whether each line is about one of ``cells``, which are cases with a timing and an arm."""
        return np.isin(self.cell, self.numbers_of(cells))

    def numbers_of(self, cells: Iterable[tuple[Case, Timing, str]]) -> list[int]:
        """Return the number of each of ``cells``; -1 for a cell that no line can have."""
        cases, timings, arms = (
            {value: code for code, value in enumerate(column.values)} for column in (self.case, self.timing, self.arm)
        )
        # Most of `cells` have case objects of the column. Finding an object is faster than comparing its fields.
        by_identity = {id(case): code for case, code in cases.items()}
        numbers = []
        for case, timing, arm in cells:
            of_case, of_timing, of_arm = by_identity.get(id(case)), timings.get(timing, -1), arms.get(arm, -1)
            of_case = cases.get(case, -1) if of_case is None else of_case
            known = of_case >= 0 and of_timing >= 0 and of_arm >= 0
            numbers.append((of_case * len(timings) + of_timing) * len(arms) + of_arm if known else -1)
        return numbers

    def lines(self) -> list[Samples]:
        """Return each line as an object."""
        columns = [_plain(getattr(self, name), name) for name in COLUMNS]
        return [Samples(**dict(zip(COLUMNS, values, strict=True))) for values in zip(*columns, strict=True)]


def take_lines(columns: Columns, indexes: NDArray[Any]) -> Columns:
    """Return some lines of a dataclass whose fields are columns; ``indexes`` are their indexes, or a mask."""
    values = ((each.name, getattr(columns, each.name)) for each in fields(columns))
    return replace(
        columns,
        **{
            name: column[indexes] if isinstance(column, np.ndarray) else column.take(indexes) for name, column in values
        },
    )


def common_codes(*columns: ValueColumn[Any]) -> Indexes:
    """Return a number for each line. Lines with the same value in each of ``columns`` have the same number."""
    codes = np.zeros(len(columns[0].codes), dtype=np.intp)
    for column in columns:
        codes = codes * len(column.values) + column.codes
    return codes


COLUMNS = tuple(each.name for each in fields(SampleColumns))
VALUES = tuple(each.name for each in fields(SampleColumns) if str(each.type).startswith("ValueColumn"))
LISTS: Mapping[str, Any] = {
    "samples_us": np.float64,
    "fastest_rank_us": np.float64,
    "slowest_rank": np.int32,
    "arms_before": np.int32,
    "began_s": np.float64,
}
CAN_BE_ABSENT = ("wrong", "tolerance_ulp", "late")


def _plain(column: Any, name: str) -> list[Any]:
    """Return the value of each line in a column."""
    if isinstance(column, ListColumn):
        return list(map(tuple, column.to_lists()))
    if isinstance(column, ValueColumn):
        return column.to_list()
    numbers: list[Any] = column.tolist()
    return [None if number < 0 else number for number in numbers] if name in CAN_BE_ABSENT else numbers


class Codes(dict[Any, int]):
    """The code of each value of a column: 0 for the first value that comes, 1 for the next new one; -1 for ``None``.

    Another key, such as the JSON of a value, can have the same code as the value.
    """

    def __init__(self) -> None:
        super().__init__({None: -1})
        self.in_order: list[Any] = []  # the values

    def __missing__(self, value: Any) -> int:
        code = self[value] = len(self.in_order)
        self.in_order.append(value)
        return code


def _ends_of(lengths: Indexes) -> Indexes:
    """Return where each list ends in an array of all lists, and 0 before the first."""
    ends = np.zeros(len(lengths) + 1, dtype=np.intp)
    np.cumsum(lengths, out=ends[1:])
    return ends
